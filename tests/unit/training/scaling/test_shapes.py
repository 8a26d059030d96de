"""Images of shapes, for studies without data."""

from pathlib import Path

from PIL import Image

from training.scaling.shapes import RATIOS, SHAPES, write_shapes


def test_images_follow_from_the_seed_and_have_all_classes_and_ratios(tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_shapes(tmp_path / name, 30, 64, seed)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*.png"))
    one, again, other = (
        [(tmp_path / name / file).read_bytes() for file in files]
        for name in ("one", "again", "other")
    )
    assert one == again
    assert not set(one) & set(other)
    assert {file.parts[0] for file in files} == set(SHAPES)
    assert len({Image.open(tmp_path / "one" / file).size for file in files}) == len(RATIOS)


def test_an_image_that_exists_stays(tmp_path: Path) -> None:
    write_shapes(tmp_path, 2, 64, seed=1)
    kept, removed = sorted(tmp_path.rglob("*.png"))
    kept.write_bytes(b"kept")
    removed.unlink()
    write_shapes(tmp_path, 2, 64, seed=1)
    assert kept.read_bytes() == b"kept"
    assert Image.open(removed).size[0] >= 32
