"""Tables of images, as people's programs write them."""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest
from PIL import Image

from training.data.sources import Listing, SourceError, open_images


def place(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 20), "red").save(path)
    return path


def listed(root: Path, name: str, content: str | bytes, *files: str) -> Listing:
    """The listing of a table, with images that exist."""
    for file in files:
        place(root / file)
    if isinstance(content, str):
        content = content.encode()
    (root / name).write_bytes(content)
    return open_images(root, root / name).listing()


def labels(listing: Listing) -> dict[str, str]:
    return {
        file: listing.class_names[class_id]
        for file, class_id in zip(listing.files, listing.class_ids, strict=True)
    }


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
    place(tmp_path / "c.png")
    place(tmp_path / "x" / "a.png")
    (tmp_path / name).write_text(content, encoding="utf-8")
    source = open_images(tmp_path, tmp_path / name)
    listing = source.listing()
    assert listing.class_names == ["cat", "dog"]
    assert list(zip(listing.files, listing.class_ids, listing.sizes, strict=True)) == [
        ("b.png", 1, size),
        ("c.png", 1, size),
        ("x/a.png", 0, size),
    ]
    assert source.source("x/a.png") == tmp_path / "x" / "a.png"


def test_labels_that_are_numbers_are_ordered_by_value(tmp_path: Path) -> None:
    content = "".join(f'{{"file": "{i}.png", "label": {i}}}\n' for i in range(12))
    listing = listed(tmp_path, "m.jsonl", content, *(f"{i}.png" for i in range(12)))
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
        ("m.xlsx", "", r"a spreadsheet; .* must be \.jsonl, \.json, \.csv or \.tsv.*CSV UTF-8"),
        (
            "m.csv",
            "picture,kind\na.png,cat\n",
            r"line 1, found picture, kind\. Name the columns file",
        ),
        ("m.csv", "file,label\na.png,cat, black\n", r"line 2: 3 fields, expected 2"),
        ("m.csv", f'file,label\na.png,"cat\n{"x" * 140_000}', r"line 2: .*quotation mark"),
        ("m.json", '{"a.png": "cat"}', r"expected a list of objects"),
        ("m.json", "[", r"not JSON"),
    ],
)
def test_bad_metadata_is_refused_by_line(
    tmp_path: Path, name: str, content: str, message: str
) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(SourceError, match=message):
        open_images(tmp_path, tmp_path / name).listing()


CAT_AND_DOG = {"cat/a.png": "cat", "dog/b.png": "dog"}


@pytest.mark.cases("D8")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("t.csv", "file,label\r\ncat\\a.png,cat\r\ndog\\b.png,dog\r\n"),
        ("t.csv", "file;label\ncat\\a.png;cat\ndog\\b.png;dog\n;\n"),
        ("t.csv", "sep=;\nfile;label\ncat/a.png;cat\ndog/b.png;dog\n"),
        ("t.tsv", "file\tlabel\ncat/a.png\tcat\ndog/b.png\tdog\n"),
        ("t.csv", "\ufefffile,label,\ncat/a.png,cat,\ndog/b.png,dog,\n,,\n"),
        (
            "Unicode text.txt",
            "file\tlabel\r\ncat\\a.png\tcat\r\ndog\\b.png\tdog\r\n".encode("utf-16"),
        ),
        ("t.csv", "file,label\ncat/a.png,cat\ndog/b.png,dog\n".encode("utf-16-le")),
        ("t.csv", "cat/a.png,cat\ndog/b.png,dog\n"),
        ("t.csv", "cat,cat/a.png\ndog,dog/b.png\n"),
        ("t.csv", "file,label\rcat/a.png,cat\rdog/b.png,dog\r"),
        ("t.csv", 'file,note,label\ncat/a.png,"two\nlines",cat\ndog/b.png,"a ""word""",dog\n'),
        ("t.csv", "file,label\n./cat/a.png,cat\ndog//b.png,dog\n"),
        ("t.csv", "file,label\n cat/a.png , cat \ndog/b.png,dog\n"),
        ("t.csv", "file,label\nCAT/A.PNG,cat\ndog/b.PNG,dog\n"),
        ("t.csv", "id,breed\ncat/a,cat\ndog/b,dog\n"),
        ("t.csv", "file,label\nC:\\Users\\me\\images\\cat\\a.png,cat\nimages/dog/b.png,dog\n"),
        ("t.csv", "file,label\n/home/me/images/cat/a.png,cat\nimages\\dog\\b.png,dog\n"),
        (
            "t.json",
            json.dumps(
                [{"image": "cat/a.png", "class": "cat"}, {"image": "dog/b.png", "class": "dog"}]
            ),
        ),
        (
            "t.ndjson",
            '{"path": "cat/a.png", "label": "cat"}\n{"path": "dog/b.png", "label": "dog"}\n',
        ),
    ],
)
def test_tables_of_other_programs_are_read(tmp_path: Path, name: str, content: str | bytes) -> None:
    listing = listed(tmp_path / "images", name, content, *CAT_AND_DOG)
    assert labels(listing) == CAT_AND_DOG
    assert (listing.problems, listing.left_out) == ([], {})


@pytest.mark.cases("D8")
@pytest.mark.parametrize(
    ("file", "label"),
    [
        ("filename", "class"),
        ("image", "category"),
        ("Path", "target"),
        ("FILE PATH", "Class Name"),
        ("image-path", "species"),
        ("img", "breed"),
        ("filepath", "category_name"),
        ("image_id", "labels"),
    ],
)
def test_columns_have_other_names_too(tmp_path: Path, file: str, label: str) -> None:
    content = f"number,{file},{label}\n1,cat/a.png,cat\n2,dog/b.png,dog\n"
    assert labels(listed(tmp_path, "t.csv", content, *CAT_AND_DOG)) == CAT_AND_DOG


@pytest.mark.cases("D8")
def test_a_name_is_preferred_to_a_number(tmp_path: Path) -> None:
    content = "id,class_id,file_name,class_name\n1,3,cat/a.png,cat\n2,4,dog/b.png,dog\n"
    assert labels(listed(tmp_path, "t.csv", content, *CAT_AND_DOG)) == CAT_AND_DOG


@pytest.mark.cases("D8")
def test_absolute_paths_below_the_root_are_named_by_it(tmp_path: Path) -> None:
    content = f"file,label\n{tmp_path}/cat/a.png,cat\n{tmp_path}/x/../dog/b.png,dog\n"
    (tmp_path / "x").mkdir()
    assert labels(listed(tmp_path, "t.csv", content, *CAT_AND_DOG)) == CAT_AND_DOG


@pytest.mark.cases("D8")
def test_paths_may_begin_at_the_table(tmp_path: Path) -> None:
    for file in CAT_AND_DOG:
        place(tmp_path / "images" / file)
    table = tmp_path / "tables" / "t.csv"
    table.parent.mkdir()
    table.write_text("file,label\n../images/cat/a.png,cat\n../images/dog/b.png,dog\n", "utf-8")
    assert labels(open_images(tmp_path / "images", table).listing()) == CAT_AND_DOG


@pytest.mark.cases("D8")
def test_macos_spells_names_in_pieces(tmp_path: Path) -> None:
    composed, apart = (unicodedata.normalize(form, "été.png") for form in ("NFC", "NFD"))
    listing = listed(tmp_path, "t.csv", f"file,label\n{composed},é\n", apart)
    assert [unicodedata.normalize("NFC", file) for file in listing.files] == [composed]
    assert listing.class_names == ["é"]


@pytest.mark.cases("D8")
def test_another_encoding_is_refused_with_its_line_and_the_remedy(tmp_path: Path) -> None:
    content = "file;label\ncat/a.png;cat\ndog/b.png;pékinois\n".encode("cp1252")
    with pytest.raises(SourceError) as refused:
        listed(tmp_path, "t.csv", content, *CAT_AND_DOG)
    assert f"{tmp_path / 't.csv'}: line 3 is not UTF-8" in str(refused.value)
    assert '"dog/b.png;pékinois"' in str(refused.value)
    assert 'in Excel that is "CSV UTF-8"' in str(refused.value)


@pytest.mark.cases("D8")
def test_files_that_do_not_exist_are_a_problem(tmp_path: Path) -> None:
    rows = [f"{i}.png,owl" for i in range(312)]
    content = "\n".join(["file,label", *rows, "cat/a.png,cat", "http://x.org/a.png,cat"])
    listing = listed(tmp_path, "t.csv", content, "cat/a.png")
    (problem,) = listing.problems
    assert "313 of its 314 images not found below" in problem
    assert "0.png, 1.png, 2.png, …" in problem
    assert labels(listing) == {"cat/a.png": "cat"}
    assert listing.class_names == ["cat"], "a class without an image is none"
    assert listing.left_out["*.png"] == "312 files: no such file"
    assert listing.left_out["http://x.org/a.png"] == "an address, not a file; download it"


@pytest.mark.cases("D8")
def test_an_image_under_two_labels_is_a_problem_and_a_repeated_row_is_not(tmp_path: Path) -> None:
    content = "file,label\na.png,cat\na.png,cat\n./a.png,cat\nb.png,cat\nb.png,dog\n"
    listing = listed(tmp_path, "t.csv", content, "a.png", "b.png")
    assert labels(listing) == {"a.png": "cat", "b.png": "cat"}
    (problem,) = listing.problems
    assert "1 image with more than one label: b.png (lines 5 and 6)" in problem
    assert "2 repeated rows, used once: a.png" in listing.notes[0]


@pytest.mark.cases("D7", "D8")
@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_in_a_table_are_followed_and_count_once(tmp_path: Path) -> None:
    place(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("a.png")
    (tmp_path / "c.png").symlink_to("nowhere.png")
    listing = listed(tmp_path, "t.csv", "file,label\na.png,cat\nb.png,dog\nc.png,cat\n")
    assert labels(listing) == {"a.png": "cat"}
    assert "a.png (lines 2 and 3)" in listing.problems[-1]
    assert listing.left_out == {"c.png": "a broken link"}


@pytest.mark.skipif(os.name == "nt", reason="Windows has no named pipes in folders")
def test_what_cannot_be_read_is_left_out_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "a.cr2").write_bytes(b"II*\0")
    (tmp_path / "empty.png").write_bytes(b"")
    content = "file,label\npipe.png,cat\na.cr2,cat\nempty.png,cat\n"
    listing = listed(tmp_path, "t.csv", content)
    assert listing.left_out == {
        "pipe.png": "a named pipe, not a file",
        "a.cr2": "a raw camera file; convert it to PNG or JPEG",
        "empty.png": "empty: 0 bytes",
    }
    assert "none of its images can be used" in listing.problems[0]


def test_labels_that_differ_in_capitals_alone_are_a_problem(tmp_path: Path) -> None:
    listing = listed(tmp_path, "t.csv", "file,label\na.png,Cat\nb.png,cat\n", "a.png", "b.png")
    assert 'The classes "Cat", "cat" differ only in capitals' in listing.problems[0]


@pytest.mark.cases("D2")
def test_labels_are_in_natural_order(tmp_path: Path) -> None:
    content = "file,label\na.png,class10\nb.png,class2\n"
    assert listed(tmp_path, "t.csv", content, "a.png", "b.png").class_names == ["class2", "class10"]
