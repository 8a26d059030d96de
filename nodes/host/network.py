"""FiT as the host's network: with its layers, attention, time, sign and patched blocks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from comfy import model_management
from comfy.ldm.common_dit import pad_to_patch_size
from comfy.ldm.modules.attention import optimized_attention
from comfy.patcher_extension import WrapperExecutor, WrappersMP, get_all_wrappers
from torch import Tensor, nn

from ...comfyui_fitv2.attention import Attention, PackedBatch, TokenBatch, UniformBatch
from ...comfyui_fitv2.config import FiTConfig
from ...comfyui_fitv2.layers import Operations
from ...comfyui_fitv2.model import FiT, RunBlock, patchify, unpatchify
from ...comfyui_fitv2.rope import Pair, untraced
from .conditioning import from_host
from .precision import keep_apart
from .sigma import model_time

TransformerOptions = dict[str, Any]
"""The host's dict of what nodes ask of a model's blocks; a clone of a MODEL has its own."""

EXTRAPOLATION = "fitv2_extrapolation"
"""Key of ``TransformerOptions``: an ``Extrapolation`` for all images, or a tuple with one for each
image of a pack."""
LATENT_SHAPES = "latent_shapes"
"""The host's key for the shapes of packed latents."""
_SCORES_AT_ONCE = 2**28
"""Products of a query and a key, of all heads, that a CPU computes between two looks at Cancel."""


class HostFiT(FiT):
    """A FiT with the interface of the host's networks."""

    def __init__(
        self,
        image_model: str,
        config: FiTConfig,
        dtype: torch.dtype,
        device: torch.device | None,
        operations: Operations,
        other_dtype: torch.dtype | None = None,
    ) -> None:
        """``dtype`` is that of the matrices, and ``other_dtype`` that of all other weights."""
        super().__init__(config, operations=operations, device=device, dtype=dtype)
        if other_dtype not in (None, dtype):
            keep_apart(self, other_dtype)
        self.in_channels = config.in_channels  # read by stock guidance nodes

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride] — the host's signature
        self,
        x: Tensor | list[Tensor],
        timestep: Tensor,
        context: Tensor | None = None,
        control: Any = None,
        transformer_options: TransformerOptions | None = None,
        **kwargs: Any,
    ) -> Tensor | list[Tensor]:
        """Noise − data, or for a version 1 noise, of latents ``x`` (batch, C, H, W), any H and W.

        ``timestep`` (batch,) is the host's: sigma, or a DDPM timestep. ``kwargs`` must hold the
        labels (batch, …). For images of K sizes ``x`` is a list of K tensors (batch, C, H_i, W_i),
        the labels are (batch, K, …), and a list comes back.
        """
        transformer_options = transformer_options or {}
        wrappers = get_all_wrappers(WrappersMP.DIFFUSION_MODEL, transformer_options)
        predict = self._predict if isinstance(x, Tensor) else self._predict_packed
        return WrapperExecutor.new_class_executor(predict, self, wrappers).execute(
            x, timestep, from_host(kwargs), transformer_options
        )

    def _predict(
        self, x: Tensor, timestep: Tensor, y: Tensor, transformer_options: TransformerOptions
    ) -> Tensor:
        tokens, grid = self._tokens(x)
        t = model_time(self.flow, timestep)
        batch = self._batch(grid, t, transformer_options)
        run_block = _block_runner(transformer_options) or _run_plain_block
        out = self.transform(tokens, t, y, batch, run_block)
        return self._image(out, grid, x)

    def _predict_packed(
        self, x: list[Tensor], timestep: Tensor, y: Tensor, transformer_options: TransformerOptions
    ) -> list[Tensor]:
        tokens, grids = zip(*(self._tokens(images) for images in x), strict=True)
        rows = len(y)  # packs in the batch, such as one for the class and one for the null class
        t = model_time(self.flow, timestep).repeat_interleave(len(x))
        batch = self._packed_batch(grids * rows, t, transformer_options)
        pack = torch.cat([images[row] for row in range(rows) for images in tokens])[None]
        run_block = _block_runner(transformer_options) or _run_plain_block
        out = self.transform(pack, t, y.flatten(0, 1), batch, run_block)
        lengths = [height * width for height, width in grids]
        parts = out[0].view(rows, sum(lengths), -1).split(lengths, dim=1)
        return [self._image(*image) for image in zip(parts, grids, x, strict=True)]

    def _tokens(self, x: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens and their grid; odd sizes are padded as the host does it, with the other edge."""
        patch = self.config.patch_size
        x = pad_to_patch_size(x, (patch, patch))
        return patchify(x, patch), (x.shape[-2] // patch, x.shape[-1] // patch)

    def _image(self, tokens: Tensor, grid: tuple[int, int], like: Tensor) -> Tensor:
        """The host's prediction for latents ``like``: their size again, and the host's sign."""
        height, width = like.shape[-2:]
        out = unpatchify(tokens, grid, self.config.patch_size)[..., :height, :width]
        return out if self.flow.predicts_noise else -out

    # TorchCompileModel drops all guards whose names hold "transformer_options": whatever a graph
    # reads from them stays in it, and so they are read in untraced functions only. Under another
    # name a traced function would compile again whenever they change, which is at every step.

    @untraced
    def _batch(self, grid: tuple[int, int], t: Tensor, options: TransformerOptions) -> UniformBatch:
        asked = options.get(EXTRAPOLATION)
        rotation = self.rotation(grid, t.device, asked, t, *_positions(options))
        return UniformBatch(rotation, _attention(options))

    @untraced
    def _packed_batch(
        self, grids: Sequence[tuple[int, int]], t: Tensor, options: TransformerOptions
    ) -> PackedBatch:
        asked = options.get(EXTRAPOLATION)
        if isinstance(asked, tuple):  # one per image of a pack, and the batch holds several packs
            asked *= len(grids) // len(asked)
        # The library's attention handles a pack at once; the host's is for those who replace it.
        replaced = "optimized_attention_override" in options
        attention = _attention(options) if replaced else None
        return PackedBatch.of(self, grids, t, asked, attention, *_positions(options))


def _positions(options: TransformerOptions) -> tuple[Pair, Pair]:
    """Scale and shift of positions, (rows, columns) each, of the stock ScaleROPE node."""
    rope = options.get("rope_options") or {}
    scale = rope.get("scale_y", 1.0), rope.get("scale_x", 1.0)
    shift = rope.get("shift_y", 0.0), rope.get("shift_x", 0.0)
    return scale, shift


def _attention(options: TransformerOptions) -> Attention:
    return partial(_host_attention, transformer_options=options)


def _host_attention(
    query: Tensor, key: Tensor, value: Tensor, transformer_options: TransformerOptions
) -> Tensor:
    """The host's attention; of a huge image on a CPU in parts, each of a second or so."""
    at_once = query.device.type != "cpu" or "optimized_attention_override" in transformer_options
    if at_once or torch.compiler.is_compiling():
        return _attend(query, key, value, transformer_options)
    rows = max(_SCORES_AT_ONCE // (query.shape[:2].numel() * key.shape[-2]), 1)
    if rows >= query.shape[-2]:
        return _attend(query, key, value, transformer_options)
    parts = []
    for part in query.split(rows, dim=-2):
        _stop_if_cancelled()
        parts.append(_attend(part, key, value, transformer_options))
    return torch.cat(parts, dim=-2)


def _attend(
    query: Tensor, key: Tensor, value: Tensor, transformer_options: TransformerOptions
) -> Tensor:
    return optimized_attention(
        query,
        key,
        value,
        query.shape[1],
        skip_reshape=True,
        skip_output_reshape=True,
        transformer_options=transformer_options,
    )


def _stop_if_cancelled() -> None:
    """Raise the host's exception if somebody pressed Cancel. The device is not waited for.

    A compiled graph must not hold this; it is looked at once per evaluation there.
    """
    if not torch.compiler.is_compiling():
        model_management.throw_exception_if_processing_interrupted()


def _run_plain_block(
    index: int,
    block: nn.Module,
    x: Tensor,
    conditioning: Tensor,
    shared_modulation: Tensor | float,
    batch: TokenBatch,
) -> Tensor:
    _stop_if_cancelled()
    return block(x, conditioning, shared_modulation, batch)


@untraced
def _block_runner(transformer_options: TransformerOptions) -> RunBlock | None:
    """Runs the blocks that other nodes put in the place of ours; None where there are none."""
    _stop_if_cancelled()
    replacements = transformer_options.get("patches_replace", {}).get("dit", {})
    if not replacements:
        return None
    return partial(_run_block, replacements=replacements, transformer_options=transformer_options)


def _run_block(
    index: int,
    block: nn.Module,
    x: Tensor,
    conditioning: Tensor,
    shared_modulation: Tensor | float,
    batch: TokenBatch,
    *,
    replacements: dict[tuple[str, int], Callable[..., dict[str, Any]]],
    transformer_options: TransformerOptions,
) -> Tensor:
    def original(args: dict[str, Any]) -> dict[str, Any]:
        return {"img": block(args["img"], args["vec"], shared_modulation, batch)}

    _stop_if_cancelled()
    args = {"img": x, "vec": conditioning, "transformer_options": transformer_options}
    if ("double_block", index) not in replacements:
        return original(args)["img"]
    return replacements["double_block", index](args, {"original_block": original})["img"]
