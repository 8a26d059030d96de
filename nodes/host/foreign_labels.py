"""Conditioning from nodes of other packs: what is read of it, and what is refused.

DiTCondLabelSelect of ComfyUI-ExtraModels gives the class id itself in the place of a text's
embedding: an integer tensor (images, 1), and nothing else.

ClownRegionalConditioning of RES4LYF joins the texts of regions behind masks of the attention
between text and image, which FiT does not have. Before its sampler has done so, the conditioning is
zero, which would mean the null class.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .conditioning import CLASS_IDS

_REGIONS = ("callback_regional", "AttnMask", "RegContext")
"""Keys of a conditioning of RES4LYF's regions."""


def refuse_regions(values: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` for RES4LYF's regions in a conditioning that the host has taken
    apart."""
    if any(key in values for key in _REGIONS):
        raise ValueError(
            "ClownRegionalConditioning of RES4LYF joins texts by attention masks, and FiT reads "
            "class labels, not texts. Use ConditioningSetMask on each FiT Class Label, and "
            "ConditioningCombine."
        )


def with_class_ids(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` of a conditioning that the host has taken apart, with ids where it holds only
    integers; any other conditioning as it is."""
    ids = values.get("cross_attn")
    if not isinstance(ids, Tensor) or ids.dtype.is_floating_point or ids.dtype == torch.bool:
        return values
    others = {key: value for key, value in values.items() if key != "cross_attn"}
    return {**others, CLASS_IDS: ids.flatten().long()}
