"""Which extrapolation wins where: each is drawn and scored beyond the trained size.

    python -m training.recipes.flags.extrapolation_study
        16 flags at all sizes, then all 256 with the best at 1.5 and 2 times the side
    python -m training.recipes.flags.extrapolation_study --classes 4 --best 0 --sides 2 --shapes
        a first look

An extrapolation is a method, coupled or decoupled, with an attention scale. Those that are the same
in effect at a size are drawn once. It says how long it will take before it starts, and keeps its
images, so that the same command resumes; the report of the same folder shares them. The page, its
plots and its sheet are written into ``--page`` at the end.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, AUTO, Extrapolation
from comfyui_fitv2.labels import split_list
from comfyui_fitv2.metadata import Metadata
from comfyui_fitv2.resolution import for_ratio

from ...command_line import own_line, parse_options, run_command
from ...sample.generate import generate
from ...train.page import in_words
from ...whole_files import write_json
from .bench import EVALUATIONS, Bench, BenchOptions, Cell, Score
from .extrapolation_page import Study, ranked, write_page
from .flags import NATIVE

_COMMAND = "python -m training.recipes.flags.extrapolation_study"
_SECOND_SIDES = (1.5, 2.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyOptions(BenchOptions):
    """Options of the study."""

    page: Path = Path("docs/extrapolation")
    """Folder of the page, its plots and its sheet. They are replaced."""
    classes: int = 16
    """Number of flags in the first pass, spread evenly."""
    best: int = 3
    """How many of the best extrapolations the second pass draws at 1.5 and 2 times the side; 0
    leaves it out."""
    second_classes: int = 256
    """Number of flags in the second pass, spread evenly."""
    methods: tuple[str, ...] = ALL_METHODS
    """Extrapolation methods. Semicolons separate too."""
    attention_scales: tuple[str, ...] = tuple(ATTENTION_SCALES)
    """Attention scales to combine with each method. Semicolons separate too."""
    sides: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0)
    """Multiples of the trained side, at the flags' own proportions."""
    shapes: tuple[str, ...] = ("3:1", "1:3")
    """Ratios to draw within the trained number of tokens."""
    evaluations: int = EVALUATIONS
    """Evaluations of the model per image."""

    def __post_init__(self) -> None:
        """Raise ``ValueError`` for what cannot be drawn."""
        for option, value, least in (
            ("classes", self.classes, 1),
            ("second-classes", self.second_classes, self.classes),
            ("best", self.best, 0),
            ("evaluations", self.evaluations, 1),
            *(("sides", side, 1) for side in self.sides),
        ):
            if value < least:
                raise ValueError(f"--{option} must be {least} or more, not {value:g}.")
        if not self.sides and not self.shapes:
            raise ValueError("There is nothing to draw: name some --sides or --shapes.")
        for shape in self.shapes:
            for_ratio(shape, 256)
        self.labels()

    def labels(self) -> list[str]:
        """All extrapolations, by their labels, and ``AUTO``."""
        methods, scales = (
            split_list(";".join(given)) for given in (self.methods, self.attention_scales)
        )
        combined = [
            Extrapolation(method, decoupled, scale).label
            for scale in scales
            for method in methods
            for decoupled in ((True,) if method == "none" else (True, False))
        ]
        return list(dict.fromkeys((*combined, AUTO)))

    def places(self) -> list[Cell]:
        """The sizes to draw at, as cells without an extrapolation."""
        sizes = [(NATIVE, side) for side in self.sides] + [(shape, 1.0) for shape in self.shapes]
        return [Cell(shape, scale, "none", self.evaluations) for shape, scale in sizes]


def study(options: StudyOptions, command: str = _COMMAND) -> Study:
    """Draw what is missing, score all, and write the page, which names the ``command`` line.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    labels = options.labels()
    options.page.mkdir(parents=True, exist_ok=True)
    bench = Bench(options)
    metadata = bench.sampler.loaded.metadata
    alike: dict[Cell, dict[str, str]] = {}
    for place in options.places():
        grids = {image.request.size.grid for image in bench.images(place, options.classes)}
        alike[place] = same_in_effect(labels, grids, metadata)
    print(_plan(options, bench, alike), flush=True)
    first: dict[Cell, dict[str, Score]] = {}
    for place, drawn_as in alike.items():
        cells = [replace(place, method=label) for label in dict.fromkeys(drawn_as.values())]
        scores = {cell.method: _score(bench, cell, options.classes) for cell in cells}
        first[place] = {label: scores[drawn] for label, drawn in drawn_as.items()}
    second = {
        place: [
            _score(bench, score.cell, options.second_classes)
            for score in ranked(first[place].values())[: options.best]
        ]
        for place in _second_places(options)
    }
    result = Study(first, {place: ranked(scores) for place, scores in second.items()})
    write_json(options.output / "extrapolation_study.json", _as_json(result))
    scales = ", ".join(split_list(";".join(options.attention_scales)))
    how = (
        f"{options.evaluations} evaluations; attention scales: {scales}.",
        f"The checkpoint was trained with the extrapolation `{metadata.config.extrapolation}`.",
    )
    written = textwrap.wrap(
        f"Written by `{command}`, pictures included.",
        width=100,
        break_on_hyphens=False,
        break_long_words=False,
    )
    write_page(options.page, result, bench.images, [*written, *options.made_with, *how])
    return result


def same_in_effect(
    labels: Iterable[str], grids: Iterable[tuple[int, int]], metadata: Metadata
) -> dict[str, str]:
    """For each extrapolation the first one that does the same on all (rows, columns) ``grids``."""
    first: dict[Hashable, str] = {}
    grids = sorted(grids)
    return {label: first.setdefault(_effect(label, grids, metadata), label) for label in labels}


def _effect(label: str, grids: Sequence[tuple[int, int]], metadata: Metadata) -> Hashable:
    """All that an extrapolation changes, at the beginning, in the middle and at the end."""
    extrapolation = metadata.filled_in(Extrapolation.parse(label))
    axis = metadata.config.head_dim // 2, metadata.config.rope_base
    effects = []
    for rows, columns in grids:
        tables = extrapolation.frequencies(rows, columns, *axis, torch.tensor([0.0, 0.5, 1.0]))
        of_axes = (table.expand(3, -1).numpy().tobytes() for table in tables)
        effects.append((extrapolation.magnitude(rows, columns), *of_axes))
    return tuple(effects)


def _score(bench: Bench, cell: Cell, count: int) -> Score:
    return bench.score(cell, bench.draw(cell, count))


def _second_places(options: StudyOptions) -> list[Cell]:
    places = options.places() if options.best else []
    return [p for p in places if p.shape == NATIVE and p.scale in _SECOND_SIDES]


def _plan(options: StudyOptions, bench: Bench, alike: Mapping[Cell, Mapping[str, str]]) -> str:
    """What will be drawn, and about how long it takes on this machine as busy as it is now."""
    lines, total = [], 0.0
    seconds = {place: _seconds_per_image(bench, place) for place in alike}
    for place, drawn_as in alike.items():
        drawn = list(dict.fromkeys(drawn_as.values()))
        images = [
            image
            for label in drawn
            for image in bench.images(replace(place, method=label), options.classes)
        ]
        missing = sum(not image.file.is_file() for image in images)
        total += missing * seconds[place]
        lines.append(
            f"{place.shape} {place.scale:g}x: {len(drawn)} extrapolations, {len(images):,} images, "
            f"{missing:,} to draw at {seconds[place]:.1f} s: {in_words(missing * seconds[place])}"
        )
    for place in _second_places(options):
        count = options.best * (options.second_classes - options.classes)
        total += count * seconds[place]
        lines.append(
            f"second pass at {place.scale:g}x: up to {count:,} images more: "
            f"{in_words(count * seconds[place])}"
        )
    return "\n".join([*lines, f"about {in_words(total)} in all"])


def _seconds_per_image(bench: Bench, place: Cell) -> float:
    """About how long an image takes, from one evaluation of the model and one decoding."""
    request = bench.images(place, 1)[0].request
    settings = replace(bench.settings(place), solver="euler", steps=1)
    cpu = torch.device("cpu")
    begin = time.perf_counter()
    [latent] = generate(bench.sampler.loaded.model, [request], settings, packed=False, device=cpu)
    evaluated = time.perf_counter()
    bench.sampler.vae.decode(latent[None])
    return place.evaluations * (evaluated - begin) + time.perf_counter() - evaluated


def _as_json(result: Study) -> dict[str, list[dict]]:
    first = [
        {"extrapolation": label, **asdict(score)}
        for scores in result.first.values()
        for label, score in scores.items()
    ]
    return {
        "first": first,
        "second": [asdict(score) for scores in result.second.values() for score in scores],
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``python -m training.recipes.flags.extrapolation_study``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            StudyOptions,
            argv,
            prog=_COMMAND,
            description="Which extrapolation wins where.",
        )
        study(options, own_line(_COMMAND, argv))
        print(f"{options.page / 'README.md'}: written")

    return run_command(command, "The same command resumes from here.")


if __name__ == "__main__":
    raise SystemExit(main())
