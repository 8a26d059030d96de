"""``prepare`` to an address: shards are sent as they are finished, and once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.image_files import contents, draw_bar
from support.pooling_vae import PoolingVAE

from training import prepare as module
from training.data import open_latent_set, remote
from training.data.remote import RemoteError
from training.prepare import PrepareOptions, prepare
from training.prepare.set_folder import SetFolder
from training.whole_files import OutputFolderError


@pytest.fixture
def address(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    monkeypatch.setattr(remote, "_PAUSES", (0.01, 0.02))
    monkeypatch.setenv("FITV2_CACHE", str(tmp_path / "machine one"))
    system = fsspec.filesystem("memory")
    name = f"memory://test-{os.urandom(4).hex()}"
    yield f"{name}/latents"
    if system.exists(name):
        system.rm(name, recursive=True)


@pytest.fixture
def to(photos: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Prepare ``photos`` to a place, in shards of 5."""
    vae = PoolingVAE()
    monkeypatch.setattr(module, "open_vae", lambda *_: vae)

    def to(output: str | Path, **changes: Any) -> None:
        options: dict[str, Any] = {"images": photos, "image_size": 64, "batch_size": 2, **changes}
        prepare(
            PrepareOptions(output=Path(output), shard_size=5, workers=0, device="cpu", **options)
        )

    return to


def at(address: str) -> dict[str, bytes]:
    found = remote.Remote(address)
    return {name: found.read(name) for name in found.names()}


class Sent:
    """Counts what is sent, and loses the connection from the ``lost_from``-th shard on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, lost_from: int = 10**6) -> None:
        self.names: list[str] = []
        self.lost_from = lost_from
        kind = type(fsspec.filesystem("memory"))
        real = kind.put_file

        def put_file(system: Any, path: str, target: str, *rest: Any, **options: Any) -> Any:
            name = target.rpartition("/")[2]
            if name.startswith("shard-") and len(self.shards) >= self.lost_from:
                raise ConnectionError("lost")
            self.names.append(name)
            return real(system, path, target, *rest, **options)

        monkeypatch.setattr(kind, "put_file", put_file)

    @property
    def shards(self) -> list[str]:
        return [name for name in self.names if name.startswith("shard-")]


def test_an_address_gets_what_a_folder_gets(
    to: Callable[..., None], address: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    to(tmp_path / "latents")
    capsys.readouterr()
    to(address)
    assert f"{address}: 12 images of 3 classes." in capsys.readouterr().out
    assert at(address) == contents(tmp_path / "latents")
    assert len(open_latent_set(address)) == 12
    left = SetFolder(Path(address)).folder
    assert not list(left.glob("shard-*")), "what was sent takes no space here"
    to(address)
    assert f"{address} is complete: 12 images." in capsys.readouterr().out


def test_an_interrupted_upload_resumes_without_what_is_there(
    to: Callable[..., None], address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    to(tmp_path / "latents")
    sent = Sent(monkeypatch, lost_from=1)
    with pytest.raises(RemoteError, match=r"shard-000001\.arrow: no success in 3 attempts"):
        to(address)
    assert "latent_set.json" not in at(address)
    sent.lost_from = 10**6
    waiting = len(list(SetFolder(Path(address)).folder.glob("shard-*")))
    assert waiting >= 1
    encoded: list[int] = []
    real = SetFolder.write_shard
    monkeypatch.setattr(
        SetFolder, "write_shard", lambda self, n, *rest: (encoded.append(n), real(self, n, *rest))
    )
    to(address)
    assert sorted(sent.shards) == [f"shard-00000{n}.arrow" for n in range(3)]
    assert encoded == list(range(1 + waiting, 3)), "what was finished is not encoded again"
    assert at(address) == contents(tmp_path / "latents")


def test_another_machine_resumes_and_follows_the_images(
    to: Callable[..., None],
    address: str,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = Sent(monkeypatch, lost_from=2)
    with pytest.raises(RemoteError):
        to(address)
    monkeypatch.setenv("FITV2_CACHE", str(tmp_path / "machine two"))
    sent.lost_from = 10**6
    to(address)
    assert sorted(sent.shards) == [f"shard-00000{n}.arrow" for n in range(3)]

    monkeypatch.setenv("FITV2_CACHE", str(tmp_path / "machine three"))
    draw_bar(photos / "red" / "new.png", (70, 50), (200, 20, 30))
    (photos / "blue" / "0.png").unlink()
    sent.names.clear()
    to(address)
    assert sent.shards == ["shard-000003.arrow", "shard-000004.arrow"]
    latents = open_latent_set(address)
    assert "red/new.png" in latents.names()
    assert "blue/0.png" not in latents.names()
    assert [str(change) for change in latents.history] == ["1 image added, 1 removed"]
    assert "shard-000000.arrow" not in at(address), "what is no part of the set is removed"
    assert sum(name.startswith(("index-", "pictures")) for name in at(address)) == 2

    to(tmp_path / "anew")
    assert sorted(open_latent_set(tmp_path / "anew").names()) == sorted(latents.names())


def test_an_address_with_other_files_is_refused(to: Callable[..., None], address: str) -> None:
    fsspec.filesystem("memory").pipe_file(f"{address}/notes.txt", b"mine")
    with pytest.raises(OutputFolderError, match="not empty and contains no latent set"):
        to(address)
    assert at(address) == {"notes.txt": b"mine"}


def test_other_settings_are_refused(to: Callable[..., None], address: str) -> None:
    to(address)
    with pytest.raises(OutputFolderError, match="image-size: 64 → 32"):
        to(address, image_size=32)


def test_a_set_that_was_removed_starts_over(
    to: Callable[..., None], address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    to(address)
    before = at(address)
    fsspec.filesystem("memory").rm(address, recursive=True)
    sent = Sent(monkeypatch)
    to(address)
    assert len(sent.shards) == 3
    assert at(address) == before
