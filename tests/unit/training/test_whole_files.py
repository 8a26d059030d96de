"""Files that are complete or absent, and folders that belong to one command's settings."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from training.whole_files import (
    OutputFolderError,
    check_output_folder,
    file_digest,
    write_json,
    write_text,
    write_whole,
)

SETTINGS = {"steps": 20, "sizes": ["32x32"]}


def check(output: Path, **changed: object) -> None:
    check_output_folder(output, SETTINGS | changed, name="settings.json", holds="images")


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def fail_halfway() -> None:
        with write_whole(path) as temporary:
            temporary.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_halfway()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("number", "tolerated"),
    [(errno.ENOSPC, False), (errno.EIO, False), (errno.EINVAL, True), (errno.ENOTSUP, True)],
)
def test_a_failed_flush_is_an_error_unless_the_drive_cannot_flush(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, tolerated: bool
) -> None:
    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    path = tmp_path / "file.txt"
    if tolerated:
        write_text(path, "content")
        assert path.read_text() == "content"
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            write_text(path, "content")
        assert list(tmp_path.iterdir()) == []


def test_json_is_written_readable_and_in_utf8(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"name": "Ελλάδα"})
    assert (tmp_path / "a.json").read_bytes() == '{\n "name": "Ελλάδα"\n}'.encode()


def test_a_damaged_json_file_is_named(tmp_path: Path) -> None:
    for content in (b'{"steps": 2', b"\xff", b"[" * 100_000):
        (tmp_path / "settings.json").write_bytes(content)
        with pytest.raises(ValueError, match=r"settings\.json is damaged \(.*Restore it"):
            check_output_folder(tmp_path, {}, name="settings.json", holds="images")


def test_a_digest_is_of_the_contents_in_order(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_bytes(b"FiT")
    other.write_bytes(b"v2")
    assert file_digest(one, other) == hashlib.sha256(b"FiTv2").hexdigest()[:16]


def test_an_output_folder_is_made_once_and_accepted_again(tmp_path: Path) -> None:
    check(tmp_path / "deep" / "output")
    (tmp_path / "deep" / "output" / "image.png").touch()
    check(tmp_path / "deep" / "output")


def test_different_settings_are_refused_by_what_differs(tmp_path: Path) -> None:
    check(tmp_path)
    with pytest.raises(OutputFolderError, match="steps: 20 → 30; seed: None → 1") as error:
        check(tmp_path, steps=30, seed=1)
    assert "sizes" not in str(error.value)


def test_a_file_and_a_folder_of_other_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputFolderError, match="is a file"):
        check(tmp_path / "file")
    with pytest.raises(OutputFolderError, match="not empty and contains no images"):
        check(tmp_path)


def test_hidden_files_do_not_make_a_folder_someone_elses(tmp_path: Path) -> None:
    (tmp_path / ".DS_Store").touch()
    check(tmp_path)
    assert (tmp_path / "settings.json").is_file()
