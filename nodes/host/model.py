"""FiT as the host's ``BaseModel``, and what nodes ask of such a MODEL."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

import comfy.utils
import torch
from comfy import conds, latent_formats, model_base, supported_models_base
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from ...comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor
from ...comfyui_fitv2.config import FiTConfig
from ...comfyui_fitv2.extrapolation import Extrapolation
from ...comfyui_fitv2.flow import (
    DDPM_TIMESTEPS,
    FIRST_BETA,
    LAST_BETA,
    flow_of,
    require_rectified_flow,
)
from ...comfyui_fitv2.metadata import LatentFormat, Metadata
from ...comfyui_fitv2.preview import preview_features
from .conditioning import for_network, labels_of
from .foreign_labels import with_class_ids
from .network import EXTRAPOLATION, LATENT_SHAPES, HostFiT

# The peak activation memory of a forward pass is proportional to the width, by this factor in the
# host's units; benchmarks/activation_memory.py measures it.
_MEMORY_FACTOR_PER_WIDTH = 0.00034


class FiTModelConfig(supported_models_base.BASE):
    """What the host asks about a model before it is built."""

    unet_extra_config = {}  # noqa: RUF012 — the host's attribute
    sampling_settings = {"shift": 1.0, "multiplier": 1.0}  # noqa: RUF012
    supported_inference_dtypes = [torch.bfloat16, torch.float32]  # noqa: RUF012

    def __init__(self, metadata: Metadata) -> None:
        config = metadata.config
        super().__init__({"image_model": "fitv2", "config": config})
        self.metadata = metadata
        self.latent_format = _host_latent_format(metadata.latent_format, config)
        self.memory_usage_factor = _MEMORY_FACTOR_PER_WIDTH * config.hidden_size
        if flow_of(config).predicts_noise:
            self.sampling_settings = {
                "beta_schedule": "sqrt_linear",  # the host's name for betas that rise linearly
                "linear_start": FIRST_BETA,
                "linear_end": LAST_BETA,
                "timesteps": DDPM_TIMESTEPS,
            }

    def store_in(self, dtype: torch.dtype, cast_dtype: torch.dtype | None) -> torch.dtype:
        """Store matrices in this dtype, and compute in ``cast_dtype`` where one is given.

        Returns the dtype of all other weights, which are never in fp8.
        """
        other = cast_dtype if dtype.itemsize == 1 and cast_dtype is not None else dtype
        self.set_inference_dtype(dtype, cast_dtype)
        self.unet_config["other_dtype"] = other
        return other

    def get_model(
        self, state_dict: dict[str, Tensor], prefix: str = "", device: torch.device | None = None
    ) -> FiTModel:
        return FiTModel(self, device=device)


def _host_latent_format(
    latent_format: LatentFormat | None, config: FiTConfig
) -> latent_formats.LatentFormat:
    host_format = latent_formats.SD15()
    host_format.latent_channels = config.in_channels
    if latent_format is not None:
        by_products = latent_format.preview_kind == "products"
        vars(host_format).update(
            scale_factor=latent_format.scale_factor,
            latent_rgb_factors=latent_format.latent_rgb_factors,
            latent_rgb_factors_bias=latent_format.latent_rgb_factors_bias,
            latent_rgb_factors_reshape=preview_features if by_products else None,
            taesd_decoder_name=None,  # Stable Diffusion's shows these latents in wrong colours
        )
    return host_format


class FiTModel(model_base.BaseModel):
    """A FiT with the host's sampling, conditioning and saving."""

    def __init__(self, model_config: FiTModelConfig, device: torch.device | None = None) -> None:
        self.metadata = model_config.metadata
        types = model_base.ModelType
        kind = types.EPS if flow_of(self.metadata.config).predicts_noise else types.FLOW
        network: Any = HostFiT  # the host's annotation names its own class
        super().__init__(model_config, kind, device=device, unet_model=network)
        fit = cast(HostFiT, self.diffusion_model)
        fit.recommended_extrapolation = self.metadata.recommended_extrapolation

    def process_timestep(self, timestep: Tensor, **_: Any) -> Tensor:
        # ModelSamplingSD3 and others set a multiplier, which the host applies to sigma before this.
        return timestep / getattr(self.model_sampling, "multiplier", 1.0)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        """The labels of one conditioning: (images, …), or (1, images, …) for those of a pack."""
        shapes = kwargs.get(LATENT_SHAPES) or ()
        packed = len(shapes) > 1
        for shape in shapes if packed else [kwargs["noise"].shape]:
            require_image_latents(shape, self.metadata)
        images = len(shapes) if packed else kwargs["noise"].shape[0]
        labels = labels_of(with_class_ids(kwargs), self.metadata.config, images)
        if not packed:
            key, value = for_network(labels)
            return {key: conds.CONDRegular(value)}
        # For the host a whole pack is one row of the batch.
        key, value = for_network(comfy.utils.repeat_to_batch_size(labels, images)[None])
        return {key: conds.CONDRegular(value), LATENT_SHAPES: conds.CONDConstant(shapes)}

    def memory_required(
        self, input_shape: Sequence[int], cond_shapes: dict[str, Any] | None = None
    ) -> float:
        rows, channels, *size = input_shape
        if len(size) == 1:  # a pack is (rows, 1, all values of all images)
            size = [math.ceil(channels * size[0] / self.metadata.config.in_channels)]
        return super().memory_required([rows, channels, *size], cond_shapes=cond_shapes or {})

    def activation_bytes(self, height: int, width: int) -> float:
        """The most memory that one evaluation takes for a latent of this size, with attention that
        keeps no (tokens, tokens) matrix."""
        value_bytes = self.get_dtype_inference().itemsize
        return height * width * value_bytes * 0.01 * self.memory_usage_factor * 1024**2

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        # The host's save nodes drop file metadata, and with it the head count and the class names.
        state_dict = super().state_dict_for_saving(*args, **kwargs)
        return {**state_dict, METADATA_TENSOR: metadata_tensor(self.metadata)}


def require_image_latents(shape: Sequence[int], metadata: Metadata) -> None:
    """Raise ``ValueError`` where latents of this shape are no images (batch, C, H, W) of the model.

    The message says what to use instead.
    """
    if len(shape) != 4:
        raise ValueError(
            f"These latents have {len(shape)} dimensions {tuple(shape)}, as those of video, layers "
            "or sound have. FiT draws images: connect FiT Resolution, or VAE Encode of an image."
        )
    channels = metadata.config.in_channels
    if shape[1] != channels:
        raise ValueError(
            f"These latents have {shape[1]} channels, from the VAE of another model; this FiT "
            f"needs {channels}. Encode the image with {metadata.vae}."
        )


def require_fit(model: ModelPatcher) -> FiTModel:
    """The FiT inside a MODEL. Raises ``ValueError`` that names what is there instead."""
    if not isinstance(model.model, FiTModel):
        raise ValueError(
            f"This node needs a FiT model, but the MODEL is a {type(model.model).__name__}. "
            "Connect one from FiT Loader."
        )
    return model.model


def require_flow(model: ModelPatcher) -> FiTModel:
    """A FiT that follows a rectified flow. Raises ``ValueError`` for any other MODEL."""
    fit = require_fit(model)
    try:
        require_rectified_flow(fit.metadata.config)
    except ValueError:
        raise ValueError(
            "This node samples rectified flows, but the MODEL is a FiT version 1, which predicts "
            "noise. Use KSampler with Basic Scheduler."
        ) from None
    return fit


def with_extrapolation(
    model: ModelPatcher, extrapolation: Extrapolation | tuple[Extrapolation, ...]
) -> ModelPatcher:
    """A clone with this extrapolation; the original is unchanged.

    A tuple holds one per image, for a pack of as many images.
    """
    clone = model.clone()
    clone.model_options["transformer_options"][EXTRAPOLATION] = extrapolation
    return clone


def extrapolation_of(model: ModelPatcher) -> Extrapolation:
    """The extrapolation that a MODEL with a FiT uses: a node's, or else the checkpoint's."""
    default = require_fit(model).metadata.config.default_extrapolation
    return model.model_options["transformer_options"].get(EXTRAPOLATION, default)
