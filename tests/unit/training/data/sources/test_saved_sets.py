"""Folders that Hugging Face ``datasets`` saved."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import pytest
from datasets import ClassLabel, Dataset, DatasetDict, Features, Value
from datasets import Image as ImageFeature
from PIL import Image

from training.data.decode import DecodeError
from training.data.sources import SourceError, open_images


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


def test_without_the_datasets_library_its_folders_are_refused_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset(["b", "a"], Value("string")).save_to_disk(tmp_path / "set")
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(
        SourceError, match=r"which is not installed: python -m pip install datasets"
    ):
        open_images(tmp_path / "set", None).listing()


@pytest.mark.cases("D5")
@pytest.mark.parametrize(
    ("labels", "feature"),
    [
        (["cat", None, "dog", "", " "], Value("string")),
        ([7, None, 12, -1, -100], Value("int64")),
        ([7.0, None, 12.0, float("nan"), -1.0], Value("float64")),
    ],
    ids=["names", "numbers", "floats"],
)
def test_rows_without_a_label_are_left_out(tmp_path: Path, labels: list[Any], feature: Any) -> None:
    dataset(labels, feature).save_to_disk(tmp_path / "set")
    listing = open_images(tmp_path / "set", None).listing()
    assert listing.class_names in (["cat", "dog"], ["7", "12"])
    assert (listing.files, listing.class_ids) == (["0", "2"], [0, 1])
    assert listing.left_out == dict.fromkeys(("row 1", "row 3", "row 4"), "has no label")


@pytest.mark.cases("D5")
def test_many_rows_without_a_label_are_one_line(tmp_path: Path) -> None:
    dataset(["cat", *[None] * 20], Value("string")).save_to_disk(tmp_path / "set")
    listing = open_images(tmp_path / "set", None).listing()
    assert listing.left_out == {"row 1, row 2, row 3, …": "20 rows: has no label"}


def test_rows_without_an_image_are_left_out(tmp_path: Path) -> None:
    photo = {"bytes": b"pixels", "path": None}
    features = Features({"photo": ImageFeature(), "label": Value("string")})
    rows = {"photo": [photo, None], "label": ["cat", "dog"]}
    Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "set")
    source = open_images(tmp_path / "set", None)
    assert source.listing().left_out == {"row 1": "has no image"}
    with pytest.raises(DecodeError, match="no image"):
        source.source("1")


@pytest.mark.cases("D2")
def test_plain_labels_are_in_natural_order(tmp_path: Path) -> None:
    dataset(["class10", "class2", "class1"], Value("string")).save_to_disk(tmp_path / "set")
    listing = open_images(tmp_path / "set", None).listing()
    assert listing.class_names == ["class1", "class2", "class10"]


@pytest.mark.parametrize("column", ["class", "Category", "target"])
def test_columns_of_labels_have_other_names_too(tmp_path: Path, column: str) -> None:
    dataset(["b", "a"], Value("string"), column=column).save_to_disk(tmp_path / "set")
    assert open_images(tmp_path / "set", None).listing().class_names == ["a", "b"]
