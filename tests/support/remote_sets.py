"""Latent sets at addresses, and whether two sets are the same."""

from __future__ import annotations

from pathlib import Path

import torch

from training.data.latent_set import LatentSet, data_digest
from training.data.remote import Remote


def sent(folder: Path, address: str) -> str:
    """Send every file of a set; gives the address."""
    remote = Remote(address)
    for path in folder.iterdir():
        remote.upload(path, path.name)
    return address


def all_moments(latents: LatentSet) -> list[torch.Tensor]:
    return [
        part
        for index in range(len(latents))
        for cropped in (False, True)
        for part in latents.moments(index, cropped, flipped=index % 2 == 1)
    ]


def assert_same(found: LatentSet, expected: LatentSet) -> None:
    assert data_digest(found) == data_digest(expected)
    assert found.info == expected.info
    assert found.names() == expected.names()
    pairs = zip(all_moments(found), all_moments(expected), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
