"""FiT Resolution Sweep: sizes, methods, classes, seeds and more, in all combinations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from comfy_api.latest import io

from ..comfyui_fitv2.extrapolation import ALL_METHODS, ATTENTION_SCALES, Extrapolation
from ..comfyui_fitv2.labels import resolve_labels, split_list
from ..comfyui_fitv2.metadata import Metadata
from ..comfyui_fitv2.number_list import parse_numbers
from ..comfyui_fitv2.resolution import parse_size
from ..comfyui_fitv2.typed_text import COMMA
from . import host, inputs
from .extrapolation import report
from .sweep_cells import AXES, SIZES, Choice, Combination, Sweep, SweepCell, combinations
from .sweep_report import overview

FIT_SWEEP = io.Custom("FIT_SWEEP")
MODELS_OWN = "default"
_NUMBERS = 'Numbers with commas between them; ranges as "1..8" or "1, 3, .., 9".'
_EMPTY = "Empty: what FiT Sweep Sampler is set to."


class FiTResolutionSweep(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        def more(name: str, tooltip: str) -> io.String.Input:
            return io.String.Input(
                name, default="", optional=True, advanced=True, tooltip=tooltip
            )

        return io.Schema(
            node_id="FiTResolutionSweep",
            display_name="FiT Resolution Sweep",
            category="FiT",
            description="Lists of sizes, extrapolation methods, classes, seeds and more: every "
            "combination becomes an image, for FiT Sweep Sampler and FiT Compare Sheet.",
            search_aliases=[
                "fitv2",
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
                more(
                    "attention_scales",
                    f"Attention scales to try with every method: {', '.join(ATTENTION_SCALES)}. "
                    "Empty: that of each method.",
                ),
                more("seeds", f"Seeds of the starting noise. {_NUMBERS} {_EMPTY}"),
                more("steps", f"Numbers of steps. {_NUMBERS} {_EMPTY}"),
                more(
                    "solvers", f"Names with commas: {', '.join(host.PACKED_SOLVERS)}. {_EMPTY}"
                ),
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
    def fingerprint_inputs(cls, checkpoints: str = "", **_: object) -> list[tuple[str, int, int]]:
        # A training run may write the same name again: then it is another model.
        found = []
        for name in split_list(checkpoints):
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
        of_checkpoints = _checkpoints(checkpoints, metadata)
        labels = {
            name: resolve_labels(classes, m.class_names, m.config.num_classes)
            for name, m in of_checkpoints.items()
        }
        first = next(iter(labels.values()))
        own = host.extrapolation_of(model)
        axes = {
            # A class may have another id in another checkpoint: they are told apart by place.
            "classes": _different([Choice(str(label), i) for i, label in enumerate(first)]),
            "checkpoints": _named_files(list(of_checkpoints)) if checkpoints.strip() else [],
            "methods": [
                Choice(text, _method(text)) for text in _entries("methods", methods)
            ],
            "attention scales": _scales(attention_scales, methods),
            SIZES: [
                Choice(text, parse_size(text, tokens)) for text in _entries("sizes", sizes)
            ],
            "seeds": _numbers("seeds", "seed {}", seeds, 0, 2**64 - 1),
            "steps": _numbers("steps", "{} steps", steps, 1, 1000),
            "solvers": _solvers(solvers),
            "guidance scales": _numbers(
                "guidance_scales", "guidance {}", guidance_scales, 0, 20, whole=False
            ),
        }

        def cell(row: str, column: str, values: Combination) -> SweepCell:
            checkpoint = values.get("checkpoints", MODELS_OWN)
            config = of_checkpoints[checkpoint].config
            extrapolation = values["methods"]
            if extrapolation is None:
                chosen = own != metadata.config.default_extrapolation
                extrapolation = own if chosen else config.default_extrapolation
            if (scale := values.get("attention scales")) is not None:
                extrapolation = replace(extrapolation, attention_scale=scale)
            return SweepCell(
                row,
                column,
                labels[checkpoint][values["classes"]],
                values[SIZES],
                extrapolation,
                config.train_tokens,
                values.get("seeds"),
                values.get("steps"),
                values.get("solvers"),
                values.get("guidance scales"),
                None if checkpoint == MODELS_OWN else checkpoint,
            )

        cells = tuple(cell(*place) for place in combinations(axes, columns))
        sweep = Sweep(cells, host.checkpoint_of(model))
        lines = overview(sweep)
        lines += [
            f"{size.name}: {size.value.report(metadata.config.train_tokens)}"
            for size in axes[SIZES]
        ]
        extrapolations = dict.fromkeys(
            cell.extrapolation for cell in cells if cell.checkpoint is None
        )
        lines += [
            f"{size.name}: {report(extrapolation, size.value.grid, metadata.config)}"
            for extrapolation in extrapolations
            if extrapolation.label != "none"
            for size in axes[SIZES]
        ]
        return io.NodeOutput(sweep, len(cells), "\n".join(lines))


def _entries(what: str, text: str) -> list[str]:
    """The different entries of a list. Raises ``ValueError`` where there are none."""
    entries = list(dict.fromkeys(split_list(text)))
    if not entries:
        raise ValueError(f"{what} is empty: write one entry per line, or separate with semicolons.")
    return entries


def _different(choices: Sequence[Choice]) -> list[Choice]:
    """The first choice of each name."""
    return list({choice.name: choice for choice in reversed(choices)}.values())[::-1]


def _method(text: str) -> Extrapolation | None:
    """The extrapolation of an entry; None is the model's own."""
    return None if text.lower() == MODELS_OWN else Extrapolation.parse(text)


def _scales(text: str, methods: str) -> list[Choice]:
    """The attention scales of a list. Raises ``ValueError`` where methods have some already."""
    scales = _words("attention_scales", text, ATTENTION_SCALES)
    if scales and (both := [entry for entry in split_list(methods) if "+" in entry]):
        raise ValueError(
            f"The method {both[0]!r} has an attention scale, and attention_scales lists others. "
            "Write attention scales in one of the two lists only."
        )
    return [
        Choice(f"attention scale {scale}" if scale != "none" else "no attention scale", scale)
        for scale in scales
    ]


def _solvers(text: str) -> list[Choice]:
    return [Choice(name, name) for name in _words("solvers", text, host.PACKED_SOLVERS)]


def _words(what: str, text: str, known: Sequence[str] | Mapping[str, object]) -> list[str]:
    """The different words of a list, in the spelling of those that are ``known``."""
    spelt: Callable[[str], str | None] = {name.lower(): name for name in known}.get
    words = []
    for entry in split_list(COMMA.sub(";", text)):
        word = spelt(entry.lower())
        if word is None:
            raise ValueError(f"{what}: {entry!r} is unknown. Choose from {', '.join(known)}.")
        words.append(word)
    return list(dict.fromkeys(words))


def _numbers(
    what: str, name: str, text: str, least: int, most: int, whole: bool = True
) -> list[Choice]:
    numbers = parse_numbers(what, text, least, most, whole=whole)
    return [Choice(name.format(f"{n:g}" if not whole else n), n) for n in numbers]


def _checkpoints(text: str, own: Metadata) -> dict[str, Metadata]:
    """The checkpoints of a list by their names in FiT Loader; the MODEL alone without a list.

    Raises ``ValueError`` for one that FiT Loader does not list.
    """
    found = {}
    for entry in split_list(text) or [MODELS_OWN]:
        if entry.lower() == MODELS_OWN:
            found[MODELS_OWN] = own
            continue
        name = host.find_checkpoint(entry)
        if name is None:
            raise ValueError(
                f"checkpoints: no file of FiT Loader is called {entry!r}. There are "
                f"{', '.join(host.checkpoint_names())}."
            )
        found[name] = host.read_metadata(name)
    return found


def _named_files(names: Sequence[str]) -> list[Choice]:
    """Files without their endings and folders, where that tells them apart."""
    short = [name.replace("\\", "/").rpartition("/")[2].rpartition(".")[0] or name for name in names]
    several = len(set(short)) < len(short)
    shown = names if several else short
    return [
        Choice("the model" if name == MODELS_OWN else text, name)
        for name, text in zip(names, shown, strict=True)
    ]
