"""Draws the flags of a checkpoint in different ways, and scores each way."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro
from PIL import Image

from comfyui_fitv2.config import PRECISIONS
from comfyui_fitv2.extrapolation import AUTO, Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Label, parts_of
from comfyui_fitv2.resolution import Resolution, for_ratio, snap

from ...data.bundled import BUNDLED_CHECKPOINT, TINY_FILE
from ...data.sources import evenly
from ...sample.generate import Request, SamplingSettings, batches
from ...sample.sampler import Sampler
from .flags import NATIVE, Flag, fetch, read_flags
from .judging import Judge, Raggedness

SOLVER, EVALUATIONS = "ab2", 10
"""ab2 evaluates the model once per step. Twice as many change a figure of the report by 1 %."""
_BATCH_TOKENS = 4096


@dataclass(frozen=True, slots=True)
class Cell:
    """One way of generating, a line of the table."""

    shape: str
    """A ratio, or "native"."""
    scale: float = 1.0
    """Side as a multiple of that at the trained size."""
    method: str = AUTO
    """Extrapolation, as ``Extrapolation.parse`` reads it."""
    evaluations: int = EVALUATIONS

    @property
    def folder(self) -> str:
        """Name of the folder of its images."""
        shape, method = self.shape.replace(":", "-"), self.method.replace(" ", "")
        return f"{shape}_{self.scale:g}x_{method}_{self.evaluations}"

    def size(self, flag: Flag, tokens: int) -> Resolution:
        """The size of an image, for a model that was trained on ``tokens``."""
        size = flag.native(tokens) if self.shape == NATIVE else for_ratio(self.shape, tokens)
        if self.scale == 1:
            return size
        return snap(round(size.width * self.scale), round(size.height * self.scale))


@dataclass(frozen=True, slots=True)
class Score:
    """The result of a cell."""

    cell: Cell
    flags: int
    top_1: float
    """Fraction of the flags whose nearest is their own."""
    distance: float
    """Mean RMS of RGB in 0..1 to the own flag, both at a height of 48 pixels."""
    raggedness: float
    """Mean absolute error of RGB in 0..1 to the nearest flag, after encode and decode."""
    psnr: float
    """Mean PSNR in dB to the same."""
    wrong: dict[str, str]
    """The nearest flag of each flag that is not right."""


@dataclass(frozen=True, slots=True)
class Generated:
    """An image that was generated, and how."""

    cell: Cell
    request: Request
    file: Path

    @property
    def name(self) -> str:
        """Name of the flag."""
        [(label, _)] = parts_of(self.request.label)
        return label.name or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchOptions:
    """What draws the flags, and where the images are kept."""

    output: Path = Path("runs/flags/report")
    """Folder for images and results. The same command resumes where it stopped."""
    checkpoint: Path = BUNDLED_CHECKPOINT
    """A checkpoint of flags; by default the bundled one."""
    vae: Path = TINY_FILE
    """The VAE of its latents; by default the bundled one."""
    flags: Path | None = None
    """The unpacked package of flags; by default it is fetched into the output folder."""
    guidance_scale: Annotated[float, tyro.conf.arg(aliases=("--guidance",))] = Guidance().scale
    """Scale of classifier-free guidance; 1 is none. By default that of the nodes."""
    seed: int = 0
    """Seed of the noise."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """Precision of the model."""

    @property
    def dtype(self) -> str:
        """The name of the precision in tables and folders, such as bfloat16."""
        return str(PRECISIONS[self.precision]).removeprefix("torch.")

    @property
    def made_with(self) -> list[str]:
        """Lines that say what the images were made with, and at which commit."""
        commit = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
        ).stdout.strip()
        at_commit = f", commit {commit}" if commit else ""
        return [
            f"`{self.checkpoint.name}` in {self.dtype}, `{self.vae.name}`,",
            f"{SOLVER}, guidance {self.guidance_scale:g}, seed {self.seed}{at_commit}.",
        ]


class Bench:
    """A checkpoint of flags, opened once, with what draws and scores its images.

    Raises ``ValueError`` or ``OSError`` on files that cannot be used.
    """

    def __init__(self, options: BenchOptions) -> None:
        folder = options.flags or options.output / "package"
        fetch(folder)
        self.flags: list[Flag] = read_flags(folder)
        self.sampler = Sampler.open(
            options.checkpoint,
            str(options.vae),
            precision=options.precision,
            device=torch.device("cpu"),
        )
        class_names = self.sampler.loaded.class_names or ()
        self._by_name = {flag.name: flag for flag in self.flags}
        if not class_names or not self._by_name.keys() >= set(class_names):
            names = ", ".join((*class_names, "none")[:3])
            raise ValueError(
                f"{options.checkpoint} has other classes than these flags: {names}, …."
            )
        self._labels = [Label(i, name) for i, name in enumerate(class_names)]
        self._guidance, self._seed = Guidance(options.guidance_scale), options.seed
        settings = (f"{options.guidance_scale:g}", str(options.seed), options.dtype)
        made_by = (self.sampler.checkpoint_digest, self.sampler.vae_digest, *settings)
        self._images = options.output / "-".join(("pictures", *made_by))  # as in earlier versions
        self._judge = Judge(self.flags)
        references = options.output / f"reconstructed-{self.sampler.vae_digest}"
        self.raggedness = Raggedness(self.flags, self.sampler.vae, references)

    def images(self, cell: Cell, count: int) -> list[Generated]:
        """Those of ``count`` flags, spread evenly; the files may not exist yet."""
        tokens = self.sampler.loaded.config.train_tokens
        # With its class id as the index, a flag has the same noise whichever flags are chosen.
        requests = [
            Request(label.id, label, cell.size(self._by_name[label.name or ""], tokens))
            for label in evenly(self._labels, count)
        ]
        return [Generated(cell, r, self._images / cell.folder / r.file_name) for r in requests]

    def settings(self, cell: Cell) -> SamplingSettings:
        """How the images of a cell are generated."""
        extrapolation = Extrapolation.parse(cell.method)
        return SamplingSettings(SOLVER, cell.evaluations, self._guidance, extrapolation, self._seed)

    def draw(self, cell: Cell, count: int) -> list[Generated]:
        """The same, after generating those that are missing."""
        images = self.images(cell, count)
        folder = self._images / cell.folder
        folder.mkdir(parents=True, exist_ok=True)
        # Sorted, so that images of one size share a batch, without the cost of packing.
        ordered = sorted(
            (image.request for image in images), key=lambda r: (r.size.width, r.size.height)
        )
        cut = batches(ordered, _BATCH_TOKENS, packed=False, solver=SOLVER)
        self.sampler.write_missing(cut, self.settings(cell), folder, packed=False)
        return images

    def score(self, cell: Cell, generated: Sequence[Generated]) -> Score:
        """What the drawn images of a cell show; prints a line on it."""
        wrong: dict[str, str] = {}
        measures = []
        for image in generated:
            own = self._judge.names.index(image.name)
            with Image.open(image.file) as opened:
                nearest, distance = self._judge.judge(opened, own)
                measures.append((distance, *self.raggedness.measure(opened, nearest)))
            if nearest != own:
                wrong[image.name] = self._judge.names[nearest]
        count = len(generated)
        distance, error, ratio = (float(mean) for mean in np.mean(measures, axis=0))
        score = Score(cell, count, 1 - len(wrong) / count, distance, error, ratio, wrong)
        print(
            f"{cell.shape} {cell.scale:g}x {cell.method}, {cell.evaluations} evaluations: "
            f"{score.top_1:.1%} of {score.flags}, raggedness {score.raggedness:.4f}",
            flush=True,
        )
        return score
