"""From a run to a file: what it holds, where it goes, and what is never overwritten."""

import os
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.parts import cut_into_parts
from support.run_folders import SMALL, make_run
from support.training_runs import identical

from comfyui_fitv2 import (
    PRESETS,
    FiT,
    Metadata,
    checkpoint,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from sheets.class_sheet import Layout, read, sheet_path
from training import export
from training.export import ExportOptions, main
from training.sample import class_sheet, sampler
from training.sample.generate import generate
from training.train.checkpoints.reader import latest

GOLDEN = Path(__file__).parents[2] / "golden" / "91ff81d"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return make_run(tmp_path / "mine")


def mark(path: Path) -> float:
    return read_checkpoint(path).state_dict["x_embedder.proj.bias"][0].item()


def test_the_largest_decay_of_the_newest_step_is_exported_with_all_that_a_loader_needs(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "mine.safetensors"
    assert main(["--run", str(run), "--output", str(output)]) == 0
    loaded = load_checkpoint(output)
    assert mark(output) == pytest.approx(20.9999)
    assert loaded.config == SMALL
    assert loaded.class_names == ["cat", "dog", "cow"]
    assert loaded.latent_format is not None
    assert loaded.latent_format.scale_factor == 0.18215
    assert loaded.metadata.training["step"] == 20
    assert loaded.metadata.training["weights"] == "ema 0.9999"
    printed = capsys.readouterr().out
    parameters = sum(p.numel() for p in loaded.model.parameters())
    assert f"{parameters / 1e6:.2f} M parameters" in printed
    assert f"{output.stat().st_size / 1e6:.1f} MB" in printed
    assert "3 classes" in printed


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--ema", "0.9"], 20.9),
        (["--weights", "raw"], 20),
        (["--step", "10"], 10.9999),
        (["--step", "10", "--weights", "raw"], 10),
    ],
)
def test_step_decay_and_raw_weights_can_be_chosen(
    run: Path, tmp_path: Path, options: list[str], expected: float
) -> None:
    assert main(["--run", str(run), "--output", str(tmp_path / "o.safetensors"), *options]) == 0
    assert mark(tmp_path / "o.safetensors") == pytest.approx(expected)


def test_bf16_halves_the_weights(run: Path, tmp_path: Path) -> None:
    models = {}
    for precision in ("fp32", "bf16"):
        path = tmp_path / f"{precision}.safetensors"
        assert main(["--run", str(run), "--output", str(path), "--precision", precision]) == 0
        models[precision] = load_checkpoint(path).model
    assert models["bf16"].dtype == torch.bfloat16
    for whole, half in zip(models["fp32"].parameters(), models["bf16"].parameters(), strict=True):
        assert torch.equal(whole.to(torch.bfloat16), half)


def test_the_folders_of_the_machine_stay_out_of_the_file(run: Path, tmp_path: Path) -> None:
    main(["--run", str(run), "--output", str(tmp_path / "o.safetensors")])
    assert read_checkpoint(tmp_path / "o.safetensors").metadata.training["config"] == {
        "steps": 20,
        "data": "latents",
    }


@pytest.mark.parametrize("given", ["ComfyUI", "ComfyUI/models"])
def test_a_comfyui_gets_the_file_into_its_models_under_the_name_of_the_run(
    run: Path, tmp_path: Path, given: str
) -> None:
    for folder in ("comfy", "models/checkpoints", "models/vae"):
        (tmp_path / "ComfyUI" / folder).mkdir(parents=True)
    assert main(["--run", str(run), "--output", str(tmp_path / given)]) == 0
    assert mark(tmp_path / "ComfyUI" / "models" / "fit" / "mine.safetensors") == pytest.approx(
        20.9999
    )


def test_any_other_folder_gets_the_file_itself(run: Path, tmp_path: Path) -> None:
    (tmp_path / "fit").mkdir()
    assert main(["--run", str(run), "--output", str(tmp_path / "fit")]) == 0
    assert (tmp_path / "fit" / "mine.safetensors").is_file()


def test_an_existing_file_is_replaced_only_when_asked_to(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    output = tmp_path / "o.safetensors"
    output.write_bytes(b"somebody's")
    assert main(["--run", str(run), "--output", str(output)]) == 1
    assert "--overwrite" in capsys.readouterr().err
    assert output.read_bytes() == b"somebody's"
    assert main(["--run", str(run), "--output", str(output), "--overwrite"]) == 0
    assert mark(output) == pytest.approx(20.9999)


def test_the_official_layout_has_no_metadata_and_is_known_by_its_shapes(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "model_ema.safetensors"
    monkeypatch.setitem(PRESETS, "small", SMALL)
    assert main(["--run", str(run), "--output", str(output), "--layout", "official"]) == 0
    with safe_open(output, framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
    assert read_checkpoint(output).metadata.config == SMALL
    assert mark(output) == pytest.approx(20.9999)


def test_official_layout_says_when_the_size_is_not_a_published_one(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert (
        main(
            ["--run", str(run), "--output", str(tmp_path / "o.safetensors"), "--layout", "official"]
        )
        == 0
    )
    assert "note:" in capsys.readouterr().out


def test_adapters_go_where_comfyui_looks_for_loras(run: Path, tmp_path: Path) -> None:
    adapter = {"diffusion_model.blocks.0.attn.qkv.lora_A.weight": torch.ones(2, 32)}
    save_file(adapter, run / "checkpoints" / "step-00000020" / "lora.safetensors")
    (tmp_path / "models").mkdir()
    assert main(["--run", str(run), "--output", str(tmp_path / "models"), "--weights", "lora"]) == 0
    with safe_open(tmp_path / "models" / "loras" / "mine.safetensors", framework="pt") as file:
        assert list(file.keys()) == list(adapter)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "15"], "has no checkpoint of step 15. It has: 10, 20"),
        (["--ema", "0.5"], "It has: 0.9, 0.9999"),
        (["--weights", "lora"], "has no adapters"),
        (["--output", "o.bin"], "ends in .safetensors"),
        (["--run", "nowhere"], "nowhere"),
    ],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, options: list[str], message: str
) -> None:
    output = tmp_path / "o.safetensors"
    assert main(["--run", str(run), "--output", str(output), *options]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not output.exists()


@pytest.mark.parametrize(
    ("run_name", "weights", "source"),
    [
        ("run", "ema", "ema-0.9"),
        ("run", "raw", "model"),
        ("lora_run", "ema", "ema-0.9"),
        ("lora_run", "lora", "lora"),
    ],
)
def test_a_run_of_an_older_version_is_exported_as_it_is(
    tmp_path: Path, run_name: str, weights: str, source: str
) -> None:
    run, output = GOLDEN / run_name, tmp_path / "o.safetensors"
    assert main(["--run", str(run), "--output", str(output), "--weights", weights]) == 0
    exported = load_file(output)
    expected = load_file(run / "checkpoints" / "step-00000004" / f"{source}.safetensors")
    assert exported.keys() == expected.keys()
    assert all(torch.equal(exported[key], value) for key, value in expected.items())
    if weights != "lora":
        metadata = read_checkpoint(output).metadata
        assert metadata.class_names == ["class0", "class1", "class2"]
        assert metadata.training["step"] == 4


@pytest.mark.parametrize("layout", ["fitv2", "official"])
def test_a_file_that_was_damaged_on_its_way_to_the_disk_is_not_exported(
    run: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
) -> None:
    def damage(
        tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str] | None = None
    ) -> None:
        save_file(tensors, path, metadata)
        with path.open("r+b") as file:
            file.seek(-4, os.SEEK_END)
            file.write(b"\x00\x00\x80\x3f")  # 1.0

    monkeypatch.setattr(export, "save_file", damage)
    monkeypatch.setattr(checkpoint, "save_file", damage)
    output = tmp_path / "o.safetensors"
    assert main(["--run", str(run), "--output", str(output), "--layout", layout]) == 1
    assert "did not read back" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("layout", ["fitv2", "official"])
def test_weights_that_are_not_finite_are_refused_and_leave_no_file(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture, layout: str
) -> None:
    file = run / "checkpoints" / "step-00000020" / "model.safetensors"
    with safe_open(file, framework="pt") as opened:
        state, metadata = load_file(file), opened.metadata()
    state["final_layer.linear.bias"][0] = float("nan")
    save_file(state, file, metadata)
    output = str(tmp_path / "o.safetensors")
    options = ["--weights", "raw", "--layout", layout]
    assert main(["--run", str(run), "--output", output, *options]) == 1
    assert "NaN" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


@pytest.mark.parametrize("weights", ["ema", "raw"])
def test_the_parts_of_several_processes_become_one_file(
    run: Path, tmp_path: Path, weights: str
) -> None:
    """The same file as that of a run that was saved whole."""
    written = []
    for name in ("whole", "merged"):
        output = tmp_path / f"{name}.safetensors"
        assert main(["--run", str(run), "--output", str(output), "--weights", weights]) == 0
        with safe_open(output, "pt") as file:
            written.append((file.metadata(), load_file(output)))
        if name == "whole":
            cut_into_parts(latest(run))
    (about, whole), (about_merged, merged) = written
    assert about == about_merged
    assert identical(whole, merged)


SHEET = ["--class-sheet", "--device", "cpu", "--sheet-size", "32x16"]


@pytest.fixture
def tiny(tmp_path: Path, bundled_checkpoint: Path) -> Path:
    """A checkpoint of three classes for the latents of the bundled VAE."""
    path = tmp_path / "tiny.safetensors"
    latent_format = load_checkpoint(bundled_checkpoint).latent_format
    save_checkpoint(path, FiT(SMALL).state_dict(), Metadata(SMALL, ["a", "b", "c"], latent_format))
    return path


def test_a_class_sheet_of_any_checkpoint_is_drawn_beside_it(
    tiny: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(["--checkpoint", str(tiny), *SHEET]) == 0
    path = sheet_path(tiny)
    assert f"{path}: " in capsys.readouterr().out
    assert read(path).layout == Layout(classes=3, columns=2, tile_width=72, tile_height=36)
    assert sorted(file.name for file in tiny.parent.iterdir()) == [path.name, tiny.name]
    assert main(["--checkpoint", str(tiny), *SHEET]) == 1
    assert "Add --overwrite" in capsys.readouterr().err


def test_a_class_sheet_that_was_stopped_is_resumed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[int] = []

    def stopped(*arguments: object, **options: object) -> object:
        if len(drawn) == 2:
            raise KeyboardInterrupt
        return generate(*arguments, **options)  # pyright: ignore[reportArgumentType]

    def counted(path: Path, image: torch.Tensor) -> None:
        drawn.append(len(drawn))
        write_png(path, image)

    write_png = sampler._write_png
    monkeypatch.setattr(sampler, "_write_png", counted)
    monkeypatch.setattr(sampler, "generate", stopped)
    monkeypatch.setattr(class_sheet, "_BATCH_TOKENS", 2)
    with pytest.raises(KeyboardInterrupt):
        export.class_sheet(ExportOptions(sheet_size="32x16", device="cpu"), tiny)
    assert not sheet_path(tiny).exists()
    monkeypatch.setattr(sampler, "generate", generate)
    export.class_sheet(ExportOptions(sheet_size="32x16", device="cpu"), tiny)
    assert len(drawn) == 3
    assert sheet_path(tiny).exists()


def test_a_device_that_is_not_there_is_said_before_anything_is_written(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    file = tmp_path / "mine.safetensors"
    for what in (
        ["--checkpoint", str(tiny)],
        ["--run", str(make_run(tmp_path / "run")), "--output", str(file)],
    ):
        assert main([*what, "--class-sheet", "--device", "gpu"]) == 1
        assert capsys.readouterr().err.startswith("error: --device gpu cannot be used: ")
    assert not file.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "Name the folder of a run with --run"),
        (["--checkpoint", "a.safetensors"], "whose sheet --class-sheet draws"),
        (["--checkpoint", "a.safetensors", "--class-sheet", "--run", "b"], "name --run and"),
        (["--run", "b", "--output", "c", "--class-sheet", "--weights", "lora"], "layout fitv2"),
    ],
)
def test_options_that_do_not_fit_together_are_explained(
    options: list[str], message: str, capsys: pytest.CaptureFixture
) -> None:
    assert main(options) == 1
    assert message in capsys.readouterr().err
