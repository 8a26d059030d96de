"""Latent sets at an address: fetched by shards, verified, and kept in a bounded cache."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest
from support.latent_sets import make_latent_set
from support.remote_sets import all_moments, assert_same, sent

from training.data import open_latent_set
from training.data.latent_set import LatentSetError
from training.data.node_cache import NodeCache
from training.data.remote import Remote, RemoteError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A set of 9 examples in two shards."""
    return make_latent_set(tmp_path / "latents", crop=(2, 2))


def shards(cache: Path) -> list[str]:
    names = (path.name for path in (cache / "files").iterdir())
    return [name for name in names if not name.startswith(".lock")]


def test_a_set_at_an_address_is_the_set_in_a_folder(folder: Path, address: str) -> None:
    latents = open_latent_set(sent(folder, address))
    assert_same(latents, open_latent_set(folder))
    copy = pickle.loads(pickle.dumps(latents))
    assert_same(copy, open_latent_set(folder))


def test_only_what_is_read_is_fetched_and_only_once(
    folder: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent(folder, address)
    kind, fetched = type(fsspec.filesystem("memory")), list[str]()
    real = kind.get_file

    def get_file(self: Any, path: str, *arguments: Any, **options: Any) -> Any:
        fetched.append(path.rpartition("/")[2])
        return real(self, path, *arguments, **options)

    monkeypatch.setattr(kind, "get_file", get_file)
    with monkeypatch.context() as patched:
        patched.setattr(kind, "ls", lambda *_, **__: pytest.fail("nothing is listed"))
        latents = open_latent_set(address)
    assert len(latents.lengths) == 9
    assert [name.partition("-")[0] for name in fetched] == ["index"]
    latents.moments(8, False, False)
    latents.moments(8, False, False)
    assert fetched[1:] == ["shard-000001.arrow"]
    again = open_latent_set(address)
    again.fetch(range(9))
    all_moments(again)
    assert sorted(fetched[2:]) == ["shard-000000.arrow"]
    assert len(shards(tmp_path / "cache")) == 3


def test_a_small_cache_holds_what_fits(folder: Path, address: str, tmp_path: Path) -> None:
    size = (folder / "shard-000000.arrow").stat().st_size
    cache = NodeCache(tmp_path / "small", round(1.5 * size))
    latents = open_latent_set(sent(folder, address), cache)
    for _ in range(2):
        all_moments(latents)
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) <= 1.5 * size
    assert_same(open_latent_set(address, cache), open_latent_set(folder))
    assert "fetched again and again" in latents.note
    assert open_latent_set(address).note == ""


def test_a_shard_that_was_dropped_is_closed(
    folder: Path, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latents = open_latent_set(sent(folder, address))
    all_moments(latents)
    for path in (tmp_path / "cache" / "files").iterdir():
        path.unlink()
    monkeypatch.setattr("training.data.arrow_set._TELL_SECONDS", 0)
    latents.moments(0, False, False)
    assert len(shards(tmp_path / "cache")) == 1, "fetched again"


def test_a_shard_with_another_checksum_is_refused(folder: Path, address: str) -> None:
    shard = folder / "shard-000001.arrow"
    content = bytearray(shard.read_bytes())
    content[-100] ^= 1
    shard.write_bytes(content)
    latents = open_latent_set(sent(folder, address))
    latents.moments(0, False, False)
    message = r"shard-000001\.arrow: no success in 3 attempts .* its checksum is \w+, not \w+, as"
    with pytest.raises(RemoteError, match=message):
        latents.moments(8, False, False)


def test_a_shard_that_is_gone_is_named(folder: Path, address: str) -> None:
    latents = open_latent_set(sent(folder, address))
    Remote(address).remove(["shard-000001.arrow"])
    with pytest.raises(RemoteError, match=r"shard-000001\.arrow: no such file, though the set"):
        latents.moments(8, False, False)


def test_other_places_are_refused(folder: Path, address: str) -> None:
    with pytest.raises(LatentSetError, match=rf"^{address}: not a latent set"):
        open_latent_set(address)
    info = folder / "latent_set.json"
    content = json.loads(info.read_text(encoding="utf-8"))
    del content["index"], content["shard_files"]
    info.write_text(json.dumps({**content, "format": 1, "shards": 2}), encoding="utf-8")
    with pytest.raises(LatentSetError, match="older version, without checksums"):
        open_latent_set(sent(folder, address))
