"""Drawings of textured shapes, for studies without data."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.scaling.draw import main
from training.scaling.drawn_shapes import CLASSES, Ratios, drawing, write_drawings


def test_drawings_follow_from_the_seed_and_have_all_classes(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_drawings(tmp_path / name, len(CLASSES), 48, seed, Ratios())
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    one, again, other = (
        [(tmp_path / name / file).read_bytes() for file in files]
        for name in ("one", "again", "other")
    )
    assert one == again
    assert not set(one) & set(other)
    assert sorted(file.parts[0] for file in files) == CLASSES
    assert len(CLASSES) == 9


@pytest.mark.parametrize(("least", "most"), [(1, 1), (1, 2), (3, 3)])
def test_the_sides_have_the_ratios_that_were_asked_for(least: float, most: float) -> None:
    sizes = [
        drawing("plain disc", 96, Ratios(least=least, most=most), np.random.default_rng(i)).size
        for i in range(24)
    ]
    ratios = [width / height for width, height in sizes]
    longer = [max(ratio, 1 / ratio) for ratio in ratios]
    assert min(longer) >= least - 0.04
    assert max(longer) <= most + 0.04
    assert most == 1 or min(ratios) < 1 < max(ratios)
    assert all(abs(width * height / 96**2 - 1) < 0.03 for width, height in sizes)


@pytest.mark.parametrize(("width", "height"), [(144, 96), (64, 208), (128, 128)])
def test_drawings_to_compare_with_have_the_shape_of_the_images(width: int, height: int) -> None:
    for i in range(12):
        image = drawing("plain disc", 96, Ratios.of(width, height), np.random.default_rng(i))
        assert image.width / image.height == pytest.approx(width / height, rel=0.03)


def test_drawings_to_train_on_have_a_square_crop() -> None:
    for i in range(30):
        image = drawing("plain disc", 96, Ratios(), np.random.default_rng(i))
        assert min(image.size) > 64  # the image size of a study with drawings of 96


def colours(name: str, seed: int) -> int:
    """The number of colours that fill more than a fiftieth of the drawing, in coarse steps."""
    image = drawing(name, 96, Ratios(), np.random.default_rng(seed))
    levels = np.asarray(image).reshape(-1, 3) // 64
    _, counts = np.unique(levels, axis=0, return_counts=True)
    return int((counts > counts.sum() / 50).sum())


def test_textures_have_a_colour_more_than_plain_shapes() -> None:
    for texture in ("striped", "checked"):
        textured = sum(colours(f"{texture} disc", seed) for seed in range(12))
        assert textured > sum(colours("plain disc", seed) for seed in range(12))


def test_a_drawing_that_exists_stays(tmp_path: Path) -> None:
    write_drawings(tmp_path, 2, 48, 1, Ratios())
    kept, removed = sorted(tmp_path.rglob("*.png"))
    kept.write_bytes(b"kept")
    removed.unlink()
    write_drawings(tmp_path, 2, 48, 1, Ratios())
    assert kept.read_bytes() == b"kept"
    assert Image.open(removed).size[0] >= 32


def test_the_command_draws_and_refuses_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--output", str(tmp_path / "a"), "--count", "2", "--side", "32"]) == 0
    assert len(list((tmp_path / "a").rglob("*.png"))) == 2
    capsys.readouterr()
    assert main(["--output", str(tmp_path / "b"), "--widest", "0.5"]) == 2
    assert "--widest must be 1 or more" in capsys.readouterr().err
    with pytest.raises(ValueError, match="from 2 to 1"):
        Ratios(least=2, most=1)
