"""The latent set of ``tests/golden/91ff81d``, as a copy that ``prepare`` can resume."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from training.data.vae import vae_digest
from training.prepare import PrepareOptions, prepare
from training.prepare.plan import PLAN_FILE

OLD = Path(__file__).parents[1] / "golden" / "91ff81d"


class OldSet:
    """A copy of the set in ``folder``."""

    moments = OLD / "latents.safetensors"
    """What the older version read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(shutil.copytree(OLD / "latents", folder))
        plan = json.loads((folder / PLAN_FILE).read_text(encoding="utf-8"))
        plan["settings"]["vae"] = vae_digest("tiny")  # it may have been trained again since
        (folder / PLAN_FILE).write_text(json.dumps(plan), encoding="utf-8")

    def resume(self, *missing: str, images: Path = OLD / "images") -> Path:
        """Remove these files and prepare the set again."""
        for name in missing:
            (self.folder / name).unlink()
        options = PrepareOptions(
            images=images,
            output=self.folder,
            image_size=32,
            shard_size=3,
            batch_size=2,
            workers=0,
            device="cpu",
        )
        prepare(options)
        return self.folder
