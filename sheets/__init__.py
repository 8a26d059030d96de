"""Sheets of images, for the nodes and the trainer: the one shared package that needs Pillow."""
