"""FiT as one of the host's own models: the only place where the two meet.

Conventions that differ. The host's sigma is 1 at noise and its flow models return noise − data; FiT's t is 1 at data and it
returns data − noise: hence t = 1 − sigma, in fp32 before any cast, and the minus sign on the way out. Labels travel as
integers, because a float class id loses its last digits in bf16. A version 1 predicts noise at DDPM timesteps, as the host's EPS
models do, and needs neither.

Latents of several sizes come in the host's own packed form, (rows, 1, all pixels of all images) with ``latent_shapes``, and are
drawn in one pass without padding.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import comfy.samplers
import comfy.utils
import torch
from comfy import (
    conds,
    latent_formats,
    model_base,
    model_management,
    model_patcher,
    model_sampling,
    supported_models_base,
)
from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ...comfyui_fitv2.attention import Attention, PackedBatch, TokenBatch, UniformBatch, attention
from ...comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor, read_checkpoint
from ...comfyui_fitv2.config import DDPM_TIMESTEPS, FiTConfig, LatentFormat, Metadata
from ...comfyui_fitv2.extrapolation import Extrapolation
from ...comfyui_fitv2.guidance import GUIDED_CHANNELS, Guidance
from ...comfyui_fitv2.model import FiT, patchify, unpatchify
from ...comfyui_fitv2.preview import preview_features
from ...comfyui_fitv2.rope import Pair, untraced

LABELS = "class_labels"
"""Conditioning key: LongTensor of class ids, one an image of the batch."""
LABEL_SPACE = "fitv2_num_classes"
"""Conditioning key: the number of classes of the model that the ids were made for."""

EXTRAPOLATION = "fitv2_extrapolation"
"""Key of ``transformer_options``: an ``Extrapolation`` for all images, or a tuple of one for each of a pack."""
LATENT_SHAPES = "latent_shapes"
"""The host's key for the shapes of packed latents."""

WEIGHT_DTYPES = {"auto": None, "fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

# Peak activation memory of a forward pass is proportional to the width: benchmarks/activation_memory.py measures it.
_MEMORY_FACTOR_PER_WIDTH = 0.00034


def load(
    path: str, weight_dtype: str = "auto", preset: str | None = None, disable_dynamic: bool = False
) -> model_patcher.ModelPatcher:
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
    config.set_inference_dtype(
        dtype, model_management.unet_manual_cast(dtype, load_device, supported), device=load_device
    )

    model = config.get_model(state_dict, "")
    offload_device = model_management.unet_offload_device()
    patcher_class = (
        model_patcher.ModelPatcher if disable_dynamic else model_patcher.CoreModelPatcher
    )
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    if not model_management.is_device_cpu(offload_device):
        model.to(offload_device)
    if not patcher.is_dynamic():  # which casts as it goes
        # Where the file has the dtype already, the mapped weights stay the only copy in memory.
        state_dict = {
            key: value.to(offload_device, dtype, copy=comfy.utils.DISABLE_MMAP)
            for key, value in state_dict.items()
        }
    model.load_model_weights(state_dict, "", assign=True)
    patcher.cached_patcher_init = (load, (path, weight_dtype, preset))
    patcher.set_model_sampler_post_cfg_function(_leave_last_channels_unguided)
    return patcher


def require_fit(model: model_patcher.ModelPatcher) -> FiTModel:
    """The FiT inside a MODEL, or ``ValueError`` naming what is there instead."""
    if not isinstance(model.model, FiTModel):
        raise ValueError(
            f"This node needs a FiT model, but the MODEL is a {type(model.model).__name__}. Connect one from FiT Loader."
        )
    return model.model


def require_flow(model: model_patcher.ModelPatcher) -> FiTModel:
    """A FiT that follows a rectified flow, or ``ValueError``."""
    fit = require_fit(model)
    if fit.metadata.config.prediction != "velocity":
        raise ValueError(
            "This node samples rectified flows, but the MODEL is a FiT version 1, which predicts noise. Use KSampler with Basic Scheduler."
        )
    return fit


def grid_of(samples: Tensor, config: FiTConfig) -> tuple[int, int]:
    """Rows and columns of tokens of latents (…, H, W), odd sizes padded."""
    height, width = samples.shape[-2:]
    return math.ceil(height / config.patch_size), math.ceil(width / config.patch_size)


def conditioning(class_ids: Sequence[int], num_classes: int) -> list[list[Any]]:
    """What FiT Class Label puts out for class ids, one an image."""
    # The tensor carries nothing but "not zeroed out": see FiTModel.extra_conds.
    return [[torch.ones(1, 1, 1), {LABELS: torch.tensor(class_ids), LABEL_SPACE: num_classes}]]


def with_extrapolation(
    model: model_patcher.ModelPatcher, extrapolation: Extrapolation | Sequence[Extrapolation]
) -> model_patcher.ModelPatcher:
    """A clone that extrapolates so; the model itself and its other clones are left as they are."""
    clone = model.clone()
    clone.model_options["transformer_options"][EXTRAPOLATION] = extrapolation
    return clone


def with_guidance(
    model: model_patcher.ModelPatcher, guidance: Guidance
) -> model_patcher.ModelPatcher:
    """A clone guided so, whatever the sampler; the sampler's own scale takes the place of ``guidance.scale``."""
    clone = model.clone()
    options: dict[str, Any] = clone.model_options
    hooks = [
        hook
        for hook in options.get("sampler_post_cfg_function", [])
        if hook is not _leave_last_channels_unguided
    ]
    options["sampler_post_cfg_function"] = (
        hooks if guidance.channels is None else [*hooks, _leave_last_channels_unguided]
    )
    # Of two such nodes in a row the last one counts; what other nodes did stays.
    if _is_ours(options.get("sampler_cfg_function"), _scheduled_guidance):
        del options["sampler_cfg_function"]
    if guidance.power:
        options["sampler_cfg_function"] = partial(_scheduled_guidance, guidance)
    predict = options.pop("sampler_calc_cond_batch_function", None)
    if _is_ours(predict, _interval_guidance):
        predict = predict.args[1]
    if guidance.interval != (0.0, 1.0):
        predict = partial(_interval_guidance, guidance, predict)
    if predict is not None:
        options["sampler_calc_cond_batch_function"] = predict
    return clone


def _is_ours(hook: Any, function: Callable[..., Any]) -> bool:
    return isinstance(hook, partial) and hook.func is function


def _leave_last_channels_unguided(args: dict[str, Any]) -> Tensor:
    """The published sampler guides only the first channels; done here, every stock sampler follows it."""
    denoised, conditional = args["denoised"], args["cond_denoised"]
    shapes = next(
        (
            cond["model_conds"][LATENT_SHAPES].cond
            for cond in args["cond"]
            if LATENT_SHAPES in cond["model_conds"]
        ),
        None,
    )
    if shapes is None:
        return torch.cat([denoised[:, :GUIDED_CHANNELS], conditional[:, GUIDED_CHANNELS:]], dim=1)
    pairs = zip(
        comfy.utils.unpack_latents(denoised, shapes),
        comfy.utils.unpack_latents(conditional, shapes),
        strict=True,
    )
    return comfy.utils.pack_latents(
        [torch.cat([d[:, :GUIDED_CHANNELS], c[:, GUIDED_CHANNELS:]], dim=1) for d, c in pairs]
    )[0]


def _scheduled_guidance(guidance: Guidance, args: dict[str, Any]) -> Tensor:
    """The power-cosine scale in place of the constant one; what the host wants back is x − data."""
    scale = Guidance(args["cond_scale"], guidance.power).scale_at(_flow_time(args))
    return args["input"] - torch.lerp(args["uncond_denoised"], args["cond_denoised"], scale)


def _interval_guidance(
    guidance: Guidance, inner: Callable[[dict[str, Any]], list[Tensor]] | None, args: dict[str, Any]
) -> list[Tensor]:
    """Outside the interval the class alone is evaluated, and stands for both: any scale then gives it."""

    def predict(conds: list[Any]) -> list[Tensor]:
        if inner is not None:
            return inner({**args, "conds": conds})
        return comfy.samplers.calc_cond_batch(
            args["model"], conds, args["input"], args["sigma"], args["model_options"]
        )

    if len(args["conds"]) != 2 or guidance.acts_at(_flow_time(args)):
        return predict(args["conds"])
    conditional = predict([args["conds"][0], None])[0]
    return [conditional, conditional]


def _flow_time(args: dict[str, Any]) -> float:
    """1 − the part of noise in [0, 1], of the sampler's sigma."""
    sigma, sampling = args["sigma"].max(), args["model"].model_sampling
    if isinstance(sampling, model_sampling.ModelSamplingDiscrete):
        return 1 - sampling.timestep(sigma).item() / DDPM_TIMESTEPS
    return 1 - sigma.item()


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
        if metadata.config.prediction == "epsilon":
            # "sqrt_linear" is the host's name for betas that rise linearly, as DDPM's do.
            self.sampling_settings = {
                "beta_schedule": "sqrt_linear",
                "linear_start": 1e-4,
                "linear_end": 0.02,
                "timesteps": DDPM_TIMESTEPS,
            }

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
        self.metadata = model_config.metadata
        flow = self.metadata.config.prediction == "velocity"
        kind = model_base.ModelType.FLOW if flow else model_base.ModelType.EPS
        super().__init__(model_config, kind, device=device, unet_model=HostFiT)  # pyright: ignore[reportArgumentType]

    def process_timestep(self, timestep: Tensor, **_: Any) -> Tensor:
        # Some stock nodes change the schedule and with it the factor that the host puts on sigma.
        return timestep / getattr(self.model_sampling, "multiplier", 1.0)

    def extra_conds(self, **kwargs: Any) -> dict[str, Any]:
        config = self.metadata.config
        labels, marker = kwargs.get(LABELS), kwargs.get("cross_attn")
        if marker is not None and not marker.any():  # ConditioningZeroOut
            labels = torch.tensor([config.null_class])
        elif labels is None:
            raise ValueError(
                "FiT draws from class labels, but this conditioning holds text. Connect the outputs of FiT Class Label, not CLIP's."
            )
        # Others' nodes may leave the label space out; then it is no smaller than their largest label tells.
        elif (
            space := kwargs.get(LABEL_SPACE, max(int(labels.max()), config.num_classes))
        ) != config.num_classes:
            raise ValueError(
                f"These labels were made for a model of {space} classes, and this one has {config.num_classes}. "
                "Connect the same MODEL to FiT Class Label and to the sampler."
            )
        shapes = kwargs.get(LATENT_SHAPES) or ()
        packed = len(shapes) > 1
        images = len(shapes) if packed else kwargs["noise"].shape[0]
        if len(labels) > images:
            raise ValueError(
                f"{len(labels)} class labels for {images} image(s): set the batch size to {len(labels)}, or connect FiT Class Label's count to it."
            )
        if not packed:
            return {LABELS: conds.CONDRegular(labels)}
        # A row of the host's batch is then a whole pack.
        return {
            LABELS: conds.CONDRegular(comfy.utils.repeat_to_batch_size(labels, images)[None]),
            LATENT_SHAPES: conds.CONDConstant(shapes),
        }

    def memory_required(
        self, input_shape: Sequence[int], cond_shapes: dict[str, Any] | None = None
    ) -> float:
        rows, channels, *size = input_shape
        if len(size) == 1:  # packed: channels count as pixels
            size = [math.ceil(channels * size[0] / self.metadata.config.in_channels)]
        return super().memory_required([rows, channels, *size], cond_shapes=cond_shapes or {})

    def state_dict_for_saving(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        # The host's save nodes drop file metadata, and with it the head count and the class names.
        return {
            **super().state_dict_for_saving(*args, **kwargs),
            METADATA_TENSOR: metadata_tensor(self.metadata),
        }


def _positions(transformer_options: dict[str, Any]) -> tuple[Pair, Pair]:
    """Scale and shift, (rows, columns) each, of the stock ScaleROPE node."""
    rope = transformer_options.get("rope_options") or {}
    return (rope.get("scale_y", 1.0), rope.get("scale_x", 1.0)), (
        rope.get("shift_y", 0.0),
        rope.get("shift_x", 0.0),
    )


class HostBatch(TokenBatch):
    """A batch that knows which blocks other nodes replace."""

    def __init__(self, tokens: TokenBatch, transformer_options: dict[str, Any]) -> None:
        self.attend, self.per_token, self.modulated = (
            tokens.attend,
            tokens.per_token,
            tokens.modulated,
        )
        self.transformer_options = transformer_options
        self.replaced_blocks = transformer_options.get("patches_replace", {}).get("dit", {})


def _host_attention(
    query: Tensor, key: Tensor, value: Tensor, transformer_options: dict[str, Any]
) -> Tensor:
    heads = query.shape[1]
    return optimized_attention(
        query,
        key,
        value,
        heads,
        skip_reshape=True,
        skip_output_reshape=True,
        transformer_options=transformer_options,
    )


class HostFiT(FiT):
    """FiT with the host's layers, attention, time and sign."""

    def __init__(
        self,
        image_model: str,
        config: FiTConfig,
        dtype: torch.dtype,
        device: torch.device | None,
        operations: Any,
    ) -> None:
        super().__init__(config, operations=operations, device=device, dtype=dtype)
        self.in_channels = config.in_channels  # read by stock guidance nodes

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] — the host's signature
        self,
        x: Tensor | list[Tensor],
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> Tensor | list[Tensor]:
        """Noise − data, or noise for a version 1, for ``x`` (batch, C, H, W) of any H and W; ``timestep`` (batch,) is sigma, or DDPM's.

        ``class_labels`` (batch,) comes in ``kwargs``. Of K sizes at once, x is a list of K such tensors and the labels are (batch, K).
        """
        options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, options)
        predict = self._predict if isinstance(x, Tensor) else self._predict_packed
        return WrapperExecutor.new_class_executor(predict, self, wrappers).execute(
            x, timestep, kwargs[LABELS], options
        )

    @property
    def _flows(self) -> bool:
        return self.config.prediction == "velocity"

    def _predict(
        self, x: Tensor, timestep: Tensor, labels: Tensor, transformer_options: dict[str, Any]
    ) -> Tensor:
        tokens, grid = self._tokens(x)
        t = 1 - timestep.float() if self._flows else timestep
        out = self.transform(tokens, t, labels, self._batch(grid, t, transformer_options))
        return self._image(out, grid, x)

    def _predict_packed(
        self, x: list[Tensor], timestep: Tensor, labels: Tensor, transformer_options: dict[str, Any]
    ) -> list[Tensor]:
        tokens, grids = zip(*(self._tokens(image) for image in x), strict=True)
        rows = len(labels)
        t = (1 - timestep.float() if self._flows else timestep).repeat_interleave(len(x))
        batch = self._packed_batch(grids * rows, t, transformer_options)
        row = torch.cat([image[i] for i in range(rows) for image in tokens])[None]
        out = self.transform(row, t, labels.flatten(), batch)[0].view(rows, -1, row.shape[-1])
        parts = out.split([height * width for height, width in grids], dim=1)
        return [
            self._image(part, grid, image)
            for part, grid, image in zip(parts, grids, x, strict=True)
        ]

    def _tokens(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        patch = self.config.patch_size
        x = pad_to_patch_size(x, (patch, patch))
        return patchify(x, patch), (x.shape[-2] // patch, x.shape[-1] // patch)

    def _image(self, tokens: Tensor, grid: tuple[int, int], like: Tensor) -> Tensor:
        out = unpatchify(tokens, grid, self.config.patch_size)[
            ..., : like.shape[-2], : like.shape[-1]
        ]
        return -out if self._flows else out

    # TorchCompileModel drops guards on transformer_options: whatever a graph reads from them stays in it.
    @untraced
    def _batch(
        self, grid: tuple[int, int], t: Tensor, transformer_options: dict[str, Any]
    ) -> HostBatch:
        rotation = self.rotation(
            grid,
            t.device,
            transformer_options.get(EXTRAPOLATION),
            t,
            *_positions(transformer_options),
        )
        return HostBatch(
            UniformBatch(
                rotation, partial(_host_attention, transformer_options=transformer_options)
            ),
            transformer_options,
        )

    @untraced
    def _packed_batch(
        self, grids: Sequence[tuple[int, int]], t: Tensor, transformer_options: dict[str, Any]
    ) -> HostBatch:
        asked = transformer_options.get(EXTRAPOLATION)
        extrapolations = (
            asked * (len(grids) // len(asked)) if isinstance(asked, tuple) else [asked] * len(grids)
        )
        positions = _positions(transformer_options)
        rotations = [
            self.rotation(grid, t.device, extrapolation, t[i : i + 1], *positions)
            for i, (grid, extrapolation) in enumerate(zip(grids, extrapolations, strict=True))
        ]
        attend: Attention = attention
        if "optimized_attention_override" in transformer_options:
            attend = partial(_host_attention, transformer_options=transformer_options)
        return HostBatch(
            PackedBatch(
                [(cos.flatten(0, -2), sin.flatten(0, -2)) for cos, sin in rotations], attend
            ),
            transformer_options,
        )

    def run_block(
        self,
        index: int,
        block: nn.Module,
        x: Tensor,
        conditioning: Tensor,
        shared_modulation: Tensor | float,
        batch: TokenBatch,
    ) -> Tensor:
        if not isinstance(batch, HostBatch) or ("double_block", index) not in batch.replaced_blocks:
            return super().run_block(index, block, x, conditioning, shared_modulation, batch)

        def original(args: dict[str, Any]) -> dict[str, Any]:
            return {"img": block(args["img"], args["vec"], shared_modulation, batch)}

        args = {"img": x, "vec": conditioning, "transformer_options": batch.transformer_options}
        return batch.replaced_blocks["double_block", index](args, {"original_block": original})[
            "img"
        ]
