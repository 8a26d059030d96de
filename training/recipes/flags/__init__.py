"""How the bundled checkpoint and its VAE were made, from 256 public-domain flags to the files."""
