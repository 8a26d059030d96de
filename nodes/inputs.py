"""The inputs that several nodes have, declared once."""

from __future__ import annotations

from collections.abc import Sequence

from comfy_api.latest import io

from ..comfyui_fitv2.resolution import TOKEN_PIXELS
from ..comfyui_fitv2.solvers import DEFAULT_SOLVER, SOLVERS

TOKEN = f"{TOKEN_PIXELS} × {TOKEN_PIXELS} pixels"
MAX_TOKENS = 65536
"""The largest budget of tokens that a node takes."""


def seed(tooltip: str) -> io.Int.Input:
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip=tooltip,
    )


def steps() -> io.Int.Input:
    return io.Int.Input(
        "steps",
        default=20,
        min=1,
        max=1000,
        tooltip="Steps from noise to image. Some solvers need several model evaluations each.",
    )


def solver(names: Sequence[str] = tuple(SOLVERS)) -> io.Combo.Input:
    return io.Combo.Input(
        "solver",
        options=list(names),
        default=DEFAULT_SOLVER,
        tooltip="\n".join(f"{name}: {SOLVERS[name].summary}" for name in names),
    )


def guidance() -> io.Float.Input:
    return io.Float.Input(
        "guidance",
        display_name="guidance_scale",
        default=1.5,
        min=0.0,
        max=20.0,
        step=0.1,
        round=0.01,
        tooltip="Scale of classifier-free guidance. 1 turns it off, which is twice as fast.",
    )


def denoise() -> io.Float.Input:
    return io.Float.Input(
        "denoise",
        default=1.0,
        min=0.01,
        max=1.0,
        step=0.01,
        tooltip="How much of the image to generate anew: 1 starts from noise and ignores the image "
        "in the latent, 0.6 keeps its layout. Below 1 the latent must hold an image.",
    )


def tokens(tooltip: str) -> io.Int.Input:
    return io.Int.Input("tokens", default=256, min=1, max=MAX_TOKENS, tooltip=tooltip)
