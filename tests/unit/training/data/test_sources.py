"""``training.data.sources``: which images there are, and of which class."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "m.jsonl",
            '{"file": "b.png", "label": "dog"}\n\n{"file": "x/a.png", "label": "cat", "by": 1}\n'
            '{"file": "c.png", "label": "dog"}\n',
        ),
        ("m.csv", "by,file,label\nme,b.png,dog\nme,x/a.png,cat\n,c.png,dog\n"),
        ("m.CSV", "\ufefffile_name,label\nb.png,dog\nx/a.png,cat\nc.png,dog\n"),
    ],
)
def test_a_metadata_file_gives_labels(tmp_path: Path, name: str, content: str) -> None:
    size = place(tmp_path / "b.png").stat().st_size
    (tmp_path / name).write_text(content, encoding="utf-8")
    source = open_images(tmp_path, tmp_path / name)
    listing = source.listing()
    assert listing.class_names == ["cat", "dog"]
    assert list(zip(listing.files, listing.class_ids, listing.sizes, strict=True)) == [
        ("b.png", 1, size),
        ("c.png", 1, -1),
        ("x/a.png", 0, -1),
    ]
    assert source.source("x/a.png") == tmp_path / "x" / "a.png"


def test_labels_that_are_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    (tmp_path / "m.jsonl").write_text(
        "".join(f'{{"file": "{i}.png", "label": {i}}}\n' for i in range(12)), encoding="utf-8"
    )
    listing = open_images(tmp_path, tmp_path / "m.jsonl").listing()
    assert listing.class_names == [str(i) for i in range(12)]
    assert all(
        file == f"{label}.png" for file, label in zip(listing.files, listing.class_ids, strict=True)
    )


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.jsonl", '{"file": "a.png", "label": 1}\n[1]\n', r"line 2: not a JSON object"),
        (
            "m.jsonl",
            '{"file": "a.png"}\n',
            r'line 1: expected a file and a label, found {"file": "a.png"}',
        ),
        ("m.jsonl", '{"file": "a.png", "label": 0.5}\n', r"line 1: expected a file and a label"),
        ("m.csv", "file,label\na.png,cat\nb.png,\n", r"line 3: expected a file and a label"),
        ("m.csv", "file,label\n", r"no images in it"),
        ("m.txt", "", r"must be \.jsonl or \.csv"),
    ],
)
def test_bad_metadata_is_refused_by_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        open_images(tmp_path, tmp_path / name).listing()


def dataset(labels: list[Any], label_feature: Any, column: str = "label") -> Dataset:
    content = io.BytesIO()
    Image.new("RGB", (20, 20), "blue").save(content, "PNG")
    rows = {"photo": [{"bytes": content.getvalue(), "path": None}] * len(labels), column: labels}
    return Dataset.from_dict(
        rows, features=Features({"photo": ImageFeature(), column: label_feature})
    )


def test_a_datasets_folder_is_read(tmp_path: Path) -> None:
    dataset([1, 0, -1, 1], ClassLabel(names=["cat", "dog"]), column="kind").save_to_disk(
        tmp_path / "set"
    )
    source = open_images(tmp_path / "set", None)
    listing = source.listing()
    assert listing.class_names == ["cat", "dog"]
    assert (listing.files, listing.class_ids) == (["0", "1", "3"], [1, 0, 1])
    assert listing.left_out == {"row 2": "has no label"}
    assert listing.fingerprint
    content = source.source("3")
    assert isinstance(content, io.BytesIO)
    assert Image.open(content).getpixel((0, 0)) == (0, 0, 255)


def test_plain_labels_of_a_datasets_folder_are_names(tmp_path: Path) -> None:
    dataset(["b", "a", "b"], Value("string")).save_to_disk(tmp_path / "set")
    listing = open_images(tmp_path / "set", None).listing()
    assert (listing.class_names, listing.class_ids) == (["a", "b"], [1, 0, 1])


def test_a_datasets_folder_without_labels_is_refused_by_its_columns(tmp_path: Path) -> None:
    dataset(["b", "a"], Value("string"), column="caption").save_to_disk(tmp_path / "set")
    with pytest.raises(SourceError, match=r"its columns are photo \(Image\), caption \(Value\)"):
        open_images(tmp_path / "set", None).listing()


def test_of_several_data_sets_one_must_be_named(tmp_path: Path) -> None:
    DatasetDict({"train": dataset(["b"], Value("string"))}).save_to_disk(tmp_path / "sets")
    with pytest.raises(SourceError, match=r"Name one of them: .*train"):
        open_images(tmp_path / "sets", None)


def test_missing_folders_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder"):
        open_images(tmp_path / "none", None)
    with pytest.raises(SourceError, match="a file; expected a folder of images"):
        open_images(place(tmp_path / "a.png"), None)
    with pytest.raises(SourceError, match="no such metadata file"):
        open_images(tmp_path, tmp_path / "none.csv")


def test_without_the_datasets_library_its_folders_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(["b", "a"], Value("string")).save_to_disk(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        SourceError, match=r"which is not installed: python -m pip install datasets"
    ):
        open_images(tmp_path / "set", None).listing()
