"""A class of a model, a blend of several, and an entry of a list of them that somebody types."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

NEGLIGIBLE = 1e-6
"""A class with less than this share of a blend has no part in it."""


@dataclass(frozen=True, slots=True)
class Label:
    """A class of a model; the name is None where its checkpoint has no names."""

    id: int
    name: str | None

    def __str__(self) -> str:
        return str(self.id) if self.name is None else f"{self.id} · {self.name}"


class LabelError(ValueError):
    """A label that no class has, or that several classes share."""

    def __init__(self, message: str, nearest: Sequence[Label] = ()) -> None:
        super().__init__(message)
        self.nearest = tuple(nearest)
        """The classes that may be meant, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Blend:
    """Several classes at once, mixed by their embeddings. ``of`` makes one."""

    parts: tuple[tuple[Label, float], ...]
    """Two or more different classes, each with its weight above 0. The weights add up to 1."""

    @classmethod
    def of(cls, parts: Iterable[tuple[Label, float]]) -> Label | Blend:
        """The blend of classes with weights of any sum; a label where one class is all of it.

        A class that comes twice has the sum of its weights. Raises ``LabelError`` for a weight
        below 0, and for weights whose sum is 0 or infinite.
        """
        weights: dict[Label, float] = {}
        for label, weight in parts:
            if not weight >= 0:
                raise LabelError(
                    f'"{label}" has the weight {weight:g}. A weight must be 0 or more: write a '
                    'blend as "0.7*France + 0.3*Italy".'
                )
            weights[label] = weights.get(label, 0.0) + weight
        total = sum(weights.values())
        if not 0 < total < float("inf"):
            raise LabelError(
                f"The weights of {listed(list(weights), 'and')} add up to {total:g}. At least "
                'one must be above 0: write a blend as "0.7*France + 0.3*Italy".'
            )
        shares = {k: w / total for k, w in weights.items() if w / total >= NEGLIGIBLE}
        if len(shares) == 1:
            return next(iter(shares))
        return cls(tuple(shares.items()))

    def __str__(self) -> str:
        """Text that can be typed again: "0.7*76 · France + 0.3*110 · Italy", or without weights."""
        if len({round(weight, 6) for _, weight in self.parts}) == 1:
            return " + ".join(str(label) for label, _ in self.parts)
        return " + ".join(f"{_decimal(weight)}*{label}" for label, weight in self.parts)


@dataclass(frozen=True, slots=True)
class Entry:
    """An entry of a list of classes, where it stands in the text, and what it is understood as."""

    text: str
    """As it was typed, without outer spaces."""
    start: int
    end: int
    """The text is ``typed[start:end]``."""
    label: Label | Blend | None = None
    """What it is; None where there is an ``error``."""
    error: str | None = None
    """Why it is no class, and what to do; None where there is a ``label``."""
    nearest: tuple[Label, ...] = ()
    """With an error, the classes that may be meant, the likeliest first."""

    @property
    def class_ids(self) -> list[int]:
        """The ids of its classes: one, those of a blend, or none."""
        return [label.id for label, _ in parts_of(self.label)] if self.label else []


def parts_of(label: Label | Blend) -> tuple[tuple[Label, float], ...]:
    """The classes of a label with their weights; a single class has the weight 1."""
    return label.parts if isinstance(label, Blend) else ((label, 1.0),)


def class_tensor(labels: Sequence[Label | Blend], num_classes: int) -> Tensor:
    """What ``FiT.forward`` takes as y for these labels, one per image, on the CPU.

    Class ids (images,), int64; or, with a blend among them, weights (images, classes + 1), fp32,
    the null class last.
    """
    if not any(isinstance(label, Blend) for label in labels):
        ids = [label.id for label in labels if isinstance(label, Label)]
        return torch.tensor(ids, dtype=torch.int64)
    return class_weights(labels, num_classes)


def class_weights(labels: Sequence[Label | Blend], num_classes: int) -> Tensor:
    """The weight of each class in each label, (images, classes + 1), fp32, the null class last."""
    weights = torch.zeros(len(labels), num_classes + 1)
    for row, label in enumerate(labels):
        for part, weight in parts_of(label):
            weights[row, part.id] = weight
    return weights


def listed(labels: Sequence[Label | Blend], conjunction: str) -> str:
    """Labels in quotation marks, as a sentence holds them."""
    quoted = [f'"{label}"' for label in labels]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} {conjunction} {quoted[-1]}"


def _decimal(weight: float) -> str:
    return f"{weight:.6f}".rstrip("0")
