"""Blueprints: whole workflows as one node each, for the node library."""

from __future__ import annotations

from typing import Any

from ..blueprint import blueprint
from ..canvas import Canvas
from .parts import SOLVER, loaders, sampler


def picture(canvas: Canvas, name: str) -> dict[str, Any]:
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Finland")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2")
    drawn = sampler(canvas, loader[0], label, size[0], seed=9)
    decode = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
    canvas.column(0, 0, loader, vae)
    canvas.column(380, 0, label, size)
    canvas.column(760, 0, drawn, decode)
    return blueprint(
        canvas,
        name,
        "Draws an image of a class in any shape: class, shape and seed in, an image out.",
        ["fitv2", "flag", "class to image"],
        {
            "class": [(label, "text")],
            "shape": [(size, "aspect_ratio")],
            "seed": [(drawn, "seed")],
            "guidance": [(drawn, "guidance")],
            "checkpoint": [(loader, "checkpoint")],
            "vae": [(vae, "vae_name")],
        },
        {"IMAGE": decode[0]},
    )


def inpaint(canvas: Canvas, name: str) -> dict[str, Any]:
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Italy")
    encode = canvas.add("VAEEncode", vae=vae[0])
    masked = canvas.add("SetLatentNoiseMask", samples=encode[0])
    drawn = sampler(canvas, loader[0], label, masked[0], seed=0)
    decode = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
    # Outside of the mask the pixels stay exactly, whatever the VAE would make of them.
    kept = canvas.add("ImageCompositeMasked", source=decode[0])
    canvas.column(0, 0, loader, vae)
    canvas.column(380, 0, label, encode, masked)
    canvas.column(760, 0, drawn)
    canvas.column(1140, 0, decode, kept)
    return blueprint(
        canvas,
        name,
        "Draws the masked part of an image again, as a class; the rest stays. The sides of the "
        "image must be multiples of 16 pixels.",
        ["fitv2", "mask", "inpainting", "fill"],
        {
            "image": [(encode, "pixels"), (kept, "destination")],
            "mask": [(masked, "mask"), (kept, "mask")],
            "class": [(label, "text")],
            "seed": [(drawn, "seed")],
            "guidance": [(drawn, "guidance")],
            "denoise": [(drawn, "denoise")],
            "checkpoint": [(loader, "checkpoint")],
            "vae": [(vae, "vae_name")],
        },
        {"IMAGE": kept[0]},
    )


def beyond(canvas: Canvas, name: str) -> dict[str, Any]:
    loader, vae = loaders(canvas)
    label = canvas.add("FiTClassLabel", model=loader[0], text="Brazil")
    size = canvas.add("FiTResolution", model=loader[0], aspect_ratio="3:2", tokens=576)
    extrapolation = canvas.add("FiTExtrapolation", model=loader[0], method="auto", latent=size[0])
    drawn = sampler(canvas, extrapolation[0], label, size[0], seed=9)
    decode = canvas.add("VAEDecode", samples=drawn[0], vae=vae[0])
    canvas.column(0, 0, loader, vae)
    canvas.column(380, 0, label, size)
    canvas.column(760, 0, extrapolation, drawn)
    canvas.column(1140, 0, decode)
    return blueprint(
        canvas,
        name,
        "Draws an image larger than the model was trained on. 576 tokens are 1.5 times the "
        "trained side; the report says what the method does to the size.",
        ["fitv2", "extrapolation", "high resolution", "large image"],
        {
            "class": [(label, "text")],
            "shape": [(size, "aspect_ratio")],
            "tokens": [(size, "tokens")],
            "method": [(extrapolation, "method")],
            "seed": [(drawn, "seed")],
            "guidance": [(drawn, "guidance")],
            "checkpoint": [(loader, "checkpoint")],
            "vae": [(vae, "vae_name")],
        },
        {"IMAGE": decode[0], "report": extrapolation["report"]},
    )


def comparison(canvas: Canvas, name: str) -> dict[str, Any]:
    loader, vae = loaders(canvas)
    sweep = canvas.add(
        "FiTResolutionSweep",
        model=loader[0],
        classes="Finland; Brazil",
        sizes="1:1\n3:2\n2:1",
    )
    drawn = canvas.add("FiTSweepSampler", **SOLVER, model=loader[0], sweep=sweep["sweep"], seed=2)
    decode = canvas.add(
        "FiTSweepDecoder", latents=drawn["latents"], vae=vae[0], sweep=drawn["sweep"]
    )
    sheet = canvas.add("FiTCompareSheet", images=decode[0], sweep=drawn["sweep"])
    canvas.column(0, 0, loader, vae)
    canvas.column(380, 0, sweep)
    canvas.column(800, 0, drawn, decode)
    canvas.column(1200, 0, sheet)
    return blueprint(
        canvas,
        name,
        "Draws classes × sizes × extrapolation methods and puts them on one labelled sheet.",
        ["fitv2", "compare", "grid", "xy plot"],
        {
            "classes": [(sweep, "classes")],
            "sizes": [(sweep, "sizes")],
            "methods": [(sweep, "methods")],
            "seed": [(drawn, "seed")],
            "guidance": [(drawn, "guidance")],
            "checkpoint": [(loader, "checkpoint")],
            "vae": [(vae, "vae_name")],
        },
        {"IMAGE": sheet[0]},
    )
