"""``training.data.vae``: every kind of file gives the same latents as the network it holds."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.utils import logging
from safetensors.torch import load_file, save_file

from comfyui_fitv2.autoencoder import load_autoencoder
from training.data import vae as vae_module
from training.data.bundled import TINY_FILE
from training.data.vae import VAEError, fingerprint, open_vae, same_latents, vae_digest

SMALL: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 4,
    "block_out_channels": [32, 32, 32, 32],
    "down_block_types": ["DownEncoderBlock2D"] * 4,
    "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 1,
    "scaling_factor": 0.5,
}
"""A small VAE with the layers of Stable Diffusion's, for diffusers."""
SMALL_LAYOUT = {**vae_module.SD_LAYOUT, "ch": 32, "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1}
"""The same in the terms of Stable Diffusion's own code."""


@pytest.fixture
def network() -> AutoencoderKL:
    """The small VAE with random weights."""
    network: Any = AutoencoderKL.from_config(SMALL)
    return network.eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    return torch.rand(2, 3, 32, 48)


def ldm_keys(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights with the names and shapes of Stable Diffusion's single files."""
    replaced = {}
    for key, value in state.items():
        key = re.sub(
            r"up_blocks\.(\d)", lambda m: f"up.{3 - int(m[1])}", key.replace("down_blocks", "down")
        )
        key = re.sub(
            r"resnets\.(\d)",
            r"block.\1",
            re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", key),
        )
        for ours, theirs in (
            ("mid_block.attentions.0.", "mid.attn_1."),
            ("group_norm", "norm"),
            ("to_out.0", "proj_out"),
            ("samplers.0", "sample"),
            ("conv_norm_out", "norm_out"),
        ):
            key = key.replace(ours, theirs)
        key = re.sub(r"to_([qkv])", r"\1", key)
        is_attention = "attn_1" in key and value.ndim == 2
        replaced[key] = value[:, :, None, None] if is_attention else value
    return replaced


def test_the_tiny_vae_has_only_means(images: torch.Tensor) -> None:
    vae = open_vae("tiny")
    assert (vae.channels, vae.posterior, vae.scale_factor) == (4, False, pytest.approx(0.18215))
    moments = vae.moments(images)
    assert moments.shape == (2, 1, 4, 4, 6)
    torch.testing.assert_close(moments[:, 0], load_autoencoder(TINY_FILE).encode(images))
    torch.testing.assert_close(
        vae.decode(moments[:, 0]), load_autoencoder(TINY_FILE).decode(moments[:, 0])
    )
    assert torch.equal(open_vae(str(TINY_FILE)).moments(images), moments)
    rounded = open_vae("tiny", dtype=torch.bfloat16)
    assert rounded.scale_factor == vae.scale_factor, "not rounded with the weights"


def test_moments_are_the_posterior_in_the_model_scale(
    network: AutoencoderKL, images: torch.Tensor, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "kl")
    vae = open_vae(str(tmp_path / "kl"))
    posterior: Any = network.encode(images * 2 - 1, return_dict=False)[0]  # type: ignore[call-arg]
    assert (vae.channels, vae.posterior, vae.scale_factor) == (4, True, 0.5)
    torch.testing.assert_close(
        vae.moments(images), 0.5 * torch.stack([posterior.mean, posterior.std], dim=1)
    )
    decoded: Any = network.decode(posterior.mean, return_dict=False)[0]  # type: ignore[call-arg]
    torch.testing.assert_close(vae.decode(posterior.mean * 0.5), ((decoded + 1) / 2).clamp(0, 1))


def test_the_vae_in_a_pipeline_folder_is_found(
    network: AutoencoderKL, images: torch.Tensor, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "pipeline" / "vae")
    assert torch.equal(
        open_vae(str(tmp_path / "pipeline")).moments(images),
        open_vae(str(tmp_path / "pipeline" / "vae")).moments(images),
    )


@pytest.mark.parametrize("kind", ["vae.safetensors", "model.safetensors", "vae.ckpt"])
def test_a_single_file_is_the_same_vae(
    network: AutoencoderKL,
    images: torch.Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    monkeypatch.setattr(vae_module, "SD_LAYOUT", SMALL_LAYOUT)
    state = {
        ("first_stage_model." if kind.startswith("model") else "") + key: value.contiguous()
        for key, value in ldm_keys(network.state_dict()).items()
    }
    if kind.endswith("ckpt"):
        torch.save({"state_dict": state}, tmp_path / kind)
    else:
        save_file(state, tmp_path / kind)
    network.save_pretrained(tmp_path / "kl")
    vae = open_vae(str(tmp_path / kind))
    assert vae.scale_factor == 0.18215
    expected = open_vae(str(tmp_path / "kl"), scale_factor=0.18215)
    torch.testing.assert_close(vae.moments(images), expected.moments(images))
    assert open_vae(str(tmp_path / kind), scale_factor=0.25).scale_factor == 0.25


def test_16_bits_give_nearly_the_same_moments(
    network: AutoencoderKL, images: torch.Tensor, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path)
    exact, rounded = (
        open_vae(str(tmp_path)).moments(images),
        open_vae(str(tmp_path), dtype=torch.bfloat16).moments(images),
    )
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.03, rtol=0.05)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shift_factor": 0.1}, "shifted by 0.1"),
        (
            {
                "block_out_channels": [32, 32, 32],
                "down_block_types": ["DownEncoderBlock2D"] * 3,
                "up_block_types": ["UpDecoderBlock2D"] * 3,
            },
            "cover 4 × 4 pixels",
        ),
    ],
)
def test_vaes_that_fit_cannot_use_are_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    network: Any = AutoencoderKL.from_config({**SMALL, **change})
    network.save_pretrained(tmp_path)
    with pytest.raises(VAEError, match=message):
        open_vae(str(tmp_path))


def test_folders_and_files_that_are_no_vae_are_refused(
    network: AutoencoderKL, bundled_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="no such VAE"):
        open_vae(str(tmp_path / "none"))
    with pytest.raises(VAEError, match=r"without config\.json"):
        open_vae(str(tmp_path))
    with pytest.raises(VAEError, match="not a tiny VAE or a single file of Stable Diffusion's VAE"):
        open_vae(str(bundled_checkpoint))
    with pytest.raises(VAEError, match="stores its own scale; omit --scale-factor"):
        open_vae("tiny", scale_factor=1.0)
    network.save_pretrained(tmp_path / "kl")
    weights = tmp_path / "kl" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    del state["encoder.conv_in.weight"]
    save_file(state, weights)
    with pytest.raises(
        VAEError, match=r"1 of its weights are missing, such as encoder\.conv_in\.weight"
    ):
        open_vae(str(tmp_path / "kl"))
    (tmp_path / "kl" / "config.json").write_text(
        json.dumps({"_class_name": "UNet2DModel"}), encoding="utf-8"
    )
    with pytest.raises(VAEError, match="a diffusers UNet2DModel, not an AutoencoderKL"):
        open_vae(str(tmp_path / "kl"))


def test_a_digest_follows_the_weights_and_not_the_place(
    network: AutoencoderKL, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        network.save_pretrained(tmp_path / name)
    before = vae_digest(str(tmp_path / "a"))
    assert before == vae_digest(str(tmp_path / "b")) != vae_digest("tiny")
    next(network.parameters()).data.add_(1)
    network.save_pretrained(tmp_path / "b")
    assert vae_digest(str(tmp_path / "b")) != before


def test_opening_a_vae_leaves_the_warnings_of_diffusers_as_they_were(
    network: AutoencoderKL, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "kl")
    (tmp_path / "broken.safetensors").write_bytes(b"nothing")
    logging.set_verbosity_info()
    before = logging.get_verbosity()
    open_vae(str(tmp_path / "kl"), dtype=torch.bfloat16)
    with pytest.raises(VAEError):
        open_vae(str(tmp_path / "broken.safetensors"))
    assert logging.get_verbosity() == before
    logging.set_verbosity_warning()


def test_without_diffusers_its_vaes_are_refused_in_one_line(
    network: AutoencoderKL, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network.save_pretrained(tmp_path)
    monkeypatch.setitem(sys.modules, "diffusers.utils", None)
    with pytest.raises(VAEError, match="others need diffusers: python -m pip install diffusers"):
        open_vae(str(tmp_path))


def test_a_fingerprint_knows_the_encoder_in_any_precision(
    network: AutoencoderKL, tmp_path: Path
) -> None:
    network.save_pretrained(tmp_path / "sd")
    tiny, half = open_vae("tiny"), open_vae("tiny", dtype=torch.bfloat16)
    other = open_vae(str(tmp_path / "sd"))
    assert len(fingerprint(tiny)) == tiny.channels * 25
    assert same_latents(fingerprint(tiny), fingerprint(half))
    assert not same_latents(fingerprint(tiny), fingerprint(other))
    assert not same_latents(fingerprint(tiny), ())
