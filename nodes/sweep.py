"""FiT Resolution Sweep and FiT Sweep Sampler: many sizes, extrapolation methods and classes, drawn in packed passes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import comfy.sample
import comfy.utils
import latent_preview
import torch
from comfy.model_patcher import ModelPatcher
from comfy.nested_tensor import NestedTensor
from comfy_api.latest import io
from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, Extrapolation
from ..comfyui_fitv2.labels import resolve_labels
from ..comfyui_fitv2.resolution import Resolution, parse_size
from ..comfyui_fitv2.sampling import published_last_step, sampling_times
from ..comfyui_fitv2.solvers import SOLVERS
from . import host
from .extrapolation import report
from .solvers import DEFAULT_SOLVER, SOLVER_TOOLTIP, host_sampler

FIT_SWEEP = io.Custom("FIT_SWEEP")
MODELS_OWN = "default"
# Its steps depend on the whole batch, so that a picture would not be the one drawn alone.
PACKED_SOLVERS = [name for name in SOLVERS if name != "dopri5"]


@dataclass(frozen=True, slots=True)
class SweepCell:
    """One picture of a sweep and its place in the comparison."""

    row: str
    column: str
    class_id: int
    resolution: Resolution
    extrapolation: Extrapolation


@dataclass(frozen=True, slots=True)
class Sweep:
    """Pictures to compare, row by row."""

    cells: tuple[SweepCell, ...]


class FiTResolutionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTResolutionSweep",
            display_name="FiT Resolution Sweep",
            category="FiT",
            description="A list of sizes × a list of extrapolation methods × classes, for FiT Sweep Sampler and FiT Compare Sheet.",
            search_aliases=[
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
                    "model", tooltip="The FiT whose classes and trained length these are."
                ),
                io.String.Input(
                    "classes",
                    default="Finland",
                    tooltip="Class names or ids, semicolons between, as in FiT Class Label. Each gets rows of its own.",
                ),
                io.String.Input(
                    "sizes",
                    default="1:1\n3:2\n2:1\n3:1\n2:3\n1:2\n1:3",
                    multiline=True,
                    tooltip='The columns, one a line or semicolons between: a ratio ("3:2"), a ratio and its most tokens ("3:2 @ 576"), or pixels ("256x192").',
                ),
                io.Int.Input(
                    "tokens",
                    default=256,
                    min=1,
                    max=65536,
                    tooltip="Most tokens, 16 × 16 pixels each, of a ratio that names none.",
                ),
                io.String.Input(
                    "methods",
                    default=MODELS_OWN,
                    multiline=True,
                    tooltip=f'The rows: "{MODELS_OWN}" (the model\'s own) or any of {", ".join(ALL_METHODS)}; "coupled" behind it if both axes scale alike, '
                    f'"+" and an attention scale ({", ".join(ATTENTION_SCALES)}): "ntk", "yarn coupled", "ntk + pro2".',
                ),
            ],
            outputs=[
                FIT_SWEEP.Output(
                    "sweep",
                    tooltip="For FiT Sweep Sampler, and for FiT Compare Sheet, which then names rows and columns.",
                ),
                io.Int.Output("count", tooltip="Number of pictures."),
                io.String.Output(
                    "report",
                    tooltip="Every size in pixels and tokens, and what each method does to it.",
                ),
            ],
        )

    @classmethod
    def execute(
        cls, model: ModelPatcher, classes: str, sizes: str, tokens: int, methods: str
    ) -> io.NodeOutput:
        metadata = host.require_fit(model).metadata
        config = metadata.config
        labels = list(
            dict.fromkeys(resolve_labels(classes, metadata.class_names, config.num_classes))
        )
        resolutions = [(text, parse_size(text, tokens)) for text in _entries("sizes", sizes)]
        asked = [
            (text, _extrapolation(text, model, config)) for text in _entries("methods", methods)
        ]

        def row(label: Any, method: str) -> str:
            parts = [str(label)] * (len(labels) > 1 or len(asked) == 1) + [method] * (
                len(asked) > 1
            )
            return " · ".join(parts)

        cells = tuple(
            SweepCell(row(label, method), column, label.id, resolution, extrapolation)
            for label in labels
            for method, extrapolation in asked
            for column, resolution in resolutions
        )
        lines = [
            f"{column}: {resolution.report(config.train_tokens)}"
            for column, resolution in resolutions
        ]
        lines += [
            f"{column}: {report(e, resolution.grid, config)}"
            for _, e in asked
            if e.label != "none"
            for column, resolution in resolutions
        ]
        return io.NodeOutput(Sweep(cells), len(cells), "\n".join(lines))


def _entries(what: str, text: str) -> list[str]:
    entries = list(
        dict.fromkeys(entry.strip() for entry in re.split(r"[;\n]", text) if entry.strip())
    )
    if not entries:
        raise ValueError(f"{what} is empty: write one entry a line, or semicolons between.")
    return entries


def _extrapolation(text: str, model: ModelPatcher, config: Any) -> Extrapolation:
    if text.lower() == MODELS_OWN:  # that of a FiT Extrapolation before it, else the checkpoint's
        return model.model_options["transformer_options"].get(
            host.EXTRAPOLATION, config.default_extrapolation
        )
    return Extrapolation.parse(text, config.train_length)


class FiTSweepSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSweepSampler",
            display_name="FiT Sweep Sampler",
            category="FiT",
            description="Draws every picture of a sweep, different sizes together in one pass without padding; each is the picture that it would be alone.",
            search_aliases=[
                "packed sampling",
                "many sizes",
                "batch sampler",
                "xy plot sampler",
                "grid sampler",
                "compare",
            ],
            inputs=[
                io.Model.Input("model", tooltip="The FiT, with any LoRA, merge or guidance on it."),
                FIT_SWEEP.Input("sweep", tooltip="From FiT Resolution Sweep."),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=0xFFFFFFFFFFFFFFFF,
                    control_after_generate=True,
                    tooltip="Noise of the start, the same for every picture as if it were drawn alone.",
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=1000, tooltip="Steps from noise to picture."
                ),
                io.Combo.Input(
                    "solver", options=PACKED_SOLVERS, default=DEFAULT_SOLVER, tooltip=SOLVER_TOOLTIP
                ),
                io.Float.Input(
                    "guidance",
                    default=1.5,
                    min=0.0,
                    max=20.0,
                    step=0.1,
                    round=0.01,
                    tooltip="Classifier-free guidance scale. 1 is off and twice as fast.",
                ),
                io.Int.Input(
                    "tokens_per_pass",
                    default=16384,
                    min=1,
                    max=1 << 22,
                    tooltip="Most tokens drawn together: more needs more memory. A picture that has more is drawn alone.",
                ),
            ],
            outputs=[
                io.Latent.Output(
                    "latents",
                    is_output_list=True,
                    tooltip="One latent a picture, in the order of the sweep, for VAE Decode.",
                ),
                io.String.Output(
                    "labels", is_output_list=True, tooltip="Row, column and size of each."
                ),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        sweep: Sweep,
        seed: int,
        steps: int,
        solver: str,
        guidance: float,
        tokens_per_pass: int,
    ) -> io.NodeOutput:
        config = host.require_flow(model).metadata.config
        passes = list(_passes(sweep.cells, tokens_per_pass))
        progress = _Progress(model, sweep.cells, steps * len(passes))
        latents: list[Tensor] = []
        for cells in passes:
            shapes = [(1, config.in_channels, *cell.resolution.latent_size) for cell in cells]
            empty = [torch.zeros(shape) for shape in shapes]
            noise = [comfy.sample.prepare_noise(x, seed) for x in empty]
            packed = len(cells) > 1
            sampled = comfy.sample.sample_custom(
                host.with_extrapolation(
                    model,
                    tuple(cell.extrapolation for cell in cells)
                    if packed
                    else cells[0].extrapolation,
                ),
                NestedTensor(noise) if packed else noise[0],
                guidance,
                host_sampler(solver, shapes if packed else None),
                1 - sampling_times(steps, last_step_size=published_last_step(solver, steps, 1.0)),
                host.conditioning([cell.class_id for cell in cells], config.num_classes),
                host.conditioning([config.null_class], config.num_classes),
                NestedTensor(empty) if packed else empty[0],
                callback=progress.of_pass(len(latents), steps),
                disable_pbar=not comfy.utils.PROGRESS_BAR_ENABLED,
                seed=seed,
            )
            latents += sampled.unbind() if packed else [sampled]
        labels = [f"{cell.row} · {cell.column} · {cell.resolution}" for cell in sweep.cells]
        return io.NodeOutput([{"samples": samples} for samples in latents], labels)


def _passes(cells: Sequence[SweepCell], most_tokens: int) -> Iterator[list[SweepCell]]:
    """Cells in their order, as many at a time as ``most_tokens`` allow, at least one."""
    together: list[SweepCell] = []
    for cell in cells:
        if together and sum(c.resolution.tokens for c in [*together, cell]) > most_tokens:
            yield together
            together = []
        together.append(cell)
    yield together


class _Progress:
    """Progress over all passes, with all pictures drawn so far in their places as preview."""

    def __init__(self, model: ModelPatcher, cells: Sequence[SweepCell], total: int) -> None:
        self._previewer = latent_preview.get_previewer(model.load_device, model.model.latent_format)
        self._bar = comfy.utils.ProgressBar(total)
        self._total, self._done = total, 0
        self._drawn: dict[int, Image.Image] = {}
        columns = list(dict.fromkeys(cell.column for cell in cells))
        rows = list(dict.fromkeys(cell.row for cell in cells))
        self._places = [(rows.index(cell.row), columns.index(cell.column)) for cell in cells]

    def of_pass(self, first: int, steps: int) -> Any:
        before = self._done
        self._done += steps

        def callback(step: int, x0: Any, x: Any, total_steps: int) -> None:
            preview = None
            if self._previewer is not None:
                for i, image in enumerate(x0.unbind() if x0.is_nested else [x0]):
                    self._drawn[first + i] = self._previewer.decode_latent_to_preview(image)
                preview = ("JPEG", self._sheet(), latent_preview.MAX_PREVIEW_RESOLUTION)
            self._bar.update_absolute(before + step + 1, self._total, preview)

        return callback

    def _sheet(self) -> Image.Image:
        heights, widths = {}, {}
        for i, image in self._drawn.items():
            row, column = self._places[i]
            heights[row] = max(heights.get(row, 0), image.height)
            widths[column] = max(widths.get(column, 0), image.width)
        gap = 1
        sheet = Image.new(
            "RGB",
            (
                sum(widths.values()) + gap * (len(widths) - 1),
                sum(heights.values()) + gap * (len(heights) - 1),
            ),
        )
        for i, image in self._drawn.items():
            row, column = self._places[i]
            x = sum(w + gap for c, w in widths.items() if c < column)
            y = sum(h + gap for r, h in heights.items() if r < row)
            sheet.paste(image, (x, y))
        return sheet
