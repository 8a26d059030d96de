"""FiT as one of ComfyUI's own models: the pack's only contact with ComfyUI's internals.

Nodes import from here, and ``comfy_api``; ``surface.py`` lists what this package relies on.

Time and sign. ComfyUI measures noise: sigma is 1 at noise and 0 at data, and flow models return
noise − data. FiT measures data: t is 0 at noise and 1 at data, and it returns the velocity data −
noise. This is one model evaluation of one of our solvers; ComfyUI's own samplers use the part from
``model(x, sigma)`` to ``guided x0``:

    sampling.py   schedule                          sigmas that fall from 1 to 0
    sampling.py   t = 1 − sigma                     our solvers step upwards in t
    sampling.py   model(x, sigma)                   with sigma = 1 − t, as ComfyUI asks
      ComfyUI       class and null class              in one batch or one after the other
      model.py      timestep = sigma                  without the factor that some nodes put on it
      network.py    t = 1 − timestep                  in fp32, before any cast
      network.py    velocity = FiT(x, t, class ids)   data − noise
      network.py    −velocity                         noise − data, as ComfyUI expects
      ComfyUI       x0 = x − sigma · (−velocity)      the predicted data, for each of the two
      guidance.py   guided x0                         ComfyUI's guidance, then our hooks
    sampling.py   velocity = (guided x0 − x) / sigma  what the solver integrates

A FiT of version 1 predicts noise at DDPM timesteps, as ComfyUI's EPS models do: it needs neither.

Class ids travel as integers. Latents keep the scale of the VAE on every wire: ComfyUI itself
applies ``LatentFormat``. Latents of several sizes go through ComfyUI as a NestedTensor, which it
flattens to (rows, 1, all values) with ``latent_shapes``, and reach the network as a list, for one
pass without padding.
"""

from comfy.model_patcher import ModelPatcher

from .conditioning import Conditioning, conditioning
from .guidance import with_guidance
from .loading import (
    WEIGHT_DTYPES,
    checkpoint_names,
    checkpoint_path,
    load,
    register_model_folders,
)
from .model import extrapolation_of, require_fit, require_flow, with_extrapolation
from .network import grid_of
from .previews import PreviewOfAll
from .sampling import SamplingSettings, empty_latent, sample, sample_packed, sampler

__all__ = [
    "WEIGHT_DTYPES",
    "Conditioning",
    "ModelPatcher",
    "PreviewOfAll",
    "SamplingSettings",
    "checkpoint_names",
    "checkpoint_path",
    "conditioning",
    "empty_latent",
    "extrapolation_of",
    "grid_of",
    "load",
    "register_model_folders",
    "require_fit",
    "require_flow",
    "sample",
    "sample_packed",
    "sampler",
    "with_extrapolation",
    "with_guidance",
]
