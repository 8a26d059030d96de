"""Images and latents on disk, in the order an image goes: decode, sources, vae, latent sets."""

from __future__ import annotations

import os

from .arrow_set import ArrowLatentSet
from .latent_set import LatentSet
from .node_cache import NodeCache
from .official_set import OfficialLatentSet, official_tokens
from .remote import Remote, address_of, local_path
from .set_files import SetFiles


def open_latent_set(place: str | os.PathLike[str], cache: NodeCache | None = None) -> LatentSet:
    """Open a complete set that ``prepare`` wrote, or one in the layout of the official releases.

    ``place`` is a folder, or an address such as s3://bucket/latents, which ``cache`` holds parts
    of. Raises ``LatentSetError`` for any other folder, and for damaged or incomplete sets, and
    ``RemoteError`` for an address that cannot be used.
    """
    if address := address_of(place):
        return ArrowLatentSet(SetFiles(Remote(address), cache))
    path = local_path(place)
    tokens = official_tokens(path)
    return ArrowLatentSet(SetFiles(path)) if tokens is None else OfficialLatentSet(path, tokens)
