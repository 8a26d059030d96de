"""``training.data.vae_files``: each thing that is named in place of a VAE is refused as what it
is."""

from __future__ import annotations

import json
from pathlib import Path

import huggingface_hub
import pytest
import torch
from safetensors.torch import save_file

from training.data.vae import open_vae
from training.data.vae_files import RECOMMENDED, VAEError, refuse_other_file, vae_path

SD = {
    "encoder.conv_in.weight": (1, 3, 3, 3),
    "decoder.conv_in.weight": (1, 4, 3, 3),
    "quant_conv.weight": (1, 1, 1, 1),
}
DOWNLOAD = f"hf download {RECOMMENDED} config.json diffusion_pytorch_model.safetensors"


def weights(path: Path, shapes: dict[str, tuple[int, ...]]) -> Path:
    save_file({key: torch.zeros(shape) for key, shape in shapes.items()}, path)
    return path


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (
            {**SD, "decoder.conv_in.weight": (1, 16, 3, 3)},
            r"16 channels \(Flux, Stable Diffusion 3\)",
        ),
        ({**SD, "decoder.conv_in.weight": (1, 32, 3, 3)}, r"of 32 channels; FiT takes one of 4"),
        ({**SD, "decoder.conv_in.weight": (1, 16, 3, 3, 3)}, "a VAE for videos"),
        ({key: shape for key, shape in SD.items() if "quant" not in key}, "quant_conv is missing"),
        (
            {f"first_stage_model.{key}": shape for key, shape in SD.items() if "quant" not in key},
            "quant_conv is missing",
        ),
        (
            {**SD, "encoder.down_blocks.0.resnets.0.norm1.weight": (1,)},
            r"without the config\.json beside it",
        ),
        ({"decoder.conv_in.weight": (1, 4, 3, 3)}, "only the decoder of a VAE"),
        ({"1.weight": (1,), "3.conv.0.weight": (1,)}, "only one half of a tiny VAE"),
        ({"model.diffusion_model.out.2.weight": (1,)}, "a diffusion model without its VAE"),
        ({"lora_unet_down.lora_up.weight": (1,)}, "a LoRA, not a VAE"),
        ({"blocks.0.weight": (1,)}, r"its tensors are called blocks\.0\.weight"),
    ],
)
def test_other_tensors_are_called_by_their_name(
    tmp_path: Path, shapes: dict[str, tuple[int, ...]], message: str
) -> None:
    with pytest.raises(VAEError, match=message):
        open_vae(str(weights(tmp_path / "x.safetensors", shapes)))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (b"<!DOCTYPE html><html>", "a web page, saved in place of the file"),
        (b"GGUF\x03\x00", "a GGUF file"),
        (b"\x89PNG\r\n\x1a\n", "an image"),
        (b"\x10\x00\x00\x00\x00\x00\x00\x00{}", r"damaged or incomplete \("),
    ],
)
def test_other_files_are_called_by_their_name(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "vae.safetensors").write_bytes(content)
    with pytest.raises(VAEError, match=message):
        open_vae(str(tmp_path / "vae.safetensors"))


@pytest.mark.parametrize("name", ["sdxl_vae.safetensors", "model.safetensors"])
def test_a_single_file_of_sdxl_needs_its_scale(tmp_path: Path, name: str) -> None:
    shapes = SD if "sdxl" in name else {**SD, "conditioner.embedders.1.model.x": (1,)}
    file = weights(tmp_path / name, shapes)
    with pytest.raises(VAEError, match=r"in prepare, add --scale-factor 0\.13025"):
        refuse_other_file(file, None)
    refuse_other_file(file, 0.13025)
    refuse_other_file(weights(tmp_path / "vae-ft-ema.safetensors", SD), None)


def test_a_model_that_was_not_downloaded_gets_the_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing is downloaded by itself") as error:
        vae_path(RECOMMENDED)
    assert f"{DOWNLOAD} --local-dir sd-vae-ft-ema. Then use it: --vae sd-vae" in str(error.value)
    for name in (f"https://huggingface.co/{RECOMMENDED}/tree/main", "some/sd-pipeline"):
        with pytest.raises(FileNotFoundError, match="hf download"):
            vae_path(name)
    with pytest.raises(FileNotFoundError, match=r'sd-pipeline --include "vae/\*" --local-dir'):
        vae_path("some/sd-pipeline")
    with pytest.raises(VAEError, match="do not suit FiT"):
        vae_path("black-forest-labs/FLUX.1-dev")
    with pytest.raises(VAEError, match="has no encoder"):
        vae_path("openai/consistency-decoder")
    (tmp_path / "models").mkdir()
    with pytest.raises(FileNotFoundError, match="models/sd: no such VAE"):
        vae_path("models/sd")


def test_a_model_in_the_cache_of_the_hub_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda model, name: str(tmp_path / name) if name.startswith("vae/") else None,
    )
    assert vae_path("some/pipeline") == tmp_path / "vae"


def test_folders_of_other_models_are_called_by_their_name(tmp_path: Path) -> None:
    for name, message in (
        ("AutoencoderKLWan", r"not an AutoencoderKL \(a VAE for videos\)"),
        ("AutoencoderDC", r"32 × 32 pixels"),
        ("ConsistencyDecoderVAE", r"decodes only"),
    ):
        config = {"_class_name": name}
        (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
        with pytest.raises(VAEError, match=message) as error:
            open_vae(str(tmp_path))
        assert DOWNLOAD in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "config.json").write_text('{"_class_name": "AutoencoderKL"}', encoding="utf-8")
    with pytest.raises(VAEError, match=r"has config\.json but no weights"):
        open_vae(str(tmp_path))
    pointer = tmp_path / "diffusion_pytorch_model.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1", encoding="utf-8")
    with pytest.raises(VAEError, match="run git lfs pull"):
        open_vae(str(tmp_path))


def test_a_folder_is_taken_for_what_it_holds(tmp_path: Path) -> None:
    pipeline, vae = tmp_path / "pipeline", tmp_path / "pipeline" / "vae"
    vae.mkdir(parents=True)
    (pipeline / "model_index.json").write_text("{}", encoding="utf-8")
    with pytest.raises(VAEError, match="a pipeline without its sub-folder vae"):
        vae_path(str(pipeline))
    (pipeline / "config.json").write_text('{"_class_name": "Text"}', encoding="utf-8")
    (vae / "config.json").write_text('{"_class_name": "AutoencoderKL"}', encoding="utf-8")
    assert vae_path(str(pipeline)) == vae
    model = weights(vae / "diffusion_pytorch_model.safetensors", SD)
    assert vae_path(str(model)) == vae, "the file of a model has its configuration beside it"
    folder = tmp_path / "files"
    folder.mkdir()
    weights(folder / "sd.safetensors", SD)
    with pytest.raises(VAEError, match=r"or a file, such as .*sd\.safetensors"):
        vae_path(str(folder))


def test_a_path_that_windows_wrote_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models").mkdir()
    weights(tmp_path / "models" / "sd.safetensors", SD)
    assert vae_path("models\\sd.safetensors").is_file()
