"""From a sweep to its latents: what was drawn before is kept, the rest goes into packed passes."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from PIL import Image
from torch import Tensor

from ..comfyui_fitv2.labels import Blend
from ..sheets.contact_sheet import mosaic
from . import host
from .sweep_cells import Sweep, SweepCell
from .sweep_report import counted, evaluations

KEPT = host.CellCache(256 << 20)
"""Latents of sweeps: room for 16,000 images of 256 × 256 pixels."""


@dataclass(slots=True)
class _Drawing:
    """An image to draw, and the numbers of all cells that show it."""

    cell: SweepCell
    key: Hashable
    numbers: list[int] = field(default_factory=list)


def draw(
    model: host.ModelPatcher, sweep: Sweep, tokens_per_pass: int, say: Callable[[str], None]
) -> list[Tensor]:
    """Latents (1, C, H_i, W_i) of all cells of a sweep that has all settings.

    Those of a pass are kept as soon as it ends, so that a sweep that is stopped goes on there.
    ``say`` gets a line on how much there is to draw, before it is drawn.
    """
    if found := host.forbids_packing(model):
        logging.info(
            "FiT Sweep Sampler samples its images one by one, because the model has %s, which "
            "may depend on an image as a whole.",
            ", ".join(found),
        )
        tokens_per_pass = 0
    drawings = _drawings(model, sweep)
    latents: dict[int, Tensor] = {}
    missing = []
    for drawing in drawings:
        kept = None if drawing.key is None else KEPT.get(drawing.key)
        if kept is None:
            missing.append(drawing)
        else:
            latents |= dict.fromkeys(drawing.numbers, kept)
    passes = list(_passes(missing, tokens_per_pass))
    say(_plan(sweep, drawings, passes))
    previews = host.PreviewOfAll(
        model,
        sum(drawings[0].cell.steps or 0 for drawings in passes),
        host.preview_size(max(len(sweep.rows), len(sweep.columns))),
        partial(_mosaic, sweep),
    )
    for number, kept in latents.items():
        previews.add([number], kept)
    first_step, checkpoint, used = 0, None, model
    for together in passes:
        first = together[0].cell
        if first.checkpoint != checkpoint:
            checkpoint, used = first.checkpoint, _model_of(model, first)
        callback = previews.of_pass([drawing.numbers for drawing in together], first_step)
        drawn = _draw_pass(used, [drawing.cell for drawing in together], callback)
        first_step += first.steps or 0
        for drawing, sampled in zip(together, drawn, strict=True):
            if drawing.key is not None:
                KEPT.put(drawing.key, sampled, model.model)
            latents |= dict.fromkeys(drawing.numbers, sampled)
    return [latents[number] for number in range(len(sweep.cells))]


def _drawings(model: host.ModelPatcher, sweep: Sweep) -> list[_Drawing]:
    """What there is to draw: cells that would be the same image are one."""
    of_models: dict[str | None, Hashable | None] = {}
    for checkpoint in dict.fromkeys(cell.checkpoint for cell in sweep.cells):
        weights = None if checkpoint is None else host.file_key(checkpoint, model)
        of_models[checkpoint] = host.model_key(model, weights)
    drawings: dict[Hashable, _Drawing] = {}
    for number, cell in enumerate(sweep.cells):
        of_model = of_models[cell.checkpoint]
        key = None if of_model is None else (of_model, *_cell_key(cell))
        drawing = drawings.setdefault(number if key is None else key, _Drawing(cell, key))
        drawing.numbers.append(number)
    return list(drawings.values())


def _cell_key(cell: SweepCell) -> tuple[Hashable, ...]:
    """All that decides an image beside the model."""
    label = cell.label
    classes = (
        tuple(sorted((part.id, weight) for part, weight in label.parts))
        if isinstance(label, Blend)
        else label.id
    )
    grid = cell.resolution.grid
    return (
        classes,
        grid,
        cell.extrapolation if cell.extrapolation.changes(*grid) else None,
        cell.seed,
        cell.steps,
        cell.solver,
        cell.guidance_scale,
    )


def _passes(drawings: Sequence[_Drawing], max_tokens: int) -> Iterator[list[_Drawing]]:
    """Images that can be drawn together, as many per pass as ``max_tokens`` allows, at least one.

    Images of one checkpoint, solver, number of steps and guidance go together, in their order.
    """
    groups: dict[Hashable, list[_Drawing]] = {}
    for drawing in drawings:
        cell = drawing.cell
        alike = cell.checkpoint, cell.steps, cell.solver, cell.guidance_scale
        groups.setdefault(alike, []).append(drawing)
    for group in groups.values():
        together: list[_Drawing] = []
        tokens = 0
        for drawing in group:
            if together and tokens + drawing.cell.resolution.tokens > max_tokens:
                yield together
                together, tokens = [], 0
            together.append(drawing)
            tokens += drawing.cell.resolution.tokens
        yield together


def _model_of(model: host.ModelPatcher, cell: SweepCell) -> host.ModelPatcher:
    if cell.checkpoint is None:
        return model
    other = host.with_checkpoint(model, cell.checkpoint)
    host.require_flow(other)
    return other


def _draw_pass(
    model: host.ModelPatcher, cells: Sequence[SweepCell], callback: host.StepCallback
) -> list[Tensor]:
    config = host.require_fit(model).metadata.config
    first = cells[0]
    if first.steps is None or first.solver is None or first.guidance_scale is None:
        raise ValueError("A sweep is drawn with all its settings.")
    return host.sample_packed(
        model,
        host.SamplingSettings(first.seed or 0, first.steps, first.solver, first.guidance_scale),
        host.conditioning([cell.label for cell in cells], config.num_classes),
        host.conditioning([config.null_class], config.num_classes),
        [cell.resolution.latent_size for cell in cells],
        [cell.extrapolation for cell in cells],
        [cell.seed or 0 for cell in cells],
        callback,
    )


def _plan(sweep: Sweep, drawings: Sequence[_Drawing], passes: Sequence[Sequence[_Drawing]]) -> str:
    """What there is to do, in a line."""
    missing = [drawing.cell for together in passes for drawing in together]
    parts = [counted(len(sweep.cells), "image")]
    if same := len(sweep.cells) - len(drawings):
        parts.append(f"{same} the same as others")
    if kept := len(drawings) - len(missing):
        parts.append(f"{kept} drawn before")
    to_draw = f"{len(missing)} to draw"
    if missing:
        done = counted(evaluations(missing), "model evaluation")
        to_draw += f" with {done}, in {len(passes)} pass{'' if len(passes) == 1 else 'es'}"
    return ", ".join([*parts, to_draw]) + "."


def _mosaic(sweep: Sweep, images: Mapping[int, Image.Image]) -> Image.Image:
    """The images so far, by the number of their cell, in their places."""
    places = [images.get(number) for number in range(len(sweep.cells))]
    width = len(sweep.columns)
    return mosaic([places[i : i + width] for i in range(0, len(places), width)])
