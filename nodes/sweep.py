"""FiT Resolution Sweep: a list of sizes, extrapolation methods and classes to compare."""

from __future__ import annotations

from dataclasses import dataclass

from comfy_api.latest import io

from ..comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, Extrapolation
from ..comfyui_fitv2.labels import Label, resolve_labels, split_list
from ..comfyui_fitv2.resolution import Resolution, parse_size
from . import host, inputs
from .extrapolation import report

FIT_SWEEP = io.Custom("FIT_SWEEP")
MODELS_OWN = "default"


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One image of a sweep and its place in the comparison."""

    row: str
    column: str
    class_id: int
    resolution: Resolution
    extrapolation: Extrapolation


@dataclass(frozen=True, slots=True)
class Sweep:
    """Images to compare, row by row; every row has all columns."""

    cells: tuple[SweepCell, ...]

    @property
    def rows(self) -> list[str]:
        return list(dict.fromkeys(cell.row for cell in self.cells))

    @property
    def columns(self) -> list[str]:
        return list(dict.fromkeys(cell.column for cell in self.cells))


class FiTResolutionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTResolutionSweep",
            display_name="FiT Resolution Sweep",
            category="FiT",
            description="A list of sizes × a list of extrapolation methods × classes, for FiT "
            "Sweep Sampler and FiT Compare Sheet.",
            search_aliases=[
                "fitv2",
                "xy",
                "plot",
                "sweep",
                "sizes",
                "ratio",
                "grid",
                "xy plot",
                "compare sizes",
                "aspect ratios",
                "resolution list",
                "extrapolation comparison",
                "batch of sizes",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The FiT that has these classes and this training length."
                ),
                io.String.Input(
                    "classes",
                    default="Finland",
                    tooltip="Class names or ids, separated by semicolons, as in FiT Class Label. "
                    "Each gets its own rows.",
                ),
                io.String.Input(
                    "sizes",
                    default="1:1\n3:2\n2:1\n3:1\n2:3\n1:2\n1:3",
                    multiline=True,
                    tooltip="The columns, one per line or separated by semicolons: any ratio "
                    '("3:2"), a ratio with its own maximum of tokens ("3:2 @ 576"), or pixels '
                    '("256x192").',
                ),
                inputs.tokens(
                    f"Maximum number of tokens ({inputs.TOKEN} each) for ratios without their own."
                ),
                io.String.Input(
                    "methods",
                    default=MODELS_OWN,
                    multiline=True,
                    tooltip=f'The rows: "{MODELS_OWN}" (the model\'s own) or any of '
                    f'{", ".join(ALL_METHODS)}; then "coupled" if both axes scale alike, then "+" '
                    f'and an attention scale ({", ".join(ATTENTION_SCALES)}): "ntk", "yarn '
                    'coupled", "ntk + pro2".',
                ),
            ],
            outputs=[
                FIT_SWEEP.Output(
                    "sweep",
                    tooltip="For FiT Sweep Sampler, and for FiT Compare Sheet, which then names "
                    "rows and columns.",
                ),
                io.Int.Output("count", tooltip="Number of images."),
                io.String.Output(
                    "report",
                    tooltip="Every size in pixels and tokens, and what each method does to it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model: host.ModelPatcher, classes: str, sizes: str, tokens: int, methods: str
    ) -> io.NodeOutput:
        metadata = host.require_fit(model).metadata
        config = metadata.config
        labels = resolve_labels(classes, metadata.class_names, config.num_classes)
        resolutions = {text: parse_size(text, tokens) for text in _entries("sizes", sizes)}
        extrapolations = {
            text: _extrapolation(text, model) for text in _entries("methods", methods)
        }
        cells = tuple(
            SweepCell(row, column, label.id, resolution, extrapolation)
            for row, label, extrapolation in _rows(labels, extrapolations)
            for column, resolution in resolutions.items()
        )
        lines = [
            f"{column}: {resolution.report(config.train_tokens)}"
            for column, resolution in resolutions.items()
        ]
        lines += [
            f"{column}: {report(extrapolation, resolution.grid, config)}"
            for extrapolation in extrapolations.values()
            if extrapolation.label != "none"
            for column, resolution in resolutions.items()
        ]
        return io.NodeOutput(Sweep(cells), len(cells), "\n".join(lines))


def _entries(what: str, text: str) -> list[str]:
    """The different entries of a list. Raises ``ValueError`` where there are none."""
    entries = list(dict.fromkeys(split_list(text)))
    if not entries:
        raise ValueError(f"{what} is empty: write one entry per line, or separate with semicolons.")
    return entries


def _extrapolation(text: str, model: host.ModelPatcher) -> Extrapolation:
    if text.lower() == MODELS_OWN:
        return host.extrapolation_of(model)
    return Extrapolation.parse(text)


def _rows(
    labels: list[Label], extrapolations: dict[str, Extrapolation]
) -> list[tuple[str, Label, Extrapolation]]:
    """Name, class and method of every row; a name leaves out what all rows have in common."""
    rows = []
    different = dict.fromkeys(labels)
    for label in different:
        for method, extrapolation in extrapolations.items():
            several_methods = len(extrapolations) > 1
            parts = [str(label)] if len(different) > 1 or not several_methods else []
            parts += [method] if several_methods else []
            rows.append((" · ".join(parts), label, extrapolation))
    return rows
