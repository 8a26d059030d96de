"""The command generates each image once, resumes, and never mixes images of other settings."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_fitv2 import FiT, FiTConfig, Metadata, load_checkpoint, save_checkpoint
from training.data.vae import TINY, fingerprint, open_vae
from training.sample import main, sampler

ROOT = Path(__file__).parents[4]
FILES = [
    "000000_076-france_32x32.png",
    "000001_001-albania_32x32.png",
    "000002_076-france_16x48.png",
    "000003_001-albania_16x48.png",
]


@pytest.fixture
def arguments(bundled_checkpoint: Path, tmp_path: Path) -> list[str]:
    fixed = [
        "--checkpoint",
        str(bundled_checkpoint),
        "--classes",
        "France,1",
        "--sizes",
        "32x32,16x48",
        "--steps",
        "2",
        "--device",
        "cpu",
    ]
    return [*fixed, "--output", str(tmp_path / "images")]


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_each_class_is_generated_at_each_size_width_first(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 0
    images = pixels(tmp_path / "images")
    assert list(images) == FILES
    assert [image.shape for image in images.values()] == [(32, 32, 3)] * 2 + [(48, 16, 3)] * 2
    assert "4 images" in capsys.readouterr().out


@pytest.mark.parametrize("options", [["--sizes", "32x32", "16x48"], ["--classes", "France", "1"]])
def test_lists_are_several_words_or_one_with_commas(
    arguments: list[str], tmp_path: Path, options: list[str]
) -> None:
    assert main([*arguments, *options]) == 0
    assert list(pixels(tmp_path / "images")) == FILES


def test_a_name_that_holds_a_comma_is_one_class(arguments: list[str], tmp_path: Path) -> None:
    config = FiTConfig(hidden_size=32, depth=1, num_heads=2, num_classes=3, adaln_lora_dim=8)
    names = ["Argentina", "Korea, Republic of", "France"]
    loaded = load_checkpoint(arguments[1])
    metadata = Metadata(config, names, loaded.latent_format)
    save_checkpoint(tmp_path / "three.safetensors", FiT(config).state_dict(), metadata)
    changed = ["--checkpoint", str(tmp_path / "three.safetensors"), "--sizes", "16x16"]
    changed += ["--classes", "Korea, Republic of", "0", "France"]
    assert main([*arguments, *changed]) == 0
    ids = [name.split("_")[1][:3] for name in pixels(tmp_path / "images")]
    assert ids == ["001", "000", "002"]


@pytest.mark.processes
def test_two_processes_generate_the_images_of_one(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--batch-tokens", "4"]) == 0
    alone = pixels(tmp_path / "images")
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        "-m",
        "training.sample",
        *arguments,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    subprocess.run(
        [*command, "--batch-tokens", "4", "--output", str(tmp_path / "two")],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
    )
    together = pixels(tmp_path / "two")
    assert list(together) == FILES
    assert all(np.array_equal(image, alone[name]) for name, image in together.items())


def test_only_missing_images_are_generated_again_and_come_out_the_same(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 0
    before = pixels(tmp_path / "images")
    (tmp_path / "images" / FILES[1]).unlink()
    times = {name: (tmp_path / "images" / name).stat().st_mtime_ns for name in (FILES[2], FILES[3])}
    assert main(arguments) == 0
    after = pixels(tmp_path / "images")
    assert all(np.array_equal(before[name], after[name]) for name in FILES)
    assert times == {name: (tmp_path / "images" / name).stat().st_mtime_ns for name in times}


def test_what_a_killed_run_left_half_written_goes(arguments: list[str], tmp_path: Path) -> None:
    assert main(arguments) == 0
    half = tmp_path / "images" / f".{FILES[0]}.99999.tmp"
    half.write_bytes(b"\x89PNG")
    assert main(arguments) == 0
    assert not half.exists()


@pytest.mark.parametrize(
    "changed",
    [
        ["--steps", "3"],
        ["--seed", "1"],
        ["--guidance-scale", "3"],
        ["--extrapolation", "ntk + pro2"],
        ["--count", "2"],
        ["--classes", "1,France"],
    ],
    ids=lambda changed: changed[0],
)
def test_a_folder_of_images_with_other_settings_is_refused_by_the_option_that_differs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, changed: list[str]
) -> None:
    assert main(arguments) == 0
    before = pixels(tmp_path / "images")
    assert main([*arguments, *changed]) == 1
    name = changed[0].strip("-").replace("-", "_")
    assert f"({name}: " in capsys.readouterr().err
    assert list(pixels(tmp_path / "images")) == list(before)


def test_the_way_images_are_batched_may_change_between_runs(arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert main([*arguments, "--packed", "--batch-tokens", "64"]) == 0


def test_a_folder_of_other_files_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.jpg").touch()
    assert main(arguments) == 1
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "images").iterdir()] == ["holiday.jpg"]


def test_npz_holds_the_images_of_a_size_in_order(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--npz"]) == 0
    images = pixels(tmp_path / "images")
    for size, names in (("32x32", FILES[:2]), ("16x48", FILES[2:])):
        array = np.load(tmp_path / "images" / f"{size}.npz")["arr_0"]
        assert array.dtype == np.uint8
        assert np.array_equal(array, np.stack([images[name] for name in names]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--classes", "Frence"], "France"),
        (["--classes", "256"], "ids are 0 to 255"),
        (["--sizes", "256"], "is not a size"),
        (["--sizes", " "], "No size was given"),
        (["--checkpoint", "none.safetensors"], "none.safetensors"),
        (["--extrapolation", "magic"], "magic"),
        (["--steps", "0"], "steps must be 1"),
        (["--count", "0"], "1 image or more"),
        (["--solver", "magic"], "magic"),
        (["--vae", "none.pt"], "none.pt"),
        (["--batch-tokens", "0"], "1 token or more"),
        (["--seed", "-1"], "seed"),
    ],
)
def test_a_mistake_is_one_line_and_makes_no_folder(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changed: list[str],
    message: str,
) -> None:
    assert main([*arguments, *changed]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "images").exists()


def test_a_model_that_predicts_noise_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    config = FiTConfig(
        hidden_size=32,
        depth=1,
        num_heads=2,
        num_classes=2,
        adaln_lora_dim=0,
        qk_norm=False,
        prediction="epsilon",
    )
    save_checkpoint(tmp_path / "v1.safetensors", FiT(config).state_dict(), Metadata(config))
    assert (
        main([*arguments, "--checkpoint", str(tmp_path / "v1.safetensors"), "--classes", "all"])
        == 1
    )
    assert "predicts noise" in capsys.readouterr().err
    assert not (tmp_path / "images").exists()


def test_a_vae_of_another_scale_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    loaded = load_checkpoint(arguments[1])
    assert loaded.latent_format is not None
    other = Metadata(loaded.config, loaded.class_names, type(loaded.latent_format)(0.5))
    save_checkpoint(tmp_path / "other.safetensors", loaded.model.state_dict(), other)
    assert main([*arguments, "--checkpoint", str(tmp_path / "other.safetensors")]) == 1
    assert "trained on 0.5" in capsys.readouterr().err


@pytest.mark.parametrize(
    "training", [{"vae": "sd-vae"}, {"vae": "vae.st", "vae_fingerprint": [1.0]}]
)
def test_a_vae_of_other_latents_is_refused(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    training: dict[str, Any],
) -> None:
    loaded = load_checkpoint(arguments[1])
    metadata = replace(loaded.metadata, training=training)
    save_checkpoint(tmp_path / "other.safetensors", loaded.model.state_dict(), metadata)
    arguments = [*arguments, "--checkpoint", str(tmp_path / "other.safetensors")]
    assert main(arguments) == 1
    assert f"such as --vae path/to/{training['vae']}" in capsys.readouterr().err
    if "vae_fingerprint" in training:
        assert main([*arguments, "--vae", "tiny"]) == 1
        assert "--vae tiny is another VAE than that of" in capsys.readouterr().err


def test_the_bundled_vae_is_known_by_its_latents_whatever_its_file_was_called(
    arguments: list[str], tmp_path: Path
) -> None:
    loaded = load_checkpoint(arguments[1])
    training = {"vae": "my-vae.safetensors", "vae_fingerprint": list(fingerprint(open_vae(TINY)))}
    metadata = replace(loaded.metadata, training=training)
    save_checkpoint(tmp_path / "other.safetensors", loaded.model.state_dict(), metadata)
    assert main([*arguments, "--checkpoint", str(tmp_path / "other.safetensors")]) == 0


@pytest.mark.cases("P6")
def test_memory_that_runs_out_is_one_line_and_what_was_written_stays(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    generate, calls = sampler.generate, iter(range(9))

    def generate_until_full(*values: Any, **options: Any) -> list[torch.Tensor]:
        if next(calls):
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines.")
        return generate(*values, **options)

    with monkeypatch.context() as patched:
        patched.setattr(sampler, "generate", generate_until_full)
        assert main([*arguments, "--batch-tokens", "4"]) == 1
    assert capsys.readouterr().err.splitlines()[-1] == (
        "error: the memory of the device ran out. Lower --batch-tokens, or use --precision bf16 in "
        "another --output. The images that were written stay; the same command resumes."
    )
    assert list(pixels(tmp_path / "images")) == FILES[:1]
    assert main([*arguments, "--batch-tokens", "8"]) == 0
    assert list(pixels(tmp_path / "images")) == FILES


@pytest.mark.cases("C3")
def test_a_checkpoint_may_be_a_folder(arguments: list[str], tmp_path: Path) -> None:
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    shutil.copy(arguments[1], folder / "model.safetensors")
    assert main([*arguments, "--checkpoint", str(folder)]) == 0
    assert list(pixels(tmp_path / "images")) == FILES


def test_a_blend_is_generated_under_the_names_of_its_classes(
    arguments: list[str], tmp_path: Path
) -> None:
    blends = ["--classes", "0.7*France + 0.3*UK; USA", "1 + Albania", "--sizes", "32x32"]
    assert main([*arguments, *blends]) == 0
    images = pixels(tmp_path / "images")
    assert list(images) == [
        "000000_076-france-70+240-united-kingdom-30_32x32.png",
        "000001_241-united-states_32x32.png",
        "000002_001-albania_32x32.png",
    ]
    settings = (tmp_path / "images" / "sampling.json").read_text(encoding="utf-8")
    assert "0.7*76 · France + 0.3*240 · United Kingdom" in settings
    assert main([*arguments, *blends[:2], "--sizes", "32x32"]) == 1  # other classes


def test_auto_draws_what_the_checkpoint_recommends(arguments: list[str], tmp_path: Path) -> None:
    def drawn(method: str) -> dict[str, np.ndarray]:
        folder = tmp_path / method
        size = ["--sizes", "32x576", "--classes", "France", "--output", str(folder)]
        assert main([*arguments, *size, "--extrapolation", method]) == 0
        return pixels(folder)

    auto, linear, ntk = map(drawn, ("auto", "linear", "ntk"))
    [name] = auto
    assert np.array_equal(auto[name], linear[name])
    assert not np.array_equal(auto[name], ntk[name])
