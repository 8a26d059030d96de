"""The ComfyUI of the host tests."""

from host.conftest import client, server

__all__ = ["client", "server"]
