"""Measure a checkpoint at any sizes and with any extrapolation methods, against reference images.

python -m training.evaluate --checkpoint mine.safetensors --reference photos \\
    --sizes 256x256,160x320 --output results
python -m training.evaluate ... --extrapolations "none; ntk; ntk + pro2" \\
    --inception weights-inception-2015-12-05-6726825d.pth       FID, sFID, IS, precision and recall
python -m training.evaluate --table III --checkpoint xl.safetensors --vae sd-vae-ft-ema \\
    --reference imagenet --inception FILE --output results     beside the numbers of the paper
accelerate launch -m training.evaluate ...         generates on all GPUs, measures on one

Of each reference image the middle part with the shape of a size is resized to it, as training
images are. Without --inception the features are those of a small random network, whose distances
compare your own checkpoints with each other but give no published numbers. Images and features are
cached in the output folder, so the same command resumes where it stopped and measures nothing
twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

from torch_fidelity import FeatureExtractorBase

from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.labels import split_list

from ..command_line import parse_options, run_command
from ..data.sources import ImageSource, Listing, SourceError, open_unsorted
from ..failures import explained
from ..option_names import own_names
from ..processes import join_processes, on_main
from ..sample import LESS_MEMORY, RESUMES, GenerationOptions, write_images
from ..sample.generate import Request
from ..sample.option_names import NAMES
from ..sample.sampler import Sampler
from ..whole_files import require_outside, write_text
from .extractors import feature_extractor
from .feature_set import FeatureSet, generated_features, reference_features
from .metrics import INCEPTION_METRICS, RANDOM_FEATURE_METRICS
from .paper import Comparison, comparison
from .paper_report import beside_paper
from .report import Evaluation, Floor, Reference, Row, check_report, markdown, write_report

_IMAGES, _FEATURES, _REFERENCE = "images", "features", "reference"


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions(GenerationOptions):
    """Options of the command."""

    output: Path
    """Folder for report, images and features. The same command resumes where it stopped."""
    reference: Path
    """Folder of images to compare with, or one that `datasets` saved; sub-folders are read too."""
    count: int = 50
    """Number of images per class and size."""
    extrapolations: tuple[str, ...] = ()
    """RoPE extrapolations, such as none auto "ntk + pro2"; by default as the model was trained."""
    inception: Path | None = None
    """Inception weights of torch-fidelity or pytorch-fid, for published metrics."""
    reference_count: int = 50_000
    """Maximum number of reference images."""
    report: str = "evaluation"
    """Name of the report's files, for a second comparison of the same images."""
    cache: Path | None = None
    """Folder for features of the reference, which evaluations can share; by default in --output."""
    ignore_problems: bool = False
    """Go on where the reference folder looks like a mistake."""

    def methods(self, config: FiTConfig) -> list[Extrapolation]:
        """The extrapolations, each once. Raises ``ValueError`` on none and on an unknown one."""
        if not self.extrapolations:
            return [config.default_extrapolation]
        texts = split_list(";".join(self.extrapolations))
        if not texts:
            raise ValueError('--extrapolations is empty. Write such as none "ntk + pro2".')
        return list(dict.fromkeys(Extrapolation.parse(text) for text in texts))


@dataclass(frozen=True, kw_only=True)
class _CommandLine(EvaluateOptions):
    """Options of the command."""

    table: str | None = None
    """A table of the FiTv2 paper (arXiv 2410.13925), II to VI: its sizes, methods, guidance, solver
    and number of images, and its numbers beside yours. Other options win over it."""
    row: str | None = None
    """Row of that table, such as "Config A"; by default the model of the checkpoint's shape."""


def evaluate(options: EvaluateOptions) -> Evaluation | None:
    """Generate, measure and report; None on all but the main process.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    if options.reference_count < 1:
        raise ValueError(f"--reference-count must be 1 or more, not {options.reference_count}.")
    try:
        source = open_unsorted(options.reference, "--reference")
    except SourceError as error:
        raise ValueError(f"--reference {error}") from None
    require_outside(options.output, options.reference)
    extractor = feature_extractor(options.inception)
    compared = {"reference": _reference_name(options), "features": extractor.get_name()}
    check_report(options.output, options.report, compared)
    state = join_processes(options.device)
    listings: list[Listing] = []
    on_main(state, lambda: listings.append(_list_references(options, source)))
    with explained(LESS_MEMORY, last_state=lambda: RESUMES):
        sampler = options.open_sampler(state)
        requests: dict[str, list[Request]] = {}
        for method in options.methods(sampler.loaded.config):
            folder = options.output / _IMAGES / _folder_name(method.label)
            requests[method.label] = write_images(sampler, options, method, folder, state)
        if not state.is_main_process:
            return None
        images = source, listings[0]
        evaluation = _measure(options, sampler, extractor.to(sampler.device), requests, images)
        write_report(evaluation, options.output, options.report)
    return evaluation


def _list_references(options: EvaluateOptions, source: ImageSource) -> Listing:
    listing = source.listing()
    for line in listing.report(f"left out of {options.reference}"):
        print(line, file=sys.stderr)
    if not options.ignore_problems or not listing.files:
        listing.stop_at_problems()
    return listing


def _measure(
    options: EvaluateOptions,
    sampler: Sampler,
    extractor: FeatureExtractorBase,
    requests: dict[str, list[Request]],
    images: tuple[ImageSource, Listing],
) -> Evaluation:
    """Compare what was generated for every size and method, ``requests`` by label, with ``images``,
    the source of the references and its listing."""
    output, published = options.output, options.inception is not None
    names = INCEPTION_METRICS if published else RANDOM_FEATURE_METRICS
    references: dict[str, Reference] = {}
    rows = []
    sizes = options.resolutions(sampler.loaded.config)
    count = min(map(len, requests.values())) // len(sizes)
    for size in sizes:
        reference = reference_features(
            *images,
            size,
            options.reference_count,
            extractor,
            sampler.device,
            options.cache or output / _REFERENCE,
        )
        key = f"{size.width}x{size.height}"
        references[key] = Reference(
            len(reference),
            reference.enlarged,
            reference.unreadable,
            features=reference.pooled.shape[1],
            digest=reference.digest,
            floor=_floor(reference, count, names),
        )
        for label, of_method in requests.items():
            folder = _folder_name(label)
            files = [output / _IMAGES / folder / r.file_name for r in of_method if r.size == size]
            cache = output / _FEATURES / folder
            features = generated_features(files, extractor, sampler.device, cache)
            metrics = dict(zip(names, features.metrics(reference), strict=True))
            rows.append(Row(key, size.tokens, label, len(features), metrics))
    return Evaluation(
        checkpoint=options.checkpoint.name,
        features=extractor.get_name(),
        published=published,
        settings=options.settings_by_name(),
        left_out=images[1].left_out,
        reference=_reference_name(options),
        references=references,
        rows=rows,
    )


def _floor(reference: FeatureSet, count: int, names: Sequence[str]) -> Floor | None:
    """What real images reach, by the ``names`` of the metrics."""
    found = reference.floor(count)
    if found is None:
        return None
    images, metrics = found
    return Floor(images, dict(zip((names[0], *names[3:]), metrics, strict=True)))


def _reference_name(options: EvaluateOptions) -> str:
    return options.reference.resolve().name


def _folder_name(label: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", label).strip("-")


def beside_the_paper(runs: Sequence[EvaluateOptions], compared: Comparison) -> str | None:
    """Evaluate ``runs``, one per guidance scale of ``compared``; None on all but the main process.

    The table is also written to the folder of the results; several runs get a folder each in it.
    Raises as ``evaluate`` does.
    """
    output = runs[0].output
    if len(runs) > 1:
        # They share the features of the reference, which do not depend on the guidance.
        runs = [
            replace(
                run,
                output=output / f"guidance-{run.guidance_scale:g}",
                cache=run.cache or output / _REFERENCE,
            )
            for run in runs
        ]
    evaluations = [evaluation for run in runs if (evaluation := evaluate(run)) is not None]
    if not evaluations:
        return None
    table = beside_paper(compared, evaluations)
    write_text(output / f"table-{compared.row.table}.md", f"{table}\n")
    return table


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.evaluate``; returns the exit status."""

    def command() -> None:
        words = own_names(argv, NAMES)
        compared = comparison(words)
        if compared is None:
            evaluation = evaluate(_parse(words))
            printed = None if evaluation is None else markdown(evaluation)
        else:
            runs = [_parse([*protocol, *words]) for protocol in compared.options()]
            printed = beside_the_paper(runs, compared)
        if printed is not None:
            print(printed)

    return run_command(command, "The same command resumes from here.")


def _parse(words: Sequence[str]) -> EvaluateOptions:
    options = parse_options(
        _CommandLine,
        words,
        prog="python -m training.evaluate",
        description="Measure the images of a checkpoint against a folder of images.",
    )
    return EvaluateOptions(**{f.name: getattr(options, f.name) for f in fields(EvaluateOptions)})
