"""FID, sFID, IS, precision and recall of a checkpoint, at any sizes, drawn with any extrapolation methods.

python -m training.evaluate --checkpoint mine.safetensors --reference photos --sizes 256x256,160x320 --output results
python -m training.evaluate ... --extrapolations "none; ntk; ntk + pro2" --inception weights-inception-2015-12-05-6726825d.pth
accelerate launch -m training.evaluate ...                                 draws on all GPUs, measures on one

The reference is a folder of pictures, each cut from its middle to the shape of a size and resized to it as training pictures are. Without
--inception the features are those of a small network of ours, which orders checkpoints but gives no published numbers.
Pictures and features are kept in the output folder: the same command goes on where it ended, and measures nothing twice.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import torch
from accelerate import PartialState

from comfyui_fitv2.checkpoint import read_checkpoint
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.resolution import Resolution

from ..command_line import run_command
from ..sample import SampleOptions, add_drawing_arguments, sample
from .extractors import feature_extractor
from .feature_set import FeatureSet, drawn_features, reference_features
from .metrics import compare
from .report import Evaluation, Reference, Row, markdown, write_report

_PICTURES, _FEATURES, _REFERENCE = "pictures", "features", "reference"
_ANY_LENGTH = 16
"""Labels do not depend on the trained length."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluateOptions:
    drawing: SampleOptions
    """What to draw, and how; its ``output`` is the folder of the evaluation."""
    reference: Path
    """Folder of pictures."""
    extrapolations: str | None = None
    """As in ``Extrapolation.parse``, with semicolons between; None is the model's own."""
    inception: Path | None = None
    reference_count: int = 50_000
    """Most reference pictures."""
    cache: Path | None = None
    """Where features of reference pictures are kept; None is a folder in the output."""

    def __post_init__(self) -> None:
        if self.reference_count < 1:
            raise ValueError(f"--reference-count must be 1 or more, not {self.reference_count}.")
        if self.extrapolations is not None and not self.methods:
            raise ValueError('--extrapolations names none. Write such as "none; ntk + pro2".')

    @property
    def methods(self) -> list[str]:
        """Labels of the extrapolations, each once; none stands for the model's own. Raises ``ValueError`` on an unknown one."""
        texts = (text for text in (self.extrapolations or "").split(";") if text.strip())
        return list(dict.fromkeys(Extrapolation.parse(text, _ANY_LENGTH).label for text in texts))


def evaluate(options: EvaluateOptions) -> Evaluation | None:
    """Draw, measure and report; None on all but the main process. Raises ``ValueError`` or ``OSError`` on what the person can put right."""
    drawing, output = options.drawing, options.drawing.output
    if not options.reference.is_dir():
        raise ValueError(f"--reference {options.reference} is not a folder of pictures.")
    extractor = feature_extractor(options.inception)
    drawn = {}
    for method in options.methods or [_own_method(drawing)]:
        folder = _folder_name(method)
        drawn[method] = (
            folder,
            sample(replace(drawing, output=output / _PICTURES / folder, extrapolation=method)),
        )
    state = PartialState()
    if not state.is_main_process:
        return None
    device = torch.device(drawing.device or str(state.device))
    extractor = extractor.to(device)
    references: dict[Resolution, FeatureSet] = {}
    rows = []
    for size in dict.fromkeys(
        picture.size for _, pictures in drawn.values() for picture in pictures
    ):
        references[size] = reference_features(
            options.reference,
            size,
            options.reference_count,
            extractor,
            device,
            options.cache or output / _REFERENCE,
        )
        for method, (folder, pictures) in drawn.items():
            files = [output / _PICTURES / folder / p.file_name for p in pictures if p.size == size]
            features = drawn_features(files, extractor, device, output / _FEATURES / folder)
            rows.append(
                Row(
                    f"{size.width}x{size.height}",
                    size.tokens,
                    method,
                    len(features),
                    compare(features, references[size]),
                )
            )
    evaluation = Evaluation(
        checkpoint=drawing.checkpoint.name,
        features=extractor.get_name(),
        published=options.inception is not None,
        settings={
            key: getattr(drawing, key)
            for key in ("solver", "steps", "guidance", "guidance_power", "count", "seed", "dtype")
        },
        reference=options.reference.resolve().name,
        references={
            f"{size.width}x{size.height}": Reference(len(found), found.enlarged, found.unreadable)
            for size, found in references.items()
        },
        rows=rows,
    )
    write_report(evaluation, output)
    return evaluation


def _own_method(drawing: SampleOptions) -> str:
    return read_checkpoint(
        drawing.checkpoint, preset=drawing.preset
    ).metadata.config.default_extrapolation.label


def _folder_name(method: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", method).strip("-")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description="Measure what a checkpoint draws against a folder of pictures.",
    )
    add_drawing_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder for the report, the pictures and their features; the same command goes on",
    )
    parser.add_argument(
        "--count", type=int, default=50, help="pictures of each class at each size (default: 50)"
    )
    parser.add_argument(
        "--reference",
        type=Path,
        required=True,
        help="folder of pictures to compare with; sub-folders are read too",
    )
    parser.add_argument(
        "--extrapolations",
        help='with semicolons between: "none; ntk; ntk + pro2" (default: the one the model was trained with)',
    )
    parser.add_argument(
        "--inception",
        type=Path,
        help="Inception file of torch-fidelity or pytorch-fid, for numbers comparable with published ones",
    )
    parser.add_argument(
        "--reference-count",
        type=int,
        default=50_000,
        help="most reference pictures (default: 50000)",
    )
    parser.add_argument(
        "--cache",
        type=Path,
        help="folder that keeps features of the reference, to share between evaluations (default: in --output)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))
    own = {f.name: options.pop(f.name) for f in fields(EvaluateOptions) if f.name in options}

    def command() -> None:
        evaluation = evaluate(EvaluateOptions(drawing=SampleOptions(**options), **own))
        if evaluation is not None:
            print(markdown(evaluation))

    return run_command(command, "The same command goes on from here.")
