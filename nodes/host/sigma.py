"""ComfyUI's sigma and FiT's time: where one becomes the other, and where the sign turns.

ComfyUI measures noise: sigma is 1 at noise and 0 at data, and flow models return noise − data. FiT
measures data: t is 0 at noise and 1 at data, and it returns the velocity data − noise. This is one
model evaluation of one of our solvers; ComfyUI's own samplers use the part from
``model(x, sigma)`` to ``guided x0``:

    sampling.py   schedule                          sigmas that fall from 1 to 0
    sigma.py      t = 1 − sigma                     our solvers step upwards in t
    sampling.py   model(x, sigma)                   with sigma = 1 − t, as ComfyUI asks
      ComfyUI       class and null class              in one batch or one after the other
      model.py      timestep = sigma                  without the factor that some nodes put on it
      sigma.py      t = 1 − timestep                  in fp32, before any cast
      network.py    velocity = FiT(x, t, class ids)   data − noise
      network.py    −velocity                         noise − data, as ComfyUI expects
      ComfyUI       x0 = x − sigma · (−velocity)      the predicted data, for each of the two
      guidance.py   guided x0                         ComfyUI's guidance, then our hooks
    sampling.py   velocity = (guided x0 − x) / sigma  what the solver integrates

A FiT of version 1 predicts noise at DDPM timesteps, as ComfyUI's EPS models do: it needs neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from torch import Tensor

from ...comfyui_fitv2.flow import Flow, flow_of

if TYPE_CHECKING:
    from .model import FiTModel

Number = TypeVar("Number", float, Tensor)


def time_of_sigma(sigma: Number) -> Number:
    """The time of a rectified flow, 1 = data, at the noise level ``sigma``."""
    return 1 - sigma


def sigma_of_time(t: Number) -> Number:
    """The noise level of a rectified flow at the time ``t``, 1 = data."""
    return 1 - t


def model_time(flow: Flow, timestep: Tensor) -> Tensor:
    """The model's own time for the host's ``timestep`` (batch,): a sigma, or a DDPM timestep.

    In fp32, before any cast could round it.
    """
    return timestep if flow.predicts_noise else time_of_sigma(timestep.float())


def sampler_time(model: FiTModel, sigma: Tensor) -> float:
    """The time in [0, 1], 1 = data, of the sampler's ``sigma`` (batch,), for either kind of FiT."""
    flow = flow_of(model.metadata.config)
    if flow.predicts_noise:
        timestep = model.model_sampling.timestep(sigma.max())
        return flow.rope_time(timestep.cpu().double()).item()  # MPS has no float64
    return time_of_sigma(sigma.max().item())
