"""Reading checkpoints of every origin, and refusing everything else with reasons."""

import sys
from collections import OrderedDict
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from support.broken_checkpoints import BROKEN, CONFIG, Broken, safetensors, torch_pickle, weights

from comfyui_fitv2 import (
    CheckpointError,
    FiT,
    FiTConfig,
    LatentFormat,
    Metadata,
    load_checkpoint,
    read_checkpoint,
    sample,
    save_checkpoint,
)
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor
from comfyui_fitv2.config import PRESETS

METADATA = Metadata(
    CONFIG, ["a", "b", "c"], LatentFormat(0.5, [[0.1, 0.2, 0.3]] * 4, [0.0, 0.0, 0.1]), {"steps": 7}
)


@pytest.mark.parametrize("broken", BROKEN, ids=lambda b: b.name)
def test_a_broken_file_gets_an_error_that_names_it_and_runs_no_code(
    tmp_path: Path, broken: Broken
) -> None:
    path, made_by_code = tmp_path / broken.name, tmp_path / "made_by_code"
    path.write_bytes(broken.content(made_by_code))
    with pytest.raises(CheckpointError, match=broken.message) as error:
        load_checkpoint(path)
    assert str(path) in str(error.value)
    assert not made_by_code.exists()


@pytest.mark.parametrize("kept", [0.0005, 0.01, 0.03, 0.05, 0.1, 0.5, 0.999])
@pytest.mark.parametrize(
    "write",
    [safetensors, torch_pickle, lambda state: torch_pickle(state, legacy=True)],
    ids=["safetensors", "zip", "legacy"],
)
def test_a_file_cut_anywhere_gets_a_checkpoint_error(tmp_path: Path, write, kept: float) -> None:
    path, content = tmp_path / "cut.pt", write(weights())
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(CheckpointError):
        load_checkpoint(path)


def test_the_code_in_the_broken_pickles_would_have_run(tmp_path: Path) -> None:
    made_by_code = tmp_path / "made_by_code"
    content = next(b for b in BROKEN if b.name == "code.bin").content(made_by_code)
    (tmp_path / "code.bin").write_bytes(content)
    torch.load(tmp_path / "code.bin", weights_only=False)
    assert made_by_code.exists()


def test_a_missing_file_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_checkpoint(tmp_path / "none.safetensors")
    with pytest.raises(CheckpointError, match="a folder"):
        load_checkpoint(tmp_path)


def test_saving_and_loading_keeps_everything(tmp_path: Path) -> None:
    model = FiT(CONFIG)
    path = tmp_path / "deep" / "own.safetensors"
    save_checkpoint(path, model.state_dict(), METADATA)
    loaded = load_checkpoint(path)
    assert loaded.metadata == METADATA
    assert (loaded.config, loaded.class_names, loaded.latent_format) == (
        CONFIG,
        ["a", "b", "c"],
        METADATA.latent_format,
    )
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in loaded.model.state_dict().items())
    assert [p.name for p in path.parent.iterdir()] == ["own.safetensors"]


def test_a_failed_save_leaves_the_old_file_and_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, weights(), METADATA)
    before = path.read_bytes()

    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_checkpoint(path, weights(), METADATA)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize(
    "prefix", ["", "module.", "model.diffusion_model.", "diffusion_model.", "module._orig_mod."]
)
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model_ema"])
def test_pickles_load_whatever_their_name_prefix_and_wrapping(
    tmp_path: Path, legacy: bool, prefix: str, wrapper: str | None
) -> None:
    state = {**weights(), METADATA_TENSOR: metadata_tensor(METADATA)}
    content = OrderedDict((prefix + k, v) for k, v in state.items())
    path = tmp_path / "model_ema.safetensors"
    path.write_bytes(
        torch_pickle(content if wrapper is None else {wrapper: content, "step": 3}, legacy)
    )
    loaded = load_checkpoint(path)
    assert loaded.metadata == METADATA
    assert torch.equal(
        loaded.model.state_dict()["blocks.1.mlp.fc2.weight"], state["blocks.1.mlp.fc2.weight"]
    )


def test_safetensors_load_from_a_file_named_bin(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(safetensors(weights()))
    assert load_checkpoint(path).config == CONFIG


def test_an_official_checkpoint_is_recognised_by_shape(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Published sizes are gigabytes; a preset of a small size stands for them.
    small = replace(CONFIG, num_classes=1000)
    monkeypatch.setitem(PRESETS, "small", small)
    monkeypatch.setitem(PRESETS, "small-hr", replace(small, extrapolation="ntk"))
    path = tmp_path / "model_ema.bin"
    path.write_bytes(torch_pickle(FiT(small).state_dict()))
    loaded = load_checkpoint(path)
    assert loaded.config == small
    assert loaded.class_names is not None
    assert loaded.class_names[207] == "golden retriever"
    assert load_checkpoint(path, preset="small-hr").config.extrapolation == "ntk"
    with pytest.raises(CheckpointError, match="fitv2-b: 768, 15, 192"):
        load_checkpoint(path, preset="fitv2-b")


def test_version_1_is_recognised_by_shape_and_its_learned_sigma_dropped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small = FiTConfig(
        64,
        2,
        2,
        num_classes=1000,
        adaln_lora_dim=0,
        mlp_ratio=6.0,
        qk_norm=False,
        prediction="epsilon",
    )
    monkeypatch.setitem(PRESETS, "small-1", small)
    state = FiT(small).state_dict()
    noise, sigma = torch.randn(16, 64), torch.full((16, 64), 9.0)
    # Tokens are (c p1 p2): the sigma's channels follow the noise's.
    published = {
        **state,
        "final_layer.linear.weight": torch.cat([noise, sigma]),
        "final_layer.linear.bias": torch.arange(32.0),
    }
    path = tmp_path / "model_ema.bin"
    path.write_bytes(torch_pickle(published))
    loaded = load_checkpoint(path)
    assert loaded.config == small
    assert torch.equal(loaded.model.final_layer.linear.weight, noise)
    assert torch.equal(loaded.model.final_layer.linear.bias, torch.arange(16.0))


def test_weights_stay_in_the_file_until_used(tmp_path: Path) -> None:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc/self/maps, which only Linux has")
    for name, content in (
        ("own.safetensors", safetensors(weights())),
        ("own.bin", torch_pickle({**weights(), METADATA_TENSOR: metadata_tensor(METADATA)})),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        loaded = load_checkpoint(path)
        mapped = [
            line.split()[0].split("-")
            for line in Path("/proc/self/maps").read_text().splitlines()
            if line.endswith(str(path))
        ]
        ranges = [(int(start, 16), int(end, 16)) for start, end in mapped]
        assert ranges
        assert all(
            any(start <= p.data_ptr() < end for start, end in ranges)
            for p in loaded.model.parameters()
        )


def test_changing_a_loaded_model_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "own.safetensors"
    save_checkpoint(path, weights(), METADATA)
    before = path.read_bytes()
    with torch.no_grad():
        for parameter in load_checkpoint(path).model.parameters():
            parameter.add_(1.0)
    assert path.read_bytes() == before


def test_the_bundled_checkpoint_tells_its_training_and_can_be_sampled(
    bundled_checkpoint: Path,
) -> None:
    loaded = load_checkpoint(bundled_checkpoint)
    assert read_checkpoint(bundled_checkpoint).metadata.training["images"] > 10_000
    latents = sample(loaded.model, torch.randn(1, 4, 32, 32), torch.tensor([75]), "euler", 2)
    assert latents.shape == (1, 4, 32, 32)
    assert latents.isfinite().all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_heads": 3}, "hidden_size 32 is not divisible by num_heads 3"),
        ({"num_heads": 16}, "multiple of 4"),
        ({"patch_size": 4}, "patch_size must be 2, not 4"),
        ({"mlp_ratio": 0.01}, "mlp_ratio 0.01 leaves no width to the MLP of hidden_size 32"),
        ({"depth": 0}, "depth must be a whole number of 1 or more, not 0"),
        ({"extrapolation": "magic"}, "'magic' is unknown"),
    ],
)
def test_a_configuration_that_cannot_be_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **changes)


def test_presets_are_named_when_one_is_unknown() -> None:
    with pytest.raises(ValueError, match="fitv2-b, fitv2-xl, fitv2-3b"):
        FiTConfig.preset("fitv2-xxl")


def test_class_names_must_be_as_many_as_classes() -> None:
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        Metadata(CONFIG, ["a", "b"])
