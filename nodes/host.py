"""FiT as one of the host's own models: the only place where the two meet.

Conventions that differ. The host's sigma is 1 at noise and its flow models return noise − data; FiT's t is 1 at data and it
returns data − noise: hence t = 1 − sigma, in fp32 before any cast, and the minus sign on the way out. Labels travel as
integers, because a float class id loses its last digits in bf16.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from comfy import conds, latent_formats, model_base, model_management, model_patcher, supported_models_base
from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ..comfyui_fitv2.attention import TokenBatch, UniformBatch
from ..comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor, read_checkpoint
from ..comfyui_fitv2.config import FiTConfig, LatentFormat, Metadata
from ..comfyui_fitv2.guidance import GUIDED_CHANNELS
from ..comfyui_fitv2.model import FiT, patchify, unpatchify
from ..comfyui_fitv2.preview import preview_features
from ..comfyui_fitv2.rope import Rotation, untraced

LABELS = "class_labels"
"""Conditioning key: LongTensor of class ids, one an image of the batch."""
LABEL_SPACE = "fitv2_num_classes"
"""Conditioning key: the number of classes of the model that the ids were made for."""

WEIGHT_DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Peak activation memory of a forward pass is proportional to the width: benchmarks/activation_memory.py measures it.
_MEMORY_FACTOR_PER_WIDTH = 0.00034


def load(path: str, weight_dtype: str = "auto", preset: str | None = None, disable_dynamic: bool = False) -> model_patcher.ModelPatcher:
    """A checkpoint as the host's MODEL. ``weight_dtype`` is a key of ``WEIGHT_DTYPES``. Raises ``CheckpointError``.

    ``disable_dynamic`` is the host's: it reloads models through ``cached_patcher_init`` for compilation and for other devices.
    """
    checkpoint = read_checkpoint(path, preset=preset)
    state_dict = dict(checkpoint.state_dict)
    config = FiTModelConfig(checkpoint.metadata)

    load_device = model_management.get_torch_device()
    supported = config.supported_inference_dtypes
    dtype = WEIGHT_DTYPES[weight_dtype] or model_management.unet_dtype(
        model_params=sum(value.numel() for value in state_dict.values()),
        supported_dtypes=supported,
        weight_dtype=state_dict["x_embedder.proj.weight"].dtype,
    )
    config.set_inference_dtype(dtype, model_management.unet_manual_cast(dtype, load_device, supported), device=load_device)

    model = config.get_model(state_dict, "")
    offload_device = model_management.unet_offload_device()
    patcher_class = model_patcher.ModelPatcher if disable_dynamic else model_patcher.CoreModelPatcher
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    if not model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    model.load_model_weights(state_dict, "", assign=patcher.is_dynamic())
    patcher.cached_patcher_init = (load, (path, weight_dtype, preset))
    patcher.set_model_sampler_post_cfg_function(_leave_last_channels_unguided)
    return patcher


def require_fit(model: model_patcher.ModelPatcher) -> FiTModel:
    """The FiT inside a MODEL, or ``ValueError`` naming what is there instead."""
    if not isinstance(model.model, FiTModel):
        raise ValueError(f"This node needs a FiT model, but the MODEL is a {type(model.model).__name__}. Connect one from FiT Loader.")
    return model.model


def _leave_last_channels_unguided(args: dict[str, Any]) -> Tensor:
    """The published sampler guides only the first channels; done here, every stock sampler follows it."""
    denoised, conditional = args["denoised"], args["cond_denoised"]
    return torch.cat([denoised[:, :GUIDED_CHANNELS], conditional[:, GUIDED_CHANNELS:]], dim=1)


class FiTModelConfig(supported_models_base.BASE):
    """What the host asks of a model before it exists."""

    unet_extra_config = {}  # noqa: RUF012 — the host's attribute
    sampling_settings = {"shift": 1.0, "multiplier": 1.0}  # noqa: RUF012
    supported_inference_dtypes = [torch.bfloat16, torch.float32]  # noqa: RUF012

    def __init__(self, metadata: Metadata) -> None:
        super().__init__({"image_model": "fitv2", "config": metadata.config})
        self.metadata = metadata
        self.latent_format = _host_latent_format(metadata.latent_format, metadata.config)
        self.memory_usage_factor = _MEMORY_FACTOR_PER_WIDTH * metadata.config.hidden_size

    def get_model(self, state_dict: dict[str, Tensor], prefix: str = "", device: torch.device | None = None) -> FiTModel:
        return FiTModel(self, device=device)


def _host_latent_format(latent_format: LatentFormat | None, config: FiTConfig) -> latent_formats.LatentFormat:
    host_format = latent_formats.SD15()
    host_format.latent_channels = config.in_channels
    if latent_format is not None:
        by_features = len(latent_format.latent_rgb_factors or ()) > config.in_channels
        vars(host_format).update(
            scale_factor=latent_format.scale_factor,
            latent_rgb_factors=latent_format.latent_rgb_factors,
            latent_rgb_factors_bias=latent_format.latent_rgb_factors_bias,
            latent_rgb_factors_reshape=preview_features if by_features else None,
            taesd_decoder_name=None,  # Stable Diffusion's would show these latents in wrong colours
        )
    return host_format


class FiTModel(model_base.BaseModel):
    """FiT under the host's sampling, conditioning and saving."""

    def __init__(self, model_config: FiTModelConfig, device: torch.device | None = None) -> None:
        super().__init__(model_config, model_base.ModelType.FLOW, device=device, unet_model=HostFiT)  # pyright: ignore[reportArgumentType]
        self.metadata = model_config.metadata

    def process_timestep(self, timestep: Tensor, **_: Any) -> Tensor:
        # Some stock nodes change the schedule and with it the factor that the host puts on sigma.
        return timestep / getattr(self.model_sampling, "multiplier", 1.0)

    def extra_conds(self, **kwargs: Any) -> dict[str, conds.CONDRegular]:
        config = self.metadata.config
        labels, marker = kwargs.get(LABELS), kwargs.get("cross_attn")
        if marker is not None and not marker.any():  # ConditioningZeroOut
            labels = torch.tensor([config.null_class])
        elif labels is None:
            raise ValueError("FiT draws from class labels, but this conditioning holds text. Connect the outputs of FiT Class Label, not CLIP's.")
        # Others' nodes may leave the label space out; then it is no smaller than their largest label tells.
        elif (space := kwargs.get(LABEL_SPACE, max(int(labels.max()), config.num_classes))) != config.num_classes:
            raise ValueError(
                f"These labels were made for a model of {space} classes, and this one has {config.num_classes}. "
                "Connect the same MODEL to FiT Class Label and to the sampler."
            )
        images = kwargs["noise"].shape[0]
        if len(labels) > images:
            raise ValueError(
                f"{len(labels)} class labels for {images} image(s): set the batch size to {len(labels)}, or connect FiT Class Label's count to it."
            )
        return {LABELS: conds.CONDRegular(labels)}

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        # The host's save nodes drop file metadata, and with it the head count and the class names.
        return {**super().state_dict_for_saving(*args, **kwargs), METADATA_TENSOR: metadata_tensor(self.metadata)}


class HostBatch(UniformBatch):
    """A uniform batch that attends by the host's kernel and knows which blocks other nodes replace."""

    def __init__(self, rotation: Rotation, transformer_options: dict[str, Any]) -> None:
        super().__init__(rotation, partial(_host_attention, transformer_options=transformer_options))
        self.transformer_options = transformer_options
        self.replaced_blocks = transformer_options.get("patches_replace", {}).get("dit", {})


def _host_attention(query: Tensor, key: Tensor, value: Tensor, transformer_options: dict[str, Any]) -> Tensor:
    heads = query.shape[1]
    return optimized_attention(query, key, value, heads, skip_reshape=True, skip_output_reshape=True, transformer_options=transformer_options)


class HostFiT(FiT):
    """FiT with the host's layers, attention, time and sign."""

    def __init__(self, image_model: str, config: FiTConfig, dtype: torch.dtype, device: torch.device | None, operations: Any) -> None:
        super().__init__(config, operations=operations, device=device, dtype=dtype)
        self.in_channels = config.in_channels  # read by stock guidance nodes

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] — the host's signature
        self,
        x: Tensor,
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor:
        """Noise − data for ``x`` (batch, C, H, W) of any H and W; ``timestep`` is sigma, ``class_labels`` (batch,) in ``kwargs``."""
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        return WrapperExecutor.new_class_executor(self._velocity, self, wrappers).execute(x, timestep, kwargs[LABELS], options)

    def _velocity(self, x: Tensor, timestep: Tensor, labels: Tensor, transformer_options: dict[str, Any]) -> Tensor:
        patch = self.config.patch_size
        height, width = x.shape[-2:]
        x = pad_to_patch_size(x, (patch, patch))
        grid = x.shape[-2] // patch, x.shape[-1] // patch
        batch = self._batch(grid, x.device, transformer_options)
        tokens = self.transform(patchify(x, patch), 1 - timestep.float(), labels, batch)
        return -unpatchify(tokens, grid, patch)[..., :height, :width]

    # TorchCompileModel drops guards on transformer_options: whatever a graph reads from them stays in it.
    @untraced
    def _batch(self, grid: tuple[int, int], device: torch.device, transformer_options: dict[str, Any]) -> HostBatch:
        rope = transformer_options.get("rope_options") or {}
        scale = (rope.get("scale_y", 1.0), rope.get("scale_x", 1.0))
        shift = (rope.get("shift_y", 0.0), rope.get("shift_x", 0.0))
        return HostBatch(self.rotation(grid, device, position_scale=scale, position_shift=shift), transformer_options)

    def run_block(self, index: int, block: nn.Module, x: Tensor, conditioning: Tensor, shared_modulation: Tensor | float, batch: TokenBatch) -> Tensor:
        if not isinstance(batch, HostBatch) or ("double_block", index) not in batch.replaced_blocks:
            return super().run_block(index, block, x, conditioning, shared_modulation, batch)

        def original(args: dict[str, Any]) -> dict[str, Any]:
            return {"img": block(args["img"], args["vec"], shared_modulation, batch)}

        args = {"img": x, "vec": conditioning, "transformer_options": batch.transformer_options}
        return batch.replaced_blocks["double_block", index](args, {"original_block": original})["img"]
