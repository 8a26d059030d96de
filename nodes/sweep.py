"""FiT Resolution Sweep: sizes, methods, classes, seeds and more, in all combinations."""

from __future__ import annotations

from comfy_api.latest import io

from ..comfyui_fitv2.extrapolation import ATTENTION_SCALES, METHOD_CHOICES
from ..comfyui_fitv2.labels import split_list
from ..comfyui_fitv2.resolution import parse_size
from . import host, inputs, sweep_axes
from .extrapolation import report
from .sweep_axes import MODELS_OWN
from .sweep_cells import (
    AXES,
    PACKED_SOLVERS,
    SIZES,
    Choice,
    Combination,
    Sweep,
    SweepCell,
    combinations,
)
from .sweep_report import overview

FIT_SWEEP = io.Custom("FIT_SWEEP")
_NUMBERS = 'Numbers with commas between them; ranges as "1..8" or "1, 3, .., 9".'
_EMPTY = "Empty: what FiT Sweep Sampler is set to."


class FiTResolutionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def more(name: str, tooltip: str) -> io.String.Input:
            return io.String.Input(name, default="", optional=True, advanced=True, tooltip=tooltip)

        return io.Schema(
            node_id="FiTResolutionSweep",
            display_name="FiT Resolution Sweep",
            category="FiT",
            description="Lists of sizes, extrapolation methods, classes, seeds and more: every "
            "combination becomes an image, for FiT Sweep Sampler and FiT Compare Sheet.",
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
                "compare seeds",
                "compare checkpoints",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The FiT that has these classes and this trained size."
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
                    '("3:2"), a ratio with an at sign and its own maximum of tokens behind it, or '
                    'pixels ("256x192").',
                ),
                inputs.tokens(
                    f"Maximum number of tokens ({inputs.TOKEN} each) for ratios without their own."
                ),
                io.String.Input(
                    "methods",
                    default=MODELS_OWN,
                    multiline=True,
                    tooltip=f'The rows: "{MODELS_OWN}" (the model\'s own) or any of '
                    f'{", ".join(METHOD_CHOICES)}; then "coupled" if both axes scale alike, then '
                    f'"+" and an attention scale ({", ".join(ATTENTION_SCALES)}): "ntk", "yarn '
                    'coupled", "ntk + pro2".',
                ),
                more(
                    "attention_scales",
                    f"Attention scales to try with every method: {', '.join(ATTENTION_SCALES)}. "
                    "Empty: that of each method.",
                ),
                more("seeds", f"Seeds of the starting noise. {_NUMBERS} {_EMPTY}"),
                more("steps", f"Numbers of steps. {_NUMBERS} {_EMPTY}"),
                more("solvers", f"Names with commas: {', '.join(PACKED_SOLVERS)}. {_EMPTY}"),
                more("guidance_scales", f"Scales of guidance. {_NUMBERS} {_EMPTY}"),
                more(
                    "checkpoints",
                    "Files of FiT Loader, one per line or separated by semicolons: each takes the "
                    "place of the MODEL's, whose LoRAs and other patches stay. "
                    f'"{MODELS_OWN}" is the MODEL as it is. Empty: that alone.',
                ),
                io.Combo.Input(
                    "columns",
                    options=[SIZES, *(axis for axis in AXES if axis != SIZES)],
                    default=SIZES,
                    optional=True,
                    advanced=True,
                    tooltip="The list that goes across; the others make rows.",
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
                    tooltip="How many images, model evaluations and sheets there will be; every "
                    "size in pixels and tokens, and what each method does to it.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(
        cls, checkpoints: str | None = "", **_: object
    ) -> list[tuple[str, int, int]]:
        # A training run may write the same name again: then it is another model.
        found = []
        for name in split_list(checkpoints or ""):  # None where another node gives them
            if (listed := host.find_checkpoint(name)) is not None:
                status = host.checkpoint_path(listed).stat()
                found.append((listed, status.st_mtime_ns, status.st_size))
        return found

    @classmethod
    def execute(
        cls,
        model: host.ModelPatcher,
        classes: str,
        sizes: str,
        tokens: int,
        methods: str,
        attention_scales: str = "",
        seeds: str = "",
        steps: str = "",
        solvers: str = "",
        guidance_scales: str = "",
        checkpoints: str = "",
        columns: str = SIZES,
    ) -> io.NodeOutput:
        metadata = host.require_fit(model).metadata
        of_checkpoints = sweep_axes.checkpoints(checkpoints, metadata)
        labels = sweep_axes.classes(classes, of_checkpoints)
        entries, numbers = sweep_axes.entries, sweep_axes.numbers
        axes = {
            "classes": sweep_axes.class_axis(next(iter(labels.values()))),
            "checkpoints": sweep_axes.checkpoint_axis(list(of_checkpoints)) if checkpoints else [],
            "methods": [Choice(e, sweep_axes.method(e)) for e in entries("methods", methods)],
            "attention scales": sweep_axes.attention_scales(attention_scales, methods),
            SIZES: [Choice(e, parse_size(e, tokens)) for e in entries("sizes", sizes)],
            "seeds": numbers("seeds", "seed {}", seeds, 0, 2**64 - 1),
            "steps": numbers("steps", "{} steps", steps, 1, 1000),
            "solvers": [Choice(e, e) for e in sweep_axes.words("solvers", solvers, PACKED_SOLVERS)],
            "guidance scales": numbers(
                "guidance_scales", "guidance {}", guidance_scales, 0, 20, whole=False
            ),
        }
        own = sweep_axes.chosen_extrapolation(model)

        def cell(row: str, column: str, values: Combination) -> SweepCell:
            checkpoint = values.get("checkpoints", MODELS_OWN)
            of_model = of_checkpoints[checkpoint]
            extrapolation = of_model.filled_in(
                sweep_axes.extrapolation(values, own or of_model.config.default_extrapolation)
            )
            return SweepCell(
                row,
                column,
                labels[checkpoint][values["classes"]],
                values[SIZES],
                extrapolation.at(*values[SIZES].grid),
                of_model.config.train_tokens,
                values.get("seeds"),
                values.get("steps"),
                values.get("solvers"),
                values.get("guidance scales"),
                None if checkpoint == MODELS_OWN else checkpoint,
            )

        places = combinations(axes, columns)
        cells = tuple(cell(*place) for place in places)
        sweep = Sweep(cells, host.checkpoint_of(model))
        lines = overview(sweep)
        lines += [
            f"{size.name}: {size.value.report(metadata.config.train_tokens)}"
            for size in axes[SIZES]
        ]
        default = own or metadata.config.default_extrapolation
        extrapolations = dict.fromkeys(
            metadata.filled_in(sweep_axes.extrapolation(values, default)) for *_, values in places
        )
        lines += [
            f"{size.name}: {report(extrapolation, size.value.grid, metadata.config)}"
            for extrapolation in extrapolations
            if extrapolation.label != "none"
            for size in axes[SIZES]
        ]
        return io.NodeOutput(sweep, len(cells), "\n".join(lines))
