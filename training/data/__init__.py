"""Images and latents on disk, in the order an image goes: decode, sources, vae, latent sets."""
