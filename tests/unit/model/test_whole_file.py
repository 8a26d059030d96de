"""A file gets its name when it is complete and on the disk, or never."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from comfyui_fitv2 import FiT, FiTConfig, Metadata, save_checkpoint
from comfyui_fitv2.autoencoder import TinyAutoencoder, save_autoencoder
from comfyui_fitv2.whole_file import TEMPORARY_SUFFIX, sync_to_disk, write_whole

TINY = FiTConfig(hidden_size=16, depth=1, num_heads=2, num_classes=1, adaln_lora_dim=2)


def refuse(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let every fsync fail."""

    def fsync(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)


def write(path: Path, content: bytes = b"new") -> None:
    with write_whole(path) as temporary:
        temporary.write_bytes(content)


def test_a_file_gets_its_name_after_it_is_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced = tmp_path / "file", []
    monkeypatch.setattr(os, "fsync", lambda descriptor: synced.append(path.exists()))
    with write_whole(path) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".file.")
        assert temporary.name.endswith(TEMPORARY_SUFFIX)
        temporary.write_bytes(b"new")
    assert synced == [False]
    assert path.read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [path]


def test_an_error_while_writing_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write(path, b"old")

    def fail(temporary: Path) -> None:
        temporary.write_bytes(b"half")
        raise KeyError

    with pytest.raises(KeyError), write_whole(path) as temporary:
        fail(temporary)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(
    "save",
    [
        write,
        lambda path: save_checkpoint(path, FiT(TINY).state_dict(), Metadata(TINY)),
        lambda path: save_autoencoder(path, TinyAutoencoder()),
    ],
    ids=["write_whole", "save_checkpoint", "save_autoencoder"],
)
def test_an_error_that_the_disk_reports_is_raised_and_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, save, number: int
) -> None:
    refuse(monkeypatch, number)
    with pytest.raises(OSError, match=os.strerror(number)):
        save(tmp_path / "file.safetensors")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_without_fsync_is_written_to_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse(monkeypatch, number)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_a_folder_can_be_synced_too(tmp_path: Path) -> None:
    sync_to_disk(tmp_path)
    with pytest.raises(FileNotFoundError):
        sync_to_disk(tmp_path / "none")


def deny_renames(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Let the first renames fail as on Windows, where a virus scanner holds a new file open."""
    left, replace = [times], Path.replace

    def denied(path: Path, target: Path) -> Path:
        left[0] -= 1
        if left[0] >= 0:
            raise PermissionError(errno.EACCES, "Access is denied", str(path))
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", denied)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.cases("C7")
def test_a_rename_that_is_denied_for_a_moment_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deny_renames(monkeypatch, 3)
    write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"new"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_rename_that_stays_denied_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "file", b"old")
    deny_renames(monkeypatch, 100)
    with pytest.raises(PermissionError, match="Access is denied"):
        write(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
@pytest.mark.parametrize(
    "save",
    [write, lambda path: save_checkpoint(path, FiT(TINY).state_dict(), Metadata(TINY))],
    ids=["write_whole", "save_checkpoint"],
)
def test_a_new_file_follows_the_umask(tmp_path: Path, save, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        save(tmp_path / "file.safetensors")
    finally:
        os.umask(before)
    assert (tmp_path / "file.safetensors").stat().st_mode & 0o777 == mode


@pytest.mark.skipif(os.name == "nt", reason="Windows has no such permissions")
def test_a_replaced_file_keeps_its_permissions(tmp_path: Path) -> None:
    write(tmp_path / "file", b"old")
    (tmp_path / "file").chmod(0o640)
    write(tmp_path / "file")
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640
