"""Latent sets: the images of a training set as a VAE encoded them, one example per image."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add, index
from typing import Any

import numpy as np
from torch import Tensor

from comfyui_fitv2.metadata import LatentFormat
from comfyui_fitv2.untrusted_json import is_finite_number, is_text

INFO_FILE = "latent_set.json"
"""What a set written by ``prepare`` says of itself; the last file that is written."""


VAE_NAME, VAE_FINGERPRINT = "vae", "vae_fingerprint"
"""Keys in the ``training`` part of a checkpoint's metadata."""
_CHUNK = 1 << 20


class LatentSetError(ValueError):
    """A place that is not a usable latent set; the message says which, why, and what to do."""

    def __init__(self, place: object, reason: str) -> None:
        """``place`` is a path or a ``Remote``."""
        super().__init__(f"{place}: {reason}")


@dataclass(frozen=True, slots=True)
class LatentSetInfo:
    """What holds for every example of a latent set."""

    class_names: tuple[str, ...]
    """One name per class; a class id is an index into them."""
    channels: int
    """Latent channels."""
    image_size: int
    """S in pixels: a resized image has at most S² pixels, a cropped one is S × S."""
    latent_format: LatentFormat
    """Scale of the latents, and the colours of their previews."""
    vae: str
    """The VAE as it was named to ``prepare``, for people to read."""
    flips: bool = True
    """Whether the mirrored images were encoded too."""
    posterior: bool = False
    """Whether standard deviations are stored; a VAE without a posterior has none."""
    fingerprint: tuple[float, ...] = ()
    """What ``vae.fingerprint`` gave for the VAE; empty in older sets."""

    def __post_init__(self) -> None:
        """Raises ``ValueError`` for values of other types, as a damaged file may hold them."""
        checks = {
            "class_names": all(map(is_text, self.class_names)),
            "channels": type(self.channels) is int and 1 <= self.channels <= 1024,
            "image_size": type(self.image_size) is int and 1 <= self.image_size <= 1 << 20,
            "vae": is_text(self.vae),
            "flips": isinstance(self.flips, bool),
            "posterior": isinstance(self.posterior, bool),
            "fingerprint": all(map(is_finite_number, self.fingerprint)),
        }
        if wrong := [name for name, is_right in checks.items() if not is_right]:
            raise ValueError(f"{wrong[0]} is {getattr(self, wrong[0])!r:.100}")

    def to_dict(self) -> dict[str, Any]:
        """The content of ``latent_set.json`` that describes the examples."""
        return {
            "class_names": list(self.class_names),
            "channels": self.channels,
            "resolution": self.image_size,
            "latent_format": self.latent_format.to_dict(),
            "vae": self.vae,
            "flips": self.flips,
            "posterior": self.posterior,
            **({"fingerprint": list(self.fingerprint)} if self.fingerprint else {}),
        }

    @property
    def vae_of_checkpoint(self) -> dict[str, Any]:
        """What checkpoints store of the VAE, so that another one is noticed."""
        fingerprint = {VAE_FINGERPRINT: list(self.fingerprint)} if self.fingerprint else {}
        return {VAE_NAME: self.vae, **fingerprint}

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> LatentSetInfo:
        """The reverse of ``to_dict``. Raises ``KeyError`` or ``TypeError`` for other content."""
        values = dict(content)
        latent_format = LatentFormat.from_dict(values.pop("latent_format"), values["channels"])
        return cls(
            class_names=tuple(values.pop("class_names")),
            image_size=values.pop("resolution"),
            latent_format=latent_format,
            fingerprint=tuple(values.pop("fingerprint", ())),
            **values,
        )


@dataclass(frozen=True, slots=True)
class SetChange:
    """How ``prepare`` once changed a complete set."""

    before: dict[str, int]
    """The set's identity before, as ``data_digest`` gives it."""
    added: int
    """Number of images, as for the next three."""
    removed: int
    replaced: int
    """Images whose file has another content."""
    relabelled: int
    """Images that are in another class."""
    new_classes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> SetChange:
        """The reverse of ``to_dict``. Raises ``KeyError`` or ``TypeError`` for other content."""
        for name in ("added", "removed", "replaced", "relabelled"):
            index(content[name])
        return cls(**{**content, "new_classes": tuple(content["new_classes"])})

    def __add__(self, later: SetChange) -> SetChange:
        """Both changes, one after the other."""
        counts = ("added", "removed", "replaced", "relabelled")
        return SetChange(
            self.before,
            **{name: getattr(self, name) + getattr(later, name) for name in counts},
            new_classes=self.new_classes + later.new_classes,
        )

    def __str__(self) -> str:
        """Such as "120 images added, 3 removed, 1 class new (fox)"."""
        counts = {
            "added": self.added,
            "removed": self.removed,
            "replaced": self.replaced,
            "in another class": self.relabelled,
        }
        said = [f"{count:,} {what}" for what, count in counts.items() if count]
        if said:
            number, _, what = said[0].partition(" ")
            said[0] = f"{number} {'image' if number == '1' else 'images'} {what}"
        if self.new_classes:
            count, names = len(self.new_classes), ", ".join(self.new_classes[:3])
            more = ", …" if count > 3 else ""
            said.append(f"{count} {'class' if count == 1 else 'classes'} new ({names}{more})")
        return ", ".join(said) or "nothing"


class LatentSet(ABC):
    """Examples by index, as the moments of their latents.

    Copies for other processes are cheap: they hold file names, not latents.
    """

    info: LatentSetInfo
    class_ids: np.ndarray
    """(n,) integers."""
    grids: np.ndarray
    """(n, 2, 2) integers: tokens as (rows, columns) of the resized and of the cropped version. They
    are the same for an example without a crop."""
    history: tuple[SetChange, ...] = ()
    """How the set has changed since it was first complete, the oldest change first."""

    note: str = ""
    """What is worth knowing before many examples are read; "" where nothing is."""

    def __len__(self) -> int:
        return len(self.class_ids)

    def changes_since(self, identity: Mapping[str, int]) -> SetChange | None:
        """All changes since the set had this ``data_digest``; None where it never had it."""
        for i, change in enumerate(self.history):
            if change.before == identity:
                return reduce(add, self.history[i:])
        return None

    @property
    def lengths(self) -> np.ndarray:
        """(n, 2) integers: tokens of the resized and of the cropped version."""
        return self.grids.prod(axis=-1)

    @abstractmethod
    def names(self) -> list[str]:
        """The name of each example's image, which stays the same when the set changes."""

    def fetch(self, indices: Iterable[int]) -> None:  # noqa: B027 - most have nothing to do
        """Bring what these examples need onto this machine, where it is not."""

    @abstractmethod
    def moments(self, index: int, cropped: bool, flipped: bool) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation in the model's scale, each fp32 (channels, height, width).

        An example without a crop gives the resized version for ``cropped``, and a set without flips
        the plain one for ``flipped``. The standard deviation is 0 where the VAE has no posterior.
        """


def data_digest(latents: LatentSet) -> dict[str, int]:
    """What identifies a latent set: its number of images, a checksum of classes and sizes, and how
    often it has changed, where it has."""
    checksum = 0
    for values in (latents.class_ids, latents.grids):
        for start in range(0, len(values), _CHUNK):  # millions are not copied as a whole
            part = values[start : start + _CHUNK].astype(np.int64)
            checksum = zlib.crc32(part.tobytes(), checksum)
    changes = {"changes": len(latents.history)} if latents.history else {}
    return {"images": len(latents), "checksum": checksum, **changes}
