"""Add to a checkpoint of flags what its classes are called, look like, and need beyond its size.

    python -m training.recipes.flags.describe
        the bundled checkpoint
    python -m training.recipes.flags.describe --checkpoint mine.safetensors --results mine.md
        another one, with what `report --results mine.md` measured
    python -m training.recipes.flags.describe --class-sheet
        its class sheet too, each flag in its own proportions: half an hour on two cores

It writes ``class_synonyms`` and ``recommended_extrapolation`` into the metadata of the file. The
weights stay as they are, byte by byte.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from comfyui_fitv2.checkpoint import read_checkpoint, save_checkpoint
from comfyui_fitv2.extrapolation import AUTO, Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.recommendation import Recommendation
from sheets.class_sheet import sheet_path

from ...command_line import parse_options, run_command
from ...data.bundled import BUNDLED_CHECKPOINT, TINY_FILE
from ...sample.class_sheet import draw_class_sheet
from ...sample.generate import SamplingSettings
from ...sample.sampler import Sampler
from .bench import EVALUATIONS, SOLVER
from .flags import fetch, read_flags
from .other_names import other_names

RESULTS = Path(__file__).with_name("RESULTS.md")
_ROW = re.compile(
    r"\| native \| (?P<scale>[\d.]+)× \| (?P<method>[^|]+) \|[^|]+\|[^|]+"
    r"\| (?P<top_1>[\d.]+)% \| (?P<distance>[\d.]+) \|"
)
"""A line of the table that ``report.markdown`` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribeOptions:
    """Options of the command."""

    checkpoint: Path = BUNDLED_CHECKPOINT
    """A checkpoint of flags; by default the bundled one. It is replaced."""
    flags: Path = Path("runs/flags/package")
    """The unpacked package of flags; it is fetched if it is not there."""
    results: Path | None = RESULTS
    """Table of the report, which tells the best extrapolation; None leaves it out."""
    class_sheet: bool = False
    """Also draw the class sheet, unless it is there."""
    vae: Path = TINY_FILE
    """The VAE for the sheet; by default the bundled one."""


def describe(options: DescribeOptions) -> None:
    """Write what is missing of the metadata and the sheet.

    Raises ``ValueError`` for classes that are no flags of the package.
    """
    fetch(options.flags)
    flags = {flag.name: flag for flag in read_flags(options.flags)}
    checkpoint = read_checkpoint(options.checkpoint)
    names = checkpoint.metadata.class_names or ()
    if not names or not flags.keys() >= set(names):
        first = ", ".join((*names, "none")[:3])
        raise ValueError(f"{options.checkpoint} has other classes than these flags: {first}, ….")
    metadata = replace(
        checkpoint.metadata, class_synonyms=[other_names(flags[name]) for name in names]
    )
    if options.results:
        best = recommended(options.results.read_text(encoding="utf-8"))
        metadata = replace(metadata, recommended_extrapolation=best)
    if metadata != checkpoint.metadata:
        # Copies, because the file that the weights are mapped from is replaced.
        weights = {key: value.clone() for key, value in checkpoint.state_dict.items()}
        save_checkpoint(options.checkpoint, weights, metadata)
    if options.class_sheet and not sheet_path(options.checkpoint).exists():
        sizes = [flags[name].native(metadata.config.train_tokens) for name in names]
        device = torch.device("cpu")
        sampler = Sampler.open(options.checkpoint, str(options.vae), device=device)
        settings = SamplingSettings(SOLVER, EVALUATIONS, Guidance())
        draw_class_sheet(sampler, options.checkpoint, sizes, settings)


def recommended(table: str) -> list[Recommendation]:
    """The best method at each size beyond the trained one, in a table that the report wrote.

    That is the one with the most flags that are right, and of these the nearest to the flags. The
    last one is for all larger sizes too. Raises ``ValueError`` where the table has no such size.
    """
    best: dict[float, tuple[float, float, str]] = {}
    for row in _ROW.finditer(table):
        scale = float(row["scale"])
        score = -float(row["top_1"]), float(row["distance"]), row["method"]
        if scale > 1 and row["method"] != AUTO:
            best[scale] = min(score, best.get(scale, score))
    if not best:
        raise ValueError(
            "the table has no sizes beyond the trained one. Make it with report --beyond 32."
        )
    recommendations: list[Recommendation] = []
    for scale, (_, _, method) in sorted(best.items()):
        chosen = Extrapolation.parse(method)
        here = Recommendation(scale, chosen.method, chosen.attention_scale, chosen.decoupled)
        if recommendations and replace(recommendations[-1], up_to=scale) == here:
            recommendations.pop()
        recommendations.append(here)
    return [*recommendations[:-1], replace(recommendations[-1], up_to=None)]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.recipes.flags.describe``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            DescribeOptions,
            argv,
            prog="python -m training.recipes.flags.describe",
            description="Write other names of the classes into a checkpoint's metadata.",
        )
        describe(options)
        print(f"{options.checkpoint}: described")

    return run_command(command)


if __name__ == "__main__":
    raise SystemExit(main())
