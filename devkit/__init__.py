"""Set-up, server and client for development.

Standard library only, except for what makes pictures: thumbnails, animations, flags.
"""
