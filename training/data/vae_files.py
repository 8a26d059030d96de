"""Where a VAE is on the disk, and what a file or folder is that cannot be used as one."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from .bundled import TINY_FILE

TINY = "tiny"
"""The name of the bundled VAE."""

RECOMMENDED = "stabilityai/sd-vae-ft-ema"
"""A VAE for photographs, as Hugging Face calls it (MIT licence, 335 MB)."""

_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")
_HUB_ADDRESS = re.compile(r"https?://(?:www\.)?huggingface\.co/([\w.-]+/[\w.-]+).*")
_WEIGHTS = (".safetensors", ".bin", ".ckpt", ".pt", ".pth")
_SDXL_NAME = re.compile(r"sd_?xl|xl_?vae|vae_?xl", re.IGNORECASE)
_SD_CHANNELS = 4
_FLUX_CHANNELS = 16
_HEADS = {
    b"": "an empty file",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: run git lfs pull",
    b"<": "a web page, saved in place of the file. Download it again",
    b"{": "text, not weights",
    b"GGUF": "a GGUF file, which holds quantised weights of another program",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"7z": "an archive. Unpack it",
    b"Rar!": "an archive. Unpack it",
}
"""What a file is that begins so."""
_CLASSES = {
    "ConsistencyDecoderVAE": "decodes only",
    "AutoencoderTiny": "in diffusers' layout; the files in TAESD's own layout can be used",
    "AutoencoderDC": "covers 32 × 32 pixels per latent",
    "VQModel": "has codes, not a scale",
}
_OTHER_LATENTS = re.compile(
    r"flux|stable-diffusion-3|sd3|qwen|sana|wan\d|hunyuan|ltx|mochi|cogvideo", re.IGNORECASE
)
"""Names of models whose latents have a shift, other channels or a time axis."""
_VIDEO = re.compile(r"Wan|Video|Mochi|Cosmos|Temporal|Magvit|Allegro", re.IGNORECASE)


class VAEError(ValueError):
    """A VAE that cannot be used; the message says where, what it is, and what to do."""

    def __init__(self, path: Path | str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")


def how_to_get(name: str = RECOMMENDED) -> str:
    """The commands that download a VAE from Hugging Face, and the option that uses it."""
    folder = name.rpartition("/")[2]
    is_vae = "vae" in folder.lower()
    files = "config.json diffusion_pytorch_model.safetensors" if is_vae else '--include "vae/*"'
    return (
        "To get it: python -m pip install huggingface_hub, and then: "
        f"hf download {name} {files} --local-dir {folder}. Then use it: --vae {folder}"
    )


USE_SD = f"Use Stable Diffusion's. {how_to_get()}"


def vae_path(name: str) -> Path:
    """The file of a VAE, or the folder of its diffusers model.

    ``name`` is "tiny", a file, a folder, or a name on Hugging Face that was downloaded before.
    Raises ``FileNotFoundError`` where there is nothing, and ``VAEError`` for a folder of something
    else.
    """
    if name == TINY:
        return TINY_FILE
    path = Path(name).expanduser()
    if not path.exists() and "\\" in name:  # as Windows writes it
        path = Path(name.replace("\\", "/")).expanduser()
    if not path.exists():
        return _downloaded(name)
    return _model_folder(path) if path.is_dir() else _beside_config(path)


def refuse_other_file(path: Path, scale_factor: float | None) -> None:
    """Raise ``VAEError`` for a file that is known to be no VAE that FiT can use."""
    with path.open("rb") as file:
        head = file.read(64)
    for start, kind in _HEADS.items():
        if head.startswith(start) if start else not head:
            raise VAEError(path, f"{kind}.")
    try:
        with safe_open(path, framework="pt") as file:
            keys = file.keys()  # safe_open gives no mapping: it cannot be iterated
            shapes = {key: tuple(file.get_slice(key).get_shape()) for key in keys}
    except SafetensorError as error:
        if path.suffix.lower() == ".safetensors":
            raise VAEError(path, f"damaged or incomplete ({error}). Download it again.") from None
        return  # a pickle, perhaps
    _refuse_tensors(path, shapes)
    is_sdxl = any(key.startswith("conditioner.embedders.1.") for key in shapes)
    if scale_factor is None and (is_sdxl or _SDXL_NAME.search(path.stem)):
        raise VAEError(
            path,
            "a single file of SDXL's VAE does not say its scale. Name its diffusers folder or, in "
            "prepare, add --scale-factor 0.13025.",
        )


def refuse_other_model(folder: Path) -> None:
    """Raise ``VAEError`` for a folder of a diffusers model that FiT cannot use."""
    found = _read_config(folder).get("_class_name")
    if found != "AutoencoderKL":
        kind = str(found or "model without a class")
        why = _CLASSES.get(kind) or ("a VAE for videos" if _VIDEO.search(kind) else "")
        reason = f"a diffusers {kind}, not an AutoencoderKL"
        raise VAEError(folder, f"{reason}{why and f' ({why})'}. {USE_SD}")
    weights = [file for file in folder.iterdir() if file.suffix in (".safetensors", ".bin")]
    if not weights:
        raise VAEError(folder, "has config.json but no weights. Download or copy it again.")
    for file in weights:
        if file.stat().st_size < 1024:
            refuse_other_file(file, 1.0)


def shifted(config: Any) -> str:
    """Why latents with a shift cannot be used."""
    like = ", as those of Flux and Stable Diffusion 3" * (config.latent_channels == _FLUX_CHANNELS)
    return (
        f"its latents of {config.latent_channels} channels are shifted by {config.shift_factor}"
        f"{like}; a FiT checkpoint stores only a scale. {USE_SD}"
    )


def _refuse_tensors(path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
    known = ("first_stage_model.", "vae.", "")
    prefix = next((p for p in known if f"{p}decoder.conv_in.weight" in shapes), None)
    if prefix is None or f"{prefix}encoder.conv_in.weight" not in shapes:
        raise VAEError(path, _without_vae(shapes))
    first = shapes[f"{prefix}decoder.conv_in.weight"]
    if len(first) == 5:
        raise VAEError(path, f"a VAE for videos. {USE_SD}")
    if first[1] != _SD_CHANNELS:
        like = " (Flux, Stable Diffusion 3)" if first[1] == _FLUX_CHANNELS else ""
        raise VAEError(
            path,
            f"a single file of a VAE of {first[1]} channels{like}; FiT takes one of "
            f"{_SD_CHANNELS}. {USE_SD}",
        )
    if any(key.startswith(f"{prefix}encoder.down_blocks.") for key in shapes):
        raise VAEError(
            path,
            "the weights of a diffusers model, without the config.json beside it. Download its "
            "folder.",
        )
    if f"{prefix}quant_conv.weight" not in shapes:
        raise VAEError(
            path, f"its quant_conv is missing, so it is not all of Stable Diffusion's VAE. {USE_SD}"
        )


def _without_vae(shapes: Mapping[str, tuple[int, ...]]) -> str:
    """What a file with these tensors is."""
    keys = list(shapes)
    if any(".lora_" in key or "lora_up" in key for key in keys):
        return "a LoRA, not a VAE."
    if any(key.startswith("model.diffusion_model.") for key in keys):
        return f"a diffusion model without its VAE. {USE_SD}"
    halves = [half for half in ("encoder", "decoder") if any(k.startswith(half) for k in keys)]
    if len(halves) == 1:
        return f"only the {halves[0]} of a VAE; FiT needs both halves. {USE_SD}"
    if keys and all(re.match(r"\d+\.", key) for key in keys):
        return f"only one half of a tiny VAE; FiT needs both in one file. {USE_SD}"
    such = f" (its tensors are called {keys[0]} …)" if keys else ""
    return f"not a tiny VAE or a single file of Stable Diffusion's VAE{such}. {USE_SD}"


def _model_folder(path: Path) -> Path:
    folders = [folder for folder in (path, path / "vae") if (folder / "config.json").is_file()]
    for folder in folders:
        if str(_read_config(folder).get("_class_name")).startswith("Autoencoder"):
            return folder
    if folders:
        return folders[0]
    if (path / "model_index.json").is_file():
        raise VAEError(path, "a pipeline without its sub-folder vae. Download that one too.")
    files = sorted(file.name for file in path.iterdir() if file.suffix in _WEIGHTS)
    raise VAEError(
        path,
        "a folder without config.json, so not a diffusers AutoencoderKL. Name that folder, "
        + (f"or a file, such as {path / files[0]}." if files else "or a file."),
    )


def _read_config(folder: Path) -> dict[str, Any]:
    try:
        content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise VAEError(folder, "its config.json is damaged. Download it again.")
    return content


def _beside_config(file: Path) -> Path:
    """The folder of a diffusers model whose file was named, or the file."""
    is_model = file.name.startswith("diffusion_pytorch_model")
    return file.parent if is_model and (file.parent / "config.json").is_file() else file


def _downloaded(name: str) -> Path:
    """The folder of a model of this name in the cache of huggingface_hub."""
    address = _HUB_ADDRESS.fullmatch(name)
    model = address[1] if address else name
    is_name = _HUB_NAME.fullmatch(model) and Path(model).suffix.lower() not in _WEIGHTS
    if not is_name or (not address and Path(model).parent.is_dir()):
        raise FileNotFoundError(
            f'{name}: no such VAE. Name "{TINY}", a file, or a diffusers folder. Photographs need '
            f"Stable Diffusion's. {how_to_get()}"
        )
    if cached := _cached(model):
        return cached
    if _OTHER_LATENTS.search(model):
        raise VAEError(model, f"the latents of this model do not suit FiT. {USE_SD}")
    if model.startswith("openai/"):
        raise VAEError(model, f"OpenAI's consistency decoder has no encoder. {USE_SD}")
    raise FileNotFoundError(
        f"{model}: not here, and nothing is downloaded by itself. {how_to_get(model)}"
    )


def _cached(model: str) -> Path | None:
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for name in ("config.json", "vae/config.json"):
        found = try_to_load_from_cache(model, name)
        if isinstance(found, (str, os.PathLike)):
            return Path(found).parent
    return None
