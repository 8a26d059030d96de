"""What the widgets in the browser ask: JSON about models, sizes, labels and solvers.

Only checkpoints that FiT Loader lists, and runs in the pack's folder of runs, can be asked about.
Of a checkpoint only the header is read.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..comfyui_fitv2.checkpoint import CheckpointError, read_metadata
from ..comfyui_fitv2.labels import parts_of, read_entries
from ..comfyui_fitv2.metadata import Metadata
from ..comfyui_fitv2.resolution import TOKEN_PIXELS, Resolution, for_ratio, parse_size
from ..comfyui_fitv2.solvers import SOLVERS
from ..sheets import class_sheet as class_sheets
from . import host
from .host import Query, RouteError
from .inputs import MAX_TOKENS
from .loader import AUTO
from .resolution import DEFAULT_TRAIN_LENGTH
from .run_folder import RUNS, RunError, find_run, newest, runs_in
from .solvers import FiTSolver

ROOT = Path(__file__).resolve().parent.parent
"""The folder of the pack, as in FiT Training Run."""
MOST_RATIOS = 64
LONGEST_TEXT = 100_000
"""In characters, of a list of classes."""
LONGEST_TRAINED_RATIO = "3:1"
"""Images of up to this ratio are counted among what a model was trained on."""
_QUOTED = 80


def register() -> None:
    """Add all routes to ComfyUI's web server, where there is one."""
    host.add_json_routes(
        {
            "/fitv2/model": model,
            "/fitv2/class_sheet": class_sheet,
            "/fitv2/sizes": sizes,
            "/fitv2/labels": labels,
            "/fitv2/solvers": solvers,
        }
    )


def model(query: Query) -> dict[str, Any]:
    """What a checkpoint was trained on, and its classes.

    ``checkpoint`` is a name that FiT Loader lists, and ``preset`` its input; or ``run`` and
    ``average`` are those of FiT Training Run.
    """
    path, metadata = _model(query)
    config = metadata.config
    names, synonyms = metadata.class_names, metadata.class_synonyms
    return {
        "checkpoint": _text(query, "checkpoint"),
        **_trained_size(config.train_tokens, config.train_length),
        "classes": [
            {
                "id": i,
                "name": names[i] if names else None,
                "synonyms": list(synonyms[i]) if synonyms else [],
            }
            for i in range(config.num_classes)
        ],
        "has_class_sheet": class_sheets.sheet_path(path).is_file(),
        "default_extrapolation": config.extrapolation,
    }


def class_sheet(query: Query) -> dict[str, Any]:
    """The small pictures of a checkpoint's classes, in one image."""
    path, _ = _model(query)
    sheet = class_sheets.sheet_path(path)
    if not sheet.is_file():
        raise RouteError(404, f"{path.name} has no class sheet: there is no {sheet.name} with it.")
    try:
        read = class_sheets.read(sheet)
    except ValueError:
        raise RouteError(400, f"{sheet.name} is not a class sheet.") from None
    image = base64.b64encode(read.image).decode()
    return {
        "image": f"data:image/webp;base64,{image}",
        "columns": read.layout.columns,
        "tile_width": read.layout.tile_width,
        "tile_height": read.layout.tile_height,
    }


def sizes(query: Query) -> dict[str, Any]:
    """The size of each of several ratios within ``tokens``.

    ``ratios`` are separated by commas, or given one by one; a size in pixels such as 300x200 is
    one too, as in a sweep. In their place ``ratio`` is one that FiT Resolution takes, and no size.
    What is none, or is too long for the tokens, has an error in place of a size. ``unconnected`` is
    the trained size that is assumed where no model is known.
    """
    tokens = _tokens(query)
    if "ratio" in query:
        found = [_size(_text(query, "ratio"), tokens, for_ratio)]
    else:
        given = query.get("ratios", ())
        ratios = [ratio for text in given for ratio in _split_ratios(text)]
        if not 0 < len(ratios) <= MOST_RATIOS:
            raise RouteError(400, f"Give 1 to {MOST_RATIOS} ratios such as 3:2, not {len(ratios)}.")
        found = [_size(ratio, tokens) for ratio in ratios]
    return {
        "sizes": found,
        # Of a FiT Resolution without a model.
        "unconnected": _trained_size(DEFAULT_TRAIN_LENGTH**2, DEFAULT_TRAIN_LENGTH),
    }


def labels(query: Query) -> dict[str, Any]:
    """How each entry of a typed list of classes is understood.

    ``start`` and ``end`` count code points, not the units of UTF-16 that JavaScript counts.
    """
    text = _text(query, "text")
    if len(text) > LONGEST_TEXT:
        raise RouteError(400, f"The text is longer than {LONGEST_TEXT} characters.")
    _, metadata = _model(query)
    read = read_entries(
        text, metadata.class_names, metadata.config.num_classes, metadata.class_synonyms
    )
    entries = [
        {
            "text": entry.text,
            "start": entry.start,
            "end": entry.end,
            "label": None if entry.label is None else str(entry.label),
            "ids": entry.class_ids,
            "weights": [weight for _, weight in parts_of(entry.label)] if entry.label else [],
            "error": entry.error,
            "nearest": [{"id": label.id, "name": label.name} for label in entry.nearest],
        }
        for entry in read
    ]
    return {"entries": entries}


def solvers(_: Query) -> dict[str, Any]:
    """The options that each solver takes, by their input names on FiT Solver."""
    inputs = {declared.id for declared in FiTSolver.define_schema().inputs}
    return {
        "solvers": {
            name: [option for option in solver.options if option in inputs]
            for name, solver in SOLVERS.items()
        }
    }


def _model(query: Query) -> tuple[Path, Metadata]:
    """The file that a query means and what it says of itself. Raises ``RouteError``."""
    path = _run_weights(query) if "run" in query else _checkpoint_path(query)
    preset = _text(query, "preset")
    try:
        status = path.stat()
        known = (status.st_mtime_ns, status.st_size)
        return path, _metadata(path, None if preset in ("", AUTO) else preset, known)
    except FileNotFoundError:
        raise RouteError(404, f"{path.name} was removed. Refresh the node list (R).") from None
    except CheckpointError as error:  # its text holds the path: that stays on the server
        raise RouteError(400, f"{path.name}: {error.what}") from None


@lru_cache(maxsize=32)
def _metadata(path: Path, preset: str | None, _known: tuple[int, int]) -> Metadata:
    """``_known`` are the time and size of the file: a changed one is read again."""
    return read_metadata(path, preset=preset)


def _checkpoint_path(query: Query) -> Path:
    name = _text(query, "checkpoint")
    if not name:
        raise RouteError(400, "Which checkpoint? Give the name that FiT Loader lists.")
    if name not in host.checkpoint_names():
        raise RouteError(
            404,
            f'No checkpoint "{_shortened(name)}" is in the model folders. Put it there, then '
            "refresh the node list (R).",
        )
    return host.checkpoint_path(name)


def _run_weights(query: Query) -> Path:
    """The newest weights of a run in the pack's folder of runs, and of no other."""
    typed = _text(query, "run").strip()
    runs = runs_in(ROOT / RUNS)
    named = {name: run for run in runs for name in (str(run), str(run.relative_to(ROOT)))}
    try:
        if typed and typed not in named:
            raise RouteError(404, f'"{_shortened(typed)}" is not a run in {RUNS}.')
        run = named[typed] if typed else find_run("", ROOT)
        return newest(run).weights_file(_text(query, "average"))
    except RunError as error:
        raise RouteError(404, str(error)) from None


def _trained_size(train_tokens: int, train_length: int) -> dict[str, int]:
    """The size that a model was trained on; sides are in tokens."""
    return {
        "train_tokens": train_tokens,
        "train_length": train_length,
        "longest_trained_side": for_ratio(LONGEST_TRAINED_RATIO, train_tokens).grid[1],
        "token_pixels": TOKEN_PIXELS,
    }


def _tokens(query: Query) -> int:
    text = _text(query, "tokens")
    tokens = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    if not 1 <= tokens <= MAX_TOKENS:
        raise RouteError(
            400, f'tokens must be a whole number of 1 to {MAX_TOKENS}, not "{_shortened(text)}".'
        )
    return tokens


def _split_ratios(text: str) -> list[str]:
    """The entries of a list; "1,85:1" is one of them."""
    try:
        parse_size(text, MAX_TOKENS)
    except ValueError:
        return [ratio for part in text.split(",") if (ratio := part.strip())]
    return [text.strip()]


def _size(
    ratio: str, tokens: int, parse: Callable[[str, int], Resolution] = parse_size
) -> Mapping[str, Any]:
    try:
        size = parse(ratio, tokens)
    except ValueError as error:
        return {"ratio": ratio, "error": str(error)}
    return {"ratio": ratio, "width": size.width, "height": size.height, "tokens": size.tokens}


def _text(query: Query, name: str) -> str:
    """The value of a name that was given once, or an empty text."""
    values = query.get(name, ())
    if len(values) > 1:
        raise RouteError(400, f"{name} was given {len(values)} times. Give it once.")
    return values[0] if values else ""


def _shortened(text: str) -> str:
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}…"
