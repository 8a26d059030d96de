"""The rows of a table of images, as spreadsheets and programs write it."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

from ..formats import suffix_reason
from .class_names import class_name
from .listing import SourceError

# fmt: off
FILE_COLUMNS = (
    "file", "file_name", "filename", "file_path", "filepath", "image_path", "image_file",
    "image_name", "image_filename", "image", "img_path", "img_name", "img_file", "img", "path",
    "relative_path", "rel_path", "picture", "photo", "image_id", "img_id", "id",
)
LABEL_COLUMNS = (
    "label", "class", "class_name", "classname", "label_name", "category", "category_name",
    "target", "species", "breed", "labels", "classes", "class_label", "class_id", "label_id",
    "category_id", "y",
)
# fmt: on
"""Names of columns, the preferred ones first; capitals, spaces and hyphens do not matter."""

TABLE_SUFFIXES = (".csv", ".tsv", ".tab", ".txt", ".jsonl", ".ndjson", ".json")
_DELIMITERS = ",;\t|"
_EXAMPLE = '{"file": "a.jpg", "label": "cat"}'

Record = tuple[int, dict[str, Any]]
"""The number of a line, and its values by the names of their columns."""


def read_table(path: Path) -> Iterator[Record]:
    """The rows of a JSONL, JSON or CSV file, or one with other separators.

    Raises ``SourceError`` with the line that cannot be used.
    """
    suffix = path.suffix.lower()
    text = _text(path)
    if suffix in (".jsonl", ".ndjson"):
        return _json_lines(path, text)
    if suffix == ".json":
        return _json_array(path, text)
    return _delimited(path, text)


def file_and_label(row: dict[str, Any]) -> tuple[str, str] | None:
    """What a row says; None where it lacks either, or a label is neither a name nor a number."""
    filled = {column: value for column, value in row.items() if value not in (None, "")}
    file, label = (
        _text_of(of.get(column)) if (column := _named(of, names)) is not None else ""
        for of, names in ((filled, FILE_COLUMNS), (row, LABEL_COLUMNS))
    )
    return (file, label) if file and label else None


def label_column(columns: Sequence[str]) -> str | None:
    """The one of ``columns`` that is named like a column of labels."""
    return _named(dict.fromkeys(columns), LABEL_COLUMNS)


def _text_of(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # pandas writes whole numbers so where some are missing
    is_text = isinstance(value, (str, int)) and not isinstance(value, bool)
    return str(value).strip() if is_text else ""


def _named(row: dict[str, Any], names: Sequence[str]) -> str | None:
    """The column of a row that has the first of ``names``."""
    columns = {_column(str(column)): column for column in reversed(list(row))}
    return next((columns[name] for name in names if name in columns), None)


@lru_cache(maxsize=1024)
def _column(text: str) -> str:
    return "_".join(class_name(text).casefold().replace("-", " ").replace("_", " ").split())


def _text(path: Path) -> str:
    content = path.read_bytes()
    encoding = "utf-8-sig"
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        encoding = "utf-16"
    elif content[1:40:2].count(0) > 10:  # every second byte of ASCII in UTF-16 is 0
        encoding = "utf-16-le"
    elif content[0:40:2].count(0) > 10:
        encoding = "utf-16-be"
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        before = content[: error.start]
        start = before.rfind(b"\n") + 1
        line = content[start:].split(b"\n", 1)[0].decode("cp1252", errors="replace").strip()
        raise SourceError(
            path,
            f"line {before.count(10) + 1} is not UTF-8; read as Windows-1252 it would be "
            f'"{line[:80]}". Save the table as UTF-8; in Excel that is "CSV UTF-8".',
        ) from None
    return text


def _json_lines(path: Path, text: str) -> Iterator[Record]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            try:
                row = json.loads(line)
            except (json.JSONDecodeError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise SourceError(path, f"line {number}: not a JSON object such as {_EXAMPLE}.")
            yield number, row


def _json_array(path: Path, text: str) -> Iterator[Record]:
    try:
        rows = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise SourceError(path, f"not JSON: {error}.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise SourceError(path, f"expected a list of objects, such as [{_EXAMPLE}].")
    yield from enumerate(rows, start=1)


def _delimited(path: Path, text: str) -> Iterator[Record]:
    lines = list(io.StringIO(text, newline=""))
    skipped, delimiters = 0, _DELIMITERS
    if lines and lines[0].lower().startswith("sep="):  # tells Excel the separator
        skipped, delimiters = 1, lines.pop(0).rstrip("\r\n")[4:] or "\t"
    delimiter, header = _header(path, lines, delimiters)
    is_header = header is not None
    reader = csv.reader(lines, delimiter=delimiter)
    while True:
        line = reader.line_num + skipped + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            reason = f"line {line}: {error}. Is a quotation mark without its second one?"
            raise SourceError(path, reason) from None
        if values is None:
            return
        if not any(value.strip() for value in values):
            continue
        if is_header:
            is_header = False
        else:
            yield line, _row(path, line, header, values)


def _header(path: Path, lines: list[str], delimiters: str) -> tuple[str, list[str] | None]:
    """The separator and the names of the columns; None for a table of two columns without them."""
    first = {delimiter: _first_row(lines, delimiter) for delimiter in delimiters}
    for delimiter, row in first.items():
        names = dict.fromkeys(row)
        if _named(names, FILE_COLUMNS) and _named(names, LABEL_COLUMNS):
            return delimiter, row
    for delimiter, row in first.items():
        if len(row) == 2 and sum(map(_is_image_name, row)) == 1:
            return delimiter, None
    columns = max(first.values(), key=len)
    if not columns:
        raise SourceError(path, "no images in it.")
    raise SourceError(
        path,
        f"expected a column of files and one of labels in line 1, found {', '.join(columns)[:200]}."
        f" Name the columns {FILE_COLUMNS[0]} and {LABEL_COLUMNS[0]}; also read are "
        f"{', '.join(FILE_COLUMNS[1:10])} … and {', '.join(LABEL_COLUMNS[1:9])} …",
    )


def _first_row(lines: list[str], delimiter: str) -> list[str]:
    with suppress(csv.Error):  # reported with its line where the rows are read
        for row in csv.reader(lines, delimiter=delimiter):
            if any(value.strip() for value in row):
                return row
    return []


def _is_image_name(text: str) -> bool:
    name, dot, suffix = text.strip().rpartition(".")
    return bool(name) and suffix_reason(dot + suffix.lower()) == ""


def _row(path: Path, line: int, header: list[str] | None, values: list[str]) -> dict[str, Any]:
    if header is None:
        first, *others = values
        pair = (first, *others) if _is_image_name(first) else (*others, first)
        return dict(zip(("file", "label"), pair, strict=False))
    while len(values) > len(header) and not values[-1].strip():
        values.pop()
    if len(values) > len(header):
        raise SourceError(
            path,
            f"line {line}: {len(values)} fields, expected {len(header)} as in the first line. Put "
            "quotation marks around what holds a separator.",
        )
    return dict(zip(header, values, strict=False))
