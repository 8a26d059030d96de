"""Sheets of images: the one shared package that needs Pillow. The nodes and the trainer both use it."""
