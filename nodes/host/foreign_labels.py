"""Class labels from nodes of other packs, as the conditioning that this pack reads.

DiTCondLabelSelect of ComfyUI-ExtraModels gives the class id itself in the place of a text's
embedding: an integer tensor (images, 1), and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .conditioning import CLASS_IDS


def with_class_ids(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """``values`` of a conditioning that the host has taken apart, with ids where it holds only
    integers; any other conditioning as it is."""
    ids = values.get("cross_attn")
    if not isinstance(ids, Tensor) or ids.dtype.is_floating_point or ids.dtype == torch.bool:
        return values
    others = {key: value for key, value in values.items() if key != "cross_attn"}
    return {**others, CLASS_IDS: ids.flatten().long()}
