"""``training.data.sources``: which images there are, and of which class."""

from __future__ import annotations

import os
import re
import sys
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from training.data.sources import SourceError, open_images


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), "red").save(path)
    return path


def test_sub_folders_are_classes_in_order_of_name(tmp_path: Path) -> None:
    size = place(tmp_path / "dog" / "b.png").stat().st_size
    for name in ("dog/a.PNG", "cat/deeper/c.jpg", "10/d.webp"):
        place(tmp_path / name)
    listing = open_images(tmp_path, None).listing()
    assert listing.class_names == ["10", "cat", "dog"]
    assert listing.files == ["10/d.webp", "cat/deeper/c.jpg", "dog/a.PNG", "dog/b.png"]
    assert listing.class_ids == [0, 1, 2, 2]
    assert listing.sizes[-1] == size
    assert listing.left_out == {}


def test_the_reason_is_given_for_what_is_left_out(tmp_path: Path) -> None:
    place(tmp_path / "cat" / "a.png")
    place(tmp_path / "alone.png")
    (tmp_path / "README.md").write_text("images", encoding="utf-8")
    (tmp_path / "cat" / "notes.txt").write_text("a cat", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    (tmp_path / ".cache").mkdir()
    (tmp_path / "cat" / "._a.png").write_bytes(b"")
    listing = open_images(tmp_path, None).listing()
    assert (listing.class_names, listing.files) == (["cat"], ["cat/a.png"])
    assert listing.left_out == {
        "README.md": "not an image by its suffix",
        "alone.png": "not in a folder of a class",
        "cat/notes.txt": "not an image by its suffix",
        "empty": "a folder without images is no class",
    }


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are not text")
def test_names_that_are_not_text_are_left_out(tmp_path: Path) -> None:
    place(tmp_path / "cat" / "a.png")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/cat/\xff.png")).write_bytes(b"")
    listing = open_images(tmp_path, None).listing()
    assert listing.files == ["cat/a.png"]
    assert listing.left_out == {r"cat/\udcff.png": "its name is not Unicode; rename it"}


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        open_images(tmp_path / "none", None)
    with pytest.raises(SourceError, match="a file; expected a folder of images"):
        open_images(place(tmp_path / "a.png"), None)
    with pytest.raises(SourceError, match="no such metadata file"):
        open_images(tmp_path, tmp_path / "none.csv")


@pytest.mark.cases("D2")
def test_numbers_in_names_count_by_value(tmp_path: Path) -> None:
    for name in ("10", "2", "1", "class10", "class2", "class02", "a 3 b 12", "a 3 b 2"):
        place(tmp_path / name / "a.png")
    listing = open_images(tmp_path, None).listing()
    assert listing.class_names == [
        "1", "2", "10", "a 3 b 2", "a 3 b 12", "class02", "class2", "class10",
    ]  # fmt: skip
    assert [file.split("/")[0] for file in listing.files] == listing.class_names


def test_many_files_of_one_kind_are_left_out_in_one_line(tmp_path: Path) -> None:
    place(tmp_path / "cat" / "a.png")
    for i in range(1200):
        (tmp_path / "cat" / f"{i}.txt").write_text("a cat", encoding="utf-8")
    listing = open_images(tmp_path, None).listing()
    assert listing.left_out == {"cat/*.txt": "1,200 files: not an image by its suffix"}


@pytest.mark.cases("D4")
@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.png", b"", r"empty: 0 bytes"),
        ("a.jpg", b"version https://git-lfs.github.com/spec/v1\n", r"git lfs pull"),
        ("a.html.jpg", b"<!DOCTYPE html><p>404", r"a web page"),
        ("a.NEF", b"II*\0" + bytes(100), r"a raw camera file; convert it to PNG or JPEG"),
    ],
)
def test_a_class_without_an_image_that_can_be_used_is_a_problem_and_no_class(
    tmp_path: Path, name: str, content: bytes, reason: str
) -> None:
    place(tmp_path / "dog" / "a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / name).write_bytes(content)
    listing = open_images(tmp_path, None).listing()
    assert listing.class_names == ["dog"]
    (problem,) = listing.problems
    assert re.search(
        rf"The class cat has no image that can be used \(1 file\): .*{reason}", problem
    )
    with pytest.raises(ValueError, match=r"cat has no image.*Add --ignore-problems"):
        listing.stop_at_problems()


@pytest.mark.cases("D10")
def test_a_folder_of_nothing_but_unreadable_formats_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    for i in range(4):
        (tmp_path / f"IMG_{i}.HEIC").write_bytes(b"\0\0\0\x1cftypheic" + bytes(300))
    (problem,) = open_images(tmp_path, None).listing().problems
    assert "no image that can be used (4 files): HEIC cannot be read here" in problem
    assert 'python -m pip install "pillow-heif", or convert it to PNG or JPEG' in problem


@pytest.mark.cases("D10")
def test_a_format_is_listed_once_its_plugin_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(Image.OPEN, "HEIF", Image.OPEN["PNG"])
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.heic").write_bytes(b"\0\0\0\x1cftypheic" + bytes(300))
    assert open_images(tmp_path, None).listing().files == ["cat/a.heic"]


def test_names_that_look_the_same_are_one_class_or_a_problem(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    for name in (composed, apart, "dog ", "dog"):
        place(tmp_path / name / f"{len(name)}.png")
    if len(list(tmp_path.iterdir())) < 4:
        pytest.skip("this file system takes the names for one")
    listing = open_images(tmp_path, None).listing()
    assert listing.class_names == ["café", "dog"]
    assert listing.class_ids == [0, 0, 1, 1]
    assert listing.problems == []
    assert len(listing.notes) == 2
    assert r"The folders 'cafe\u0301' and 'caf\xe9' look the same" in listing.notes[0]


@pytest.mark.parametrize("other", ["cat", "CAT", "Cat.", "Ｃａｔ", "Cat  "])
def test_names_that_differ_in_capitals_alone_are_a_problem(tmp_path: Path, other: str) -> None:
    for i, name in enumerate(("Cat", other, "dog")):
        place(tmp_path / name / f"{i}.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system takes the names for one")
    listing = open_images(tmp_path, None).listing()
    if other == "Cat  ":
        assert listing.problems == []
    else:
        (problem,) = listing.problems
        assert f'"{other}"' in problem
        assert "give them one name" in problem


@pytest.mark.cases("D7")
@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_a_class_of_links_to_another_class_is_a_problem(tmp_path: Path) -> None:
    place(tmp_path / "all" / "a.png")
    (tmp_path / "cat").mkdir()
    (tmp_path / "cat" / "a.png").symlink_to(tmp_path / "all" / "a.png")
    (problem,) = open_images(tmp_path, None).listing().problems
    assert "cat has no image that can be used (1 file): a link to an image" in problem
    assert "in the list as all/a.png" in problem


@pytest.mark.cases("D7")
@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_among_linked_folders_end(tmp_path: Path) -> None:
    """Two folders outside that lead to each other, and one of them into the root."""
    root, one, two = tmp_path / "root", tmp_path / "one", tmp_path / "two"
    place(root / "cat" / "a.png")
    place(one / "b.png")
    place(two / "c.png")
    (root / "cat" / "one").symlink_to(one)
    (one / "two").symlink_to(two)
    (two / "one").symlink_to(one)
    (two / "back").symlink_to(root)
    listing = open_images(root, None).listing()
    assert listing.files == ["cat/a.png", "cat/one/b.png", "cat/one/two/c.png"]
    assert listing.left_out == {
        "cat/one/two/back": "a link to a folder that is read as the whole",
        "cat/one/two/one": "a link to a folder that is read as cat/one",
    }


def test_folders_of_other_things_beside_the_classes_are_left_out(tmp_path: Path) -> None:
    place(tmp_path / "cat" / "a.png")
    for name in ("films/a.mp4", "downloads/cats.zip", "papers/cat.pdf"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_bytes(b"x" * 400)
    listing = open_images(tmp_path, None).listing()
    assert (listing.problems, listing.class_names) == ([], ["cat"])
    assert listing.left_out["downloads/cats.zip"] == "an archive; unpack it"
    assert listing.left_out["downloads"] == "a folder without images is no class"


def test_a_table_beside_the_images_is_named(tmp_path: Path) -> None:
    place(tmp_path / "a.png")
    (tmp_path / "metadata.csv").write_text("file_name,label\na.png,cat\n", encoding="utf-8")
    (problem,) = open_images(tmp_path, None).listing().problems
    assert f"name --metadata {tmp_path}/metadata.csv" in problem
