"""FiT Training Run: the newest average of a run that is still training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from comfy_api.latest import io
from PIL import Image, ImageDraw
from torch import Tensor

from ..comfyui_fitv2.pixels import from_bytes
from ..sheets.contact_sheet import INK, PAPER
from ..sheets.text import Type
from . import host
from .loader import AUTO
from .run_folder import (
    RAW,
    RUNS,
    RunCheckpoint,
    RunError,
    find_run,
    newest,
    sample_sheet,
    state_of,
)

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the pack: where the trainer's commands are run, and relative paths start."""
ATTEMPTS = 3


class FiTTrainingRun(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTTrainingRun",
            display_name="FiT Training Run",
            category="FiT",
            description="Loads the newest average of a training run, while it trains. Queue again "
            "after the next checkpoint, and the newer one is loaded.",
            search_aliases=[
                "fitv2",
                "training",
                "train",
                "run",
                "loader",
                "training progress",
                "watch training",
                "latest checkpoint",
                "ema",
                "load run",
                "trainer",
                "fine-tuning",
            ],
            inputs=[
                io.String.Input(
                    "run",
                    default="",
                    tooltip="The trainer's --output, such as runs/mine; a relative path starts at "
                    f"the pack's folder. Empty: the run in the pack's {RUNS} that saved last.",
                ),
                io.String.Input(
                    "average",
                    default="",
                    tooltip="Decay of the moving average, such as 0.999. Empty: the slowest "
                    f"average, which export takes too. {RAW}: the weights themselves.",
                ),
                io.Combo.Input(
                    "weight_dtype",
                    options=list(host.WEIGHT_DTYPES),
                    default=AUTO,
                    tooltip="Precision of the weights. auto: what suits the device.",
                ),
            ],
            outputs=[
                io.Model.Output(tooltip="The FiT, for FiT nodes and any stock node."),
                io.Int.Output("step", tooltip="The step at which the checkpoint was saved."),
                io.String.Output(
                    "info", tooltip="Run, step, epoch, images, loss, and which weights these are."
                ),
                io.Image.Output(
                    "samples", tooltip="The run's newest sample sheet; a blank one before that."
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, run: str, **_: str) -> str | float:
        try:
            return state_of(find_run(run, ROOT))
        except (RunError, OSError, AttributeError):  # a connected input is not known yet
            return float("nan")  # never equal: run again

    @classmethod
    def execute(cls, run: str, average: str, weight_dtype: str) -> io.NodeOutput:
        folder = find_run(run, ROOT)
        checkpoint, weights, model = _load_newest(folder, average, weight_dtype)
        sheet = _image(sample_sheet(folder))
        return io.NodeOutput(model, checkpoint.step, checkpoint.describe(weights), sheet)


def _load_newest(
    run: Path, average: str, weight_dtype: str
) -> tuple[RunCheckpoint, Path, host.ModelPatcher]:
    """The newest checkpoint, the file of its weights, and its MODEL.

    The trainer may remove a checkpoint while it is read: then there is a newer one.
    """
    for attempt in range(1, ATTEMPTS + 1):
        checkpoint = newest(run)
        try:
            weights = checkpoint.weights_file(average)
            return checkpoint, weights, host.load_copy(str(weights), weight_dtype)
        except (OSError, ValueError):
            if attempt == ATTEMPTS or newest(run) == checkpoint:
                raise
    raise AssertionError


def _image(path: Path | None) -> Tensor:
    """A sample sheet (1, H, W, 3) in 0..1, or a blank one that says why."""
    image = None
    if path is not None:
        try:
            image = Image.open(path).convert("RGB")
        except (OSError, Image.DecompressionBombError):
            image = None
    if image is None:
        image = Image.new("RGB", (320, 64), PAPER)
        text = "The run has no sample sheet yet."
        Type(15).write(ImageDraw.Draw(image), (160, 22), text, INK, "m")
    return from_bytes(np.asarray(image)).movedim(-3, -1)[None]
