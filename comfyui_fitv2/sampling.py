"""From noise to latents."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast, overload

import torch
from torch import Tensor

from .devices import copied_to
from .extrapolation import Extrapolation
from .flow import interpolate, require_rectified_flow
from .guidance import Guidance, guided_velocity, pack, packed_guided_velocity, unpack
from .model import FiT
from .solvers import DEFAULT_SOLVER, Callback, Noise, schedule, solver_named

PackedCallback = Callable[[int, list[Tensor], Tensor, list[Tensor]], None]
"""``Callback`` with a list, one tensor per image, in place of x and of the velocity."""


@overload
def sample(
    model: FiT,
    noise: Tensor,
    y: Tensor,
    solver: str = DEFAULT_SOLVER,
    steps: int = 20,
    guidance: float | Guidance = 1.5,
    extrapolation: Extrapolation | None = None,
    *,
    latents: Tensor | None = None,
    denoise: float = 1.0,
    shift: float = 1.0,
    last_step_size: float | None = None,
    callback: Callback | None = None,
    **solver_options: Any,
) -> Tensor: ...


@overload
def sample(
    model: FiT,
    noise: Sequence[Tensor],
    y: Tensor,
    solver: str = DEFAULT_SOLVER,
    steps: int = 20,
    guidance: float | Guidance = 1.5,
    extrapolation: Extrapolation | Sequence[Extrapolation | None] | None = None,
    *,
    latents: Sequence[Tensor] | None = None,
    denoise: float = 1.0,
    shift: float = 1.0,
    last_step_size: float | None = None,
    callback: PackedCallback | None = None,
    **solver_options: Any,
) -> list[Tensor]: ...


@torch.no_grad()
def sample(
    model: FiT,
    noise: Tensor | Sequence[Tensor],
    y: Tensor,
    solver: str = DEFAULT_SOLVER,
    steps: int = 20,
    guidance: float | Guidance = 1.5,
    extrapolation: Extrapolation | Sequence[Extrapolation | None] | None = None,
    *,
    latents: Tensor | Sequence[Tensor] | None = None,
    denoise: float = 1.0,
    shift: float = 1.0,
    last_step_size: float | None = None,
    callback: Any = None,
    **solver_options: Any,
) -> Tensor | list[Tensor]:
    """Latents, in the model's scale, from ``noise`` and class ids ``y`` (images,).

    Floats ``y`` (images, classes + 1) blend classes by weights, as in ``FiT.forward``; see
    ``labels.class_tensor``.

    ``noise`` (batch, C, H, W) gives latents of that shape. A list of (C, H_i, W_i), of any sizes,
    goes through the model in one packed pass per evaluation and gives a list; then
    ``extrapolation`` may be a list too, and ``latents`` must be one.

    ``solver`` is a key of ``solvers.SOLVERS`` and ``solver_options`` are its own, such as ``rtol``,
    ``diffusion`` or ``noise_source`` (see ``image_noise``). ``guidance`` is a scale or a
    ``Guidance``. ``steps``, ``denoise``, ``shift`` and ``last_step_size`` are those of
    ``solvers.schedule``. With ``latents`` and ``denoise`` below 1 it starts from them at time 1 −
    ``denoise`` (image to image).

    ``callback(step, x, t, velocity)`` runs after each evaluation that starts a step; x and velocity
    are like the result. An adaptive solver chooses its steps for all images of a call together.

    Raises ``ValueError`` for an unknown solver or option, values out of range, ``latents`` of other
    shapes than the noise, class ids that the model does not have, weights that are not finite or of
    other classes, and models that predict noise, and ``SolverError`` where an adaptive solver
    fails. Values of ``y`` that are on a device already are not checked: reading them would wait for
    it.
    """
    require_rectified_flow(model.config)
    integrate = solver_named(solver, **solver_options)
    guidance = guidance if isinstance(guidance, Guidance) else Guidance(guidance)
    last_step = solver_options.get("last_step")
    sigmas = schedule(solver, steps, denoise, shift, last_step_size, last_step)
    times = 1 - sigmas  # on the CPU: solvers read them, and no step waits for the device
    if latents is None and denoise < 1.0:
        raise ValueError(f"denoise {denoise} starts from an image; pass it as latents.")
    if latents is not None and not _are_alike(latents, noise):
        raise ValueError(
            "latents must have the shape of the noise: a tensor like the noise, or a list with the "
            "shapes of its images."
        )
    if not len(noise):
        return noise if isinstance(noise, Tensor) else []
    y = _labels(y, len(noise), model.config.null_class, noise[0].device)

    if isinstance(noise, Tensor):
        if not (extrapolation is None or isinstance(extrapolation, Extrapolation)):
            raise ValueError("One extrapolation per image needs a list of noise, not one tensor.")
        x = noise if latents is None else interpolate(cast(Tensor, latents), noise, float(times[0]))
        return integrate(guided_velocity(model, y, guidance, extrapolation), x, times, callback)

    shapes = [tuple(image.shape) for image in noise]
    x = pack(noise)
    if latents is not None:
        x = interpolate(pack(list(latents)), x, float(times[0]))
    velocity = packed_guided_velocity(model, shapes, y, guidance, extrapolation)
    return unpack(integrate(velocity, x, times, _per_image(callback, shapes)), shapes)


def _are_alike(one: Tensor | Sequence[Tensor], other: Tensor | Sequence[Tensor]) -> bool:
    """Whether these are two tensors, or two lists, of images with the same shapes."""
    same_kind = isinstance(one, Tensor) == isinstance(other, Tensor)
    return same_kind and [image.shape for image in one] == [image.shape for image in other]


def _per_image(callback: PackedCallback | None, shapes: Sequence[Sequence[int]]) -> Callback | None:
    """A callback for packed vectors that calls ``callback`` with their images."""
    if callback is None:
        return None
    return lambda step, x, t, velocity: callback(
        step, unpack(x, shapes), t, unpack(velocity, shapes)
    )


def _labels(y: Tensor, count: int, null_class: int, device: torch.device) -> Tensor:
    """``y`` on the ``device``, checked where that needs no wait: on the CPU."""
    y = torch.as_tensor(y)
    if y.is_floating_point():
        if y.shape != (count, null_class + 1) or (y.is_cpu and not y.isfinite().all()):
            raise ValueError(
                f"y must hold finite weights of {null_class + 1} classes (the last is null) for "
                f"each of {count} images, not {tuple(y.shape)}."
            )
        return copied_to(device, y)
    if y.shape != (count,) or (y.is_cpu and not 0 <= int(y.min()) <= int(y.max()) <= null_class):
        raise ValueError(
            f"y must hold one class id of 0 to {null_class} ({null_class} = null) for each of "
            f"{count} images, not {y.tolist()}."
        )
    return copied_to(device, y)


def image_noise(generators: Sequence[torch.Generator], shapes: Sequence[Sequence[int]]) -> Noise:
    """A ``noise_source`` for stochastic solvers with a generator of its own for each image.

    ``shapes`` are those of the images, without a batch axis. It serves a batch of one shape as well
    as a packed vector, and an image gets the same noise in both.
    """

    def noise(x: Tensor) -> Tensor:
        images = [
            torch.randn(tuple(shape), generator=generator, device=generator.device)
            for generator, shape in zip(generators, shapes, strict=True)
        ]
        return copied_to(x.device, pack(images).view(x.shape), x.dtype)

    return noise


def resolution_shift(tokens: int, train_tokens: int) -> float:
    """The shift √(tokens / train_tokens), at least 1, of an image larger than the trained size.

    With it the steps of the larger image are as noisy as those at the trained size (arXiv
    2403.03206, eq. 23).
    """
    return max(1.0, math.sqrt(tokens / train_tokens))
