"""Set-up, server and client for development. Standard library only, except for thumbnails."""
