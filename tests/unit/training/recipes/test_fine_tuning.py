"""The fine-tuning recipe: its images, and the loss that it compares."""

from pathlib import Path

import pytest
from support.latent_sets import make_latent_set
from support.run_folders import SMALL

from comfyui_fitv2 import FiT, Metadata, save_checkpoint
from training.recipes.fine_tuning import losses, signs


def test_a_sign_depends_on_its_class_and_number_alone() -> None:
    sizes = {signs.draw_sign("star", i, 64).size for i in range(3)}
    assert sizes == {(64, 64), (78, 52), (52, 78)}
    drawn = [signs.draw_sign("star", i, 64).tobytes() for i in (0, 0, 3)]
    assert drawn[0] == drawn[1] != drawn[2]


def test_signs_are_written_as_folders_of_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--output", str(tmp_path), "--image-size", "32"]
    assert signs.main([*options, "--count", "2", "--first", "7"]) == 0
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png")}
    assert files == {f"{name}/{number:04d}.png" for name in signs.SIGNS for number in (7, 8)}
    assert signs.main([*options, "--classes", "star; moon"]) == 1
    assert "there is no sign 'moon'" in capsys.readouterr().err


def test_the_loss_of_checkpoints_is_printed_by_the_names_of_their_classes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = make_latent_set(tmp_path / "latents", per_class=1)
    model = FiT(SMALL).state_dict()
    files = [tmp_path / "known.safetensors", tmp_path / "other.safetensors"]
    save_checkpoint(files[0], model, Metadata(SMALL, ["class2", "class0", "class1"]))
    save_checkpoint(files[1], model, Metadata(SMALL, ["class2", "class0", "x"]))
    options = ["--latents", str(latents), "--times", "2", "--checkpoints", *map(str, files)]
    assert losses.main(options) == 1
    printed = capsys.readouterr()
    assert printed.out.endswith(f"  {files[0]}\n")
    assert 'No class is called "class1"' in printed.err
