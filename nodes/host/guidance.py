"""``Guidance`` as hooks on a MODEL, which every sampler of the host then follows."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import comfy.samplers
import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...comfyui_fitv2.guidance import GUIDED_CHANNELS, Guidance
from .network import LATENT_SHAPES
from .sigma import sampler_time

Predict = Callable[[dict[str, Any]], list[Tensor]]
"""The host's hook for the predictions of both conditionings."""


def with_guidance(model: ModelPatcher, guidance: Guidance) -> ModelPatcher:
    """A clone with this guidance; the scale stays the sampler's, not ``guidance.scale``.

    Of two in a row the last one counts. Hooks that other nodes have set stay.
    """
    clone = model.clone()
    options: dict[str, Any] = clone.model_options
    hooks = [
        hook
        for hook in options.get("sampler_post_cfg_function", [])
        if hook is not keep_last_channels_unguided
    ]
    if guidance.channels is not None:
        hooks.append(keep_last_channels_unguided)
    options["sampler_post_cfg_function"] = hooks

    if _made_by(options.get("sampler_cfg_function"), _scheduled_guidance):
        del options["sampler_cfg_function"]
    if guidance.power:
        options["sampler_cfg_function"] = partial(_scheduled_guidance, guidance)

    predict = options.pop("sampler_calc_cond_batch_function", None)
    if _made_by(predict, _interval_guidance):
        predict = predict.args[1]
    if guidance.interval != (0.0, 1.0):
        predict = partial(_interval_guidance, guidance, predict)
    if predict is not None:
        options["sampler_calc_cond_batch_function"] = predict
    return clone


def is_ours(hook: Any) -> bool:
    """Whether this module made a hook, and with it none of another node."""
    if _made_by(hook, _interval_guidance):
        return hook.args[1] is None
    return hook is keep_last_channels_unguided or _made_by(hook, _scheduled_guidance)


def _made_by(hook: Any, function: Callable[..., Any]) -> bool:
    return isinstance(hook, partial) and hook.func is function


def keep_last_channels_unguided(args: dict[str, Any]) -> Tensor:
    """Guide only the first channels, as the published sampler does.

    The host guides all of them; this hook runs after it and restores the others.
    """
    guided, conditional = args["denoised"], args["cond_denoised"]
    packed = (cond["model_conds"].get(LATENT_SHAPES) for cond in args["cond"])
    shapes = next((cond.cond for cond in packed if cond is not None), None)
    if shapes is None:
        return _first_channels_of(guided, conditional)
    pairs = zip(
        comfy.utils.unpack_latents(guided, shapes),
        comfy.utils.unpack_latents(conditional, shapes),
        strict=True,
    )
    return comfy.utils.pack_latents([_first_channels_of(g, c) for g, c in pairs])[0]


def _first_channels_of(guided: Tensor, conditional: Tensor) -> Tensor:
    return torch.cat([guided[:, :GUIDED_CHANNELS], conditional[:, GUIDED_CHANNELS:]], dim=1)


def _scheduled_guidance(guidance: Guidance, args: dict[str, Any]) -> Tensor:
    """The power-cosine scale instead of the constant one; the host expects x − data."""
    scale = Guidance(args["cond_scale"], guidance.power).scale_at(_time(args))
    return args["input"] - torch.lerp(args["uncond_denoised"], args["cond_denoised"], scale)


def _interval_guidance(
    guidance: Guidance, inner: Predict | None, args: dict[str, Any]
) -> list[Tensor]:
    """Evaluate the class alone outside of the interval, and return it for both conditionings.

    Guidance of any scale between equal predictions gives that prediction. ``inner`` is the hook
    that another node had set.
    """

    def predict(conds: list[Any]) -> list[Tensor]:
        if inner is not None:
            return inner({**args, "conds": conds})
        return comfy.samplers.calc_cond_batch(
            args["model"], conds, args["input"], args["sigma"], args["model_options"]
        )

    if len(args["conds"]) != 2 or guidance.acts_at(_time(args)):
        return predict(args["conds"])
    conditional = predict([args["conds"][0], None])[0]
    return [conditional, conditional]


def _time(args: dict[str, Any]) -> float:
    return sampler_time(args["model"], args["sigma"])
