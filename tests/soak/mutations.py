"""Random damage to files and folders: what disks, downloads, editors and attackers do to them."""

from __future__ import annotations

import io
import json
import random
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_DEPTH = 6000
"""Of a JSON list in lists; the parser of Python stops at about 1000."""


def mutate(path: Path, rng: random.Random) -> str:
    """Damage a file, or one of the files of a folder, in place; returns what was done."""
    if path.is_file():
        return f"{path.name}: {_mutate_file(path, rng)}"
    files = sorted(file for file in path.rglob("*") if file.is_file())
    done = []
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        file = rng.choice(files)
        damage = rng.choice((_mutate_file,) * 6 + (_remove, _make_folder, _swap(rng.choice(files))))
        if file.is_file():
            done.append(f"{file.name}: {damage(file, rng)}")
    return "; ".join(done) or "nothing"


def _mutate_file(file: Path, rng: random.Random) -> str:
    content = file.read_bytes()
    ways = [_bytes_of]
    if content[8:9] == b"{":
        ways += [_safetensors_header] * 2
    if content[:2] == b"PK":
        ways += [_zip_member] * 2
    if content.lstrip()[:1] in (b"{", b"["):
        ways += [_json_of] * 4
    way = rng.choice(ways)
    try:
        changed = way(content, rng)
    except (ValueError, KeyError, zipfile.BadZipFile):  # damaged before
        way, changed = _bytes_of, _bytes_of(content, rng)
    file.write_bytes(changed)
    return way.__name__.strip("_")


def _bytes_of(content: bytes, rng: random.Random) -> bytes:
    """Cut, overwritten, doubled, shifted or emptied bytes."""
    if not content:
        return rng.randbytes(64)
    start = rng.randrange(len(content))
    if rng.random() < 0.5:
        start = min(start, rng.randrange(2048))  # headers decide most
    length = min(rng.choice((1, 2, 8, 64, 4096)), len(content) - start)
    end = start + length
    return rng.choice(
        (
            content[:start],
            content[:start] + rng.randbytes(length) + content[end:],
            content[:start] + bytes(length) + content[end:],
            content[:start] + b"\xff" * length + content[end:],
            content[:start] + content[end:],
            content[:start] + content[start:end] * 2 + content[end:],
            content[:start] + rng.randbytes(8) + content[start:],
            content + rng.randbytes(length),
            b"",
        )
    )


def _safetensors_header(content: bytes, rng: random.Random) -> bytes:
    length = int.from_bytes(content[:8], "little")
    header, tensors = content[8 : 8 + length], content[8 + length :]
    changed = _json_of(header, rng)
    claimed = len(changed) if rng.random() < 0.8 else rng.choice((0, 1, length + 1, 2**40, 2**63))
    return claimed.to_bytes(8, "little") + changed + tensors


def _zip_member(content: bytes, rng: random.Random) -> bytes:
    """A zip whose checksums fit, with damage in one member or a name more."""
    changed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(changed, "w") as new:
        names = old.namelist()
        chosen = rng.choice(names)
        for name in names:
            data = old.read(name)
            new.writestr(name, _bytes_of(data, rng) if name == chosen else data)
        if rng.random() < 0.1:
            new.writestr("../outside", b"written by a zip")
    return changed.getvalue()


def _json_of(content: bytes, rng: random.Random) -> bytes:
    """JSON with another value, key or length somewhere, also inside of JSON in a text."""
    value = _changed(json.loads(content), rng)
    text = json.dumps(value, ensure_ascii=rng.random() < 0.5)
    if rng.random() < 0.05:
        text = text.replace("1", "1" * 5000, 1)
    if rng.random() < 0.05:
        text = text.replace(":", f':{"[" * MAX_DEPTH}{"]" * MAX_DEPTH}, "x":', 1)
    return text.encode("utf-8", errors="surrogatepass")


def _changed(value: Any, rng: random.Random) -> Any:
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(list(value))
        way = rng.random()
        if way < 0.1:
            return {k: v for k, v in value.items() if k != key}
        if way < 0.2:
            return {**value, _nasty_text(rng): _nasty(rng)}
        return {**value, key: _changed(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        index = rng.randrange(len(value))
        way = rng.random()
        if way < 0.1:
            return value[:index] + value[index + 1 :]
        if way < 0.2:
            return value[:index] + [value[index]] * rng.choice((2, 5, 500)) + value[index + 1 :]
        return [*value[:index], _changed(value[index], rng), *value[index + 1 :]]
    if isinstance(value, str) and value[:1] in ("{", "["):
        return _json_of(value.encode(), rng).decode("utf-8", errors="surrogatepass")
    if isinstance(value, int | float) and not isinstance(value, bool) and rng.random() < 0.5:
        return rng.choice((value + 1, -value, value * 1000, value / 3, 0, float(value), str(value)))
    return _nasty(rng)


def _nasty(rng: random.Random) -> Any:
    return rng.choice(
        (
            None,
            True,
            False,
            0,
            -1,
            1,
            2**31,
            2**63,
            10**30,
            0.5,
            1e308,
            float("inf"),
            float("nan"),
            [],
            {},
            [[]],
            {"": None},
            [None] * 100,
            _nasty_text(rng),
        )
    )


def _nasty_text(rng: random.Random) -> str:
    return rng.choice(
        (
            *(
                "",
                " ",
                "x" * 100_000,
                "\0",
                "\ud800",
                "../../etc/passwd",
                "/dev/zero",
                "C:\\",
                "-1",
            ),
            *(
                "NaN",
                "C:\\",
                "__class__",
                "__import__('os').mkdir('run')",
                "日本語",
                "\u202e",
                "1e999",
            ),
        )
    )


def _remove(file: Path, rng: random.Random) -> str:
    file.unlink()
    return "removed"


def _make_folder(file: Path, rng: random.Random) -> str:
    file.unlink()
    file.mkdir()
    return "a folder"


def _swap(other: Path) -> Callable[[Path, random.Random], str]:
    def swap(file: Path, rng: random.Random) -> str:
        if other.is_file() and other != file:
            shutil.copyfile(other, file)
        return f"content of {other.name}"

    return swap
