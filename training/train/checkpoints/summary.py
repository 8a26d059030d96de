"""What a checkpoint says besides its tensors and their metadata: summary.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from comfyui_fitv2.untrusted_json import parse_json

from ..packing import Position

_RENAMED = {"labels": "class_map"}
"""Keys in files of earlier versions, and their present names."""


@dataclass(frozen=True, kw_only=True)
class CheckpointSummary:
    """Progress of a run at a checkpoint, and what must be the same to resume from it.

    The configuration of the model, its class names and its latent format are in the metadata of the
    weights files.
    """

    step: int
    """Optimizer steps, including skipped ones."""
    skipped: int
    """Skipped steps."""
    images: int
    """Images trained on, counted with repetition."""
    tokens: int
    """Tokens trained on."""
    epoch: int
    """Complete passes over the latent set."""
    loss: float | None
    """The mean loss of recent steps; see ``TrainingState.loss``."""
    ema_updates: int
    """Updates of the moving averages: steps that were taken."""
    position: Position
    """Place in the data: the pack that comes next."""
    class_map: tuple[int, ...]
    """The model's class id for each class of the latent set."""
    packs_per_step: int
    """Packs of one optimizer step, of all processes."""
    data: dict[str, int]
    """``resume.data_digest`` of the latent set."""
    config: dict[str, Any]
    """``TrainingConfig.to_dict`` of the run."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> CheckpointSummary:
        """The reverse of ``to_json``; reads what earlier versions wrote, too.

        Raises ``ValueError`` on any other text.
        """
        try:
            content: Mapping[str, Any] = parse_json(text)
            values = {_RENAMED.get(key, key): value for key, value in content.items()}
            known = {f.name: values[f.name] for f in fields(cls)}
            known["position"] = Position(**known["position"])
            known["class_map"] = tuple(known["class_map"])
            return cls(**known)
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(f"no summary of a checkpoint: {error!r}") from None
