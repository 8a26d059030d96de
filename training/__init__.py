"""The trainer: from a folder of images to a checkpoint, one command per package.

``python -m training.<name>``; see README.md.
"""
