"""Class labels as the host's CONDITIONING, and back to one label per image of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...comfyui_fitv2.config import FiTConfig
from ...comfyui_fitv2.labels import Blend, Label, class_weights

Conditioning = list[list[Any]]
"""The host's CONDITIONING: pairs of a tensor and a dict of what else is known."""

CLASS_IDS = "class_labels"
"""Key of a conditioning: class ids, an integer tensor with one entry per image of the batch."""
CLASS_WEIGHTS = "fitv2_class_weights"
"""Key of what the network gets in place of ids where classes are blended: see ``for_network``."""
NUM_CLASSES = "fitv2_num_classes"
"""Key of a conditioning: the number of classes of the model that the ids were made for."""
POOLED = "pooled_output"
"""The host's key for a text's embedding, which nodes such as ConditioningAverage blend. Here it
holds the weights of all classes for each image, (images, classes + 1); the null class is last."""

_WEIGHT_UNIT = 2.0**-24
_NEGLIGIBLE = 1e-6  # what is left of a weight by rounding


def conditioning(labels: Sequence[Label | Blend | int], num_classes: int) -> Conditioning:
    """The conditioning for these labels or class ids, one per image, of a model of ``num_classes``.

    The ids stay integers: a float cast to bf16 turns 999 into 1000. For a blend the id is that of
    its first class with the highest weight, and the weights tell the rest.
    """
    named = [Label(label, None) if isinstance(label, int) else label for label in labels]
    # The tensor only tells what other nodes did to the conditioning: see ``labels_of``.
    marker = torch.ones(1, 1, 1)
    weights = class_weights(named, num_classes)
    ids = weights.argmax(dim=1)
    return [[marker, {CLASS_IDS: ids, NUM_CLASSES: num_classes, POOLED: weights}]]


def labels_of(values: Mapping[str, Any], config: FiTConfig, images: int) -> Tensor:
    """The labels in a conditioning that the host has taken apart, for at most ``images`` images.

    They are class ids (n,), integers, or, where another node blended classes, weights of all
    classes (n, classes + 1). What weights lack to a sum of 1 is the null class's, so that half a
    label is half-way to no label.

    ``values`` are the conditioning's dict, and its tensor as ``cross_attn``. Raises ``ValueError``
    where it holds text or joined labels, was made for another number of classes, has an id below 0,
    or has more labels than there are images.
    """
    marker = values.get("cross_attn")
    if marker is not None and not marker.any():  # ConditioningZeroOut
        return torch.tensor([config.null_class])
    labels = values.get(CLASS_IDS)
    if labels is None:
        raise ValueError(
            "FiT generates from class labels, but this conditioning holds text. "
            "Connect the outputs of FiT Class Label, not CLIP's."
        )
    if marker is not None and marker.shape[-1] != 1:
        raise ValueError(
            "This conditioning mixes class labels with text, which FiT does not read. Connect the "
            "outputs of FiT Class Label alone."
        )
    if marker is not None and marker.shape[1] != 1:
        raise ValueError(
            f"This conditioning has {marker.shape[1]} tokens, as nodes for texts make them: "
            "ConditioningConcat joins texts, and others fill them up. A class label is one token. "
            "To blend two classes, use ConditioningAverage; for one image of each, separate their "
            "names with a semicolon in FiT Class Label."
        )
    # Nodes of other packs may leave the number out; it is at least what the largest id needs.
    num_classes = values.get(NUM_CLASSES, max(int(labels.max()), config.num_classes))
    if num_classes != config.num_classes:
        raise ValueError(
            f"These labels were made for a model of {num_classes} classes, and this one has "
            f"{config.num_classes}. Connect the same MODEL to FiT Class Label and to the sampler."
        )
    if int(labels.min()) < 0:
        raise ValueError(
            f"These labels have the class id {int(labels.min())}, and ids start at 0. Choose a "
            "class in the node that makes them, or use FiT Class Label."
        )
    weights = values.get(POOLED)
    if weights is not None and weights.shape[-1] == num_classes + 1:
        labels = _ids_or_weights(weights)
    if len(labels) > images:
        raise ValueError(
            f"{len(labels)} class labels for {images} image(s): set the batch size to "
            f"{len(labels)}, or connect FiT Class Label's count to it."
        )
    return labels


def _ids_or_weights(weights: Tensor) -> Tensor:
    """Class ids (n,) of weights (n, classes + 1) where each row is one class; else the weights."""
    weights = weights.double()
    weights = torch.where(weights.abs() < _NEGLIGIBLE, 0.0, weights)
    weights[:, -1] += 1 - weights.sum(dim=1)
    highest, ids = weights.max(dim=1)
    pure = (weights.abs() > _NEGLIGIBLE).sum(dim=1) == 1
    if pure.all() and ((highest - 1).abs() < _NEGLIGIBLE).all():
        return ids
    return weights.float()


def for_network(labels: Tensor) -> tuple[str, Tensor]:
    """The key and the tensor by which labels travel to the network: always integers.

    Weights become multiples of 2**-24, because the host casts floats to the model's dtype.
    """
    if labels.is_floating_point():
        return CLASS_WEIGHTS, (labels.double() / _WEIGHT_UNIT).round().long()
    return CLASS_IDS, labels


def from_host(conds: Mapping[str, Any]) -> Tensor:
    """The labels that ``for_network`` sent, for ``FiT.transform``."""
    weights = conds.get(CLASS_WEIGHTS)
    return conds[CLASS_IDS] if weights is None else weights * _WEIGHT_UNIT
