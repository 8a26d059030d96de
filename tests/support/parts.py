"""Checkpoints in parts, as processes with sharded weights save them, without any processes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from training.train.checkpoints.run_folder import SUFFIX, parts_folder

PARTS = 3


def write_parts(folder: Path, state: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Cut every tensor along its first dimension into three parts, of which some are empty.

    Numbers, which have no dimensions, are in the first part.
    """
    folder.mkdir(parents=True)
    for number in range(PARTS):
        part, offsets = {}, {}
        for name, value in state.items():
            if not value.ndim:
                slices = [value] if number == 0 else []
            else:
                rows = -(-len(value) // PARTS)  # as PyTorch shards: the last ones get less
                slices = [value[number * rows : (number + 1) * rows]]
                offsets[name] = {"saved_offsets": [number * rows, *[0] * (value.ndim - 1)]}
            for each in slices:
                if each.numel():
                    part[name] = each.contiguous()
                    offsets.setdefault(name, {"saved_offsets": []})
        written = {name: offsets[name] for name in part}
        save_file(
            part,
            folder / f"part-{number + 1:05d}-of-{PARTS:05d}{SUFFIX}",
            {**metadata, "DCP_SHARDING_INFO": json.dumps(written)},
        )


def cut_into_parts(checkpoint: Path) -> None:
    """Replace the files of a run's checkpoint by folders with their parts."""
    for file in checkpoint.glob(f"*{SUFFIX}"):
        with safe_open(file, "pt") as opened:
            state = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
            metadata = opened.metadata()
        write_parts(checkpoint / parts_folder(file.name), state, metadata)
        file.unlink()
