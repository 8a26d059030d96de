"""Pictures are decided by the seed and their index, drawn once, and never mixed with others."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_fitv2 import FiT, FiTConfig, Metadata, Resolution, load_checkpoint, save_checkpoint
from comfyui_fitv2.labels import Label, LabelError
from training.sample import main
from training.sample.generate import Drawing, batches, draw, parse_classes, pictures_of

ROOT = Path(__file__).parents[4]
NAMES = ["Argentina", "Korea, Republic of", "France"]
SIZES = [Resolution(32, 32), Resolution(16, 48)]
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
    return [*fixed, "--output", str(tmp_path / "pictures")]


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> FiT:
    return load_checkpoint(request.getfixturevalue("bundled_checkpoint"), dtype=torch.float32).model


def pixels(folder: Path) -> dict[str, np.ndarray]:
    return {path.name: np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))}


def test_each_class_is_drawn_at_each_size_width_first(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main(arguments) == 0
    drawn = pixels(tmp_path / "pictures")
    assert list(drawn) == FILES
    assert [picture.shape for picture in drawn.values()] == [(32, 32, 3)] * 2 + [(48, 16, 3)] * 2
    assert "4 pictures" in capsys.readouterr().out


@pytest.mark.parametrize("solver", ["heun", "sde-euler", "sde-heun"])
def test_neither_the_batch_nor_packing_changes_a_picture(model: FiT, solver: str) -> None:
    pictures = pictures_of([Label(1, None), Label(16, None)], SIZES, 2)
    drawing, device = Drawing(solver, 3, seed=5), torch.device("cpu")

    def latents(tokens: int, packed: bool) -> list[torch.Tensor]:
        cut = batches(pictures, tokens, packed=packed, solver=solver)
        return [
            x for batch in cut for x in draw(model, batch, drawing, packed=packed, device=device)
        ]

    alone = latents(1, packed=False)
    for tokens, packed in ((8, False), (1000, True), (7, True)):
        for one, other in zip(alone, latents(tokens, packed), strict=True):
            torch.testing.assert_close(one, other, atol=3e-5, rtol=0)


def test_every_index_and_every_seed_has_noise_of_its_own(model: FiT) -> None:
    pictures = pictures_of([Label(1, None)], SIZES[:1], 3)
    drawn = [
        x
        for seed in (0, 1)
        for x in draw(
            model,
            pictures,
            Drawing("euler", 1, seed=seed),
            packed=False,
            device=torch.device("cpu"),
        )
    ]
    assert all((a - b).abs().max() > 0.1 for i, a in enumerate(drawn) for b in drawn[:i])


def test_batches_keep_the_order_the_budget_and_one_size_unless_packed() -> None:
    pictures = pictures_of([Label(0, None)], [Resolution(32, 32), Resolution(16, 48)], 3)
    indices = {
        packed: [
            [p.index for p in batch] for batch in batches(pictures, 8, packed=packed, solver="heun")
        ]
        for packed in (False, True)
    }
    assert indices == {False: [[0, 1], [2], [3, 4], [5]], True: [[0, 1], [2, 3], [4, 5]]}
    assert [len(batch) for batch in batches(pictures, 1000, packed=True, solver="dopri5")] == [
        1
    ] * 6


def test_two_processes_draw_the_pictures_of_one(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--batch-tokens", "4"]) == 0
    alone = pixels(tmp_path / "pictures")
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
    assert all(np.array_equal(picture, alone[name]) for name, picture in together.items())


def test_only_missing_pictures_are_drawn_again_and_come_out_the_same(
    arguments: list[str], tmp_path: Path
) -> None:
    assert main(arguments) == 0
    before = pixels(tmp_path / "pictures")
    (tmp_path / "pictures" / FILES[1]).unlink()
    times = {
        name: (tmp_path / "pictures" / name).stat().st_mtime_ns for name in (FILES[2], FILES[3])
    }
    assert main(arguments) == 0
    after = pixels(tmp_path / "pictures")
    assert all(np.array_equal(before[name], after[name]) for name in FILES)
    assert times == {name: (tmp_path / "pictures" / name).stat().st_mtime_ns for name in times}


def test_what_a_killed_run_left_half_written_goes(arguments: list[str], tmp_path: Path) -> None:
    assert main(arguments) == 0
    half = tmp_path / "pictures" / f".{FILES[0]}.99999.tmp"
    half.write_bytes(b"\x89PNG")
    assert main(arguments) == 0
    assert not half.exists()


@pytest.mark.parametrize(
    "changed",
    [
        ["--steps", "3"],
        ["--seed", "1"],
        ["--guidance", "3"],
        ["--extrapolation", "ntk + pro2"],
        ["--count", "2"],
        ["--classes", "1,France"],
    ],
    ids=lambda changed: changed[0],
)
def test_a_folder_of_pictures_drawn_otherwise_is_refused_by_the_option_that_differs(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture, changed: list[str]
) -> None:
    assert main(arguments) == 0
    before = pixels(tmp_path / "pictures")
    assert main([*arguments, *changed]) == 1
    assert f"({changed[0].strip('-')} " in capsys.readouterr().err
    assert list(pixels(tmp_path / "pictures")) == list(before)


def test_the_way_pictures_are_batched_may_change_between_runs(arguments: list[str]) -> None:
    assert main(arguments) == 0
    assert main([*arguments, "--packed", "--batch-tokens", "64"]) == 0


def test_a_folder_of_other_files_is_refused(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "holiday.jpg").touch()
    assert main(arguments) == 1
    assert "not empty" in capsys.readouterr().err
    assert [p.name for p in (tmp_path / "pictures").iterdir()] == ["holiday.jpg"]


def test_npz_holds_the_pictures_of_a_size_in_order(arguments: list[str], tmp_path: Path) -> None:
    assert main([*arguments, "--npz"]) == 0
    drawn = pixels(tmp_path / "pictures")
    for size, names in (("32x32", FILES[:2]), ("16x48", FILES[2:])):
        array = np.load(tmp_path / "pictures" / f"{size}.npz")["arr_0"]
        assert array.dtype == np.uint8
        assert np.array_equal(array, np.stack([drawn[name] for name in names]))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--classes", "Frence"], "France"),
        (["--classes", "256"], "ids are 0 to 255"),
        (["--sizes", "256"], "is not a size"),
        (["--sizes", " "], "--sizes"),
        (["--checkpoint", "none.safetensors"], "none.safetensors"),
        (["--extrapolation", "magic"], "magic"),
        (["--steps", "0"], "steps must be 1"),
        (["--count", "0"], "1 picture or more"),
        (["--vae", "none.pt"], "no such VAE"),
        (["--batch-tokens", "0"], "--batch-tokens"),
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
    assert not (tmp_path / "pictures").exists()


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
    assert "version 1" in capsys.readouterr().err


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
    ("text", "ids"),
    [
        ("0,2", [0, 2]),
        ("France, argentina", [2, 0]),
        ("Korea, Republic of", [1]),
        ("Korea, Republic of; 0", [1, 0]),
        ("all", [0, 1, 2]),
    ],
)
def test_classes_are_listed_with_commas_or_semicolons(text: str, ids: list[int]) -> None:
    assert [label.id for label in parse_classes(text, NAMES, 3)] == ids


def test_an_unknown_class_in_a_list_is_named() -> None:
    with pytest.raises(LabelError, match="Frence"):
        parse_classes("0,Frence", NAMES, 3)
