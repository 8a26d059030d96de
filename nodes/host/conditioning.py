"""Class ids as the host's CONDITIONING, and back to one class id per image of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...comfyui_fitv2.config import FiTConfig

Conditioning = list[list[Any]]
"""The host's CONDITIONING: pairs of a tensor and a dict of what else is known."""

CLASS_IDS = "class_labels"
"""Key of a conditioning: class ids, an integer tensor with one entry per image of the batch."""
NUM_CLASSES = "fitv2_num_classes"
"""Key of a conditioning: the number of classes of the model that the ids were made for."""


def conditioning(class_ids: Sequence[int], num_classes: int) -> Conditioning:
    """The conditioning for these class ids, one per image, of a model of ``num_classes``.

    The ids stay integers: a float cast to bf16 turns 999 into 1000.
    """
    # The tensor only tells that nobody zeroed the conditioning out: see ``class_ids_of``.
    marker = torch.ones(1, 1, 1)
    return [[marker, {CLASS_IDS: torch.tensor(class_ids), NUM_CLASSES: num_classes}]]


def class_ids_of(values: Mapping[str, Any], config: FiTConfig, images: int) -> Tensor:
    """The class ids (at most ``images``,) in a conditioning that the host has taken apart.

    ``values`` are its dict's, and its tensor as ``cross_attn``. Raises ``ValueError`` where it
    holds text, was made for another number of classes, or has more class ids than there are images.
    """
    marker = values.get("cross_attn")
    if marker is not None and not marker.any():  # ConditioningZeroOut
        return torch.tensor([config.null_class])
    class_ids = values.get(CLASS_IDS)
    if class_ids is None:
        raise ValueError(
            "FiT generates from class labels, but this conditioning holds text. "
            "Connect the outputs of FiT Class Label, not CLIP's."
        )
    # Nodes of other packs may leave the number out; it is at least what the largest id needs.
    num_classes = values.get(NUM_CLASSES, max(int(class_ids.max()), config.num_classes))
    if num_classes != config.num_classes:
        raise ValueError(
            f"These labels were made for a model of {num_classes} classes, and this one has "
            f"{config.num_classes}. Connect the same MODEL to FiT Class Label and to the sampler."
        )
    if len(class_ids) > images:
        raise ValueError(
            f"{len(class_ids)} class labels for {images} image(s): set the batch size to "
            f"{len(class_ids)}, or connect FiT Class Label's count to it."
        )
    return class_ids
