"""How the bundled checkpoint and its VAE were made: 256 public-domain flags, from the package registry to a file that FiT Loader lists."""
