"""``training.data.remote``: files at an address, over a connection that may fail."""

from __future__ import annotations

import builtins
import pickle
from pathlib import Path
from typing import Any

import fsspec
import pytest

from training.data.remote import Remote, RemoteError, address_of, local_path


@pytest.mark.parametrize(
    ("place", "address"),
    [
        ("s3://bucket/latents", "s3://bucket/latents"),
        ("s3://bucket/latents/", "s3://bucket/latents"),
        (Path("s3://bucket/latents"), "s3://bucket/latents"),
        ("hf://datasets/me/latents", "hf://datasets/me/latents"),
        ("memory://x/y", "memory://x/y"),
        ("latents", None),
        ("C:/latents", None),
        (r"C:\latents", None),
        ("file:///data/latents", None),
        (Path("runs/a:b"), None),
    ],
)
def test_addresses_are_told_from_paths(place: str | Path, address: str | None) -> None:
    assert address_of(place) == address


def test_a_file_address_is_a_path() -> None:
    assert local_path("file:///data/my%20latents") == Path("/data/my latents")
    assert local_path("latents") == Path("latents")


def test_what_was_sent_comes_back(address: str, tmp_path: Path) -> None:
    remote = Remote(address)
    assert remote.names() == {}
    with pytest.raises(FileNotFoundError):
        remote.read("a")
    (tmp_path / "a").write_bytes(b"12345")
    remote.upload(tmp_path / "a", "a")
    assert remote.names() == {"a": 5}
    assert remote.read("a") == b"12345"
    copy = pickle.loads(pickle.dumps(remote))
    copy.download("a", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"12345"
    copy.remove(["a", "none"])
    assert remote.names() == {}


class Failing:
    """Makes a method of the file system fail some times."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, times: int, error: Exception
    ) -> None:
        self.calls = 0
        kind = type(fsspec.filesystem("memory"))
        real = getattr(kind, name)

        def method(*arguments: Any, **options: Any) -> Any:
            self.calls += 1
            if self.calls <= times:
                raise error
            return real(*arguments, **options)

        monkeypatch.setattr(kind, name, method)


def test_a_lost_connection_is_tried_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    failing = Failing(monkeypatch, "put_file", 2, ConnectionError("reset by peer"))
    Remote(address).upload(tmp_path / "a", "a")
    assert failing.calls == 3
    assert Remote(address).read("a") == b"12345"


def test_a_connection_that_stays_lost_is_said_in_one_line(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Failing(monkeypatch, "cat_file", 99, ConnectionError("reset\nby peer"))
    message = (
        rf"^{address}/a: no success in 3 attempts over 0 seconds; the last one said: reset by "
        r"peer\. Check the network and the address, then run the same command again\.$"
    )
    with pytest.raises(RemoteError, match=message):
        Remote(address).read("a")


def test_what_no_attempt_can_change_is_said_at_once(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    failing = Failing(monkeypatch, "cat_file", 99, PermissionError("Forbidden"))
    with pytest.raises(RemoteError, match=r"Forbidden\. Check the credentials"):
        Remote(address).read("a")
    assert failing.calls == 1


def test_a_file_that_arrived_in_part_is_sent_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = type(fsspec.filesystem("memory"))
    sizes = iter([3])
    real = kind.size
    monkeypatch.setattr(kind, "size", lambda self, path: next(sizes, None) or real(self, path))
    (tmp_path / "a").write_bytes(b"12345")
    Remote(address).upload(tmp_path / "a", "a")
    assert next(sizes, None) is None


@pytest.mark.parametrize(
    ("kind", "package"), [("s3", "s3fs"), ("gs", "gcsfs"), ("hf", "huggingface_hub")]
)
def test_a_missing_package_is_named(
    monkeypatch: pytest.MonkeyPatch, kind: str, package: str
) -> None:
    def missing(*_: Any, **__: Any) -> None:
        raise ImportError(f"Install {package} to access this")

    monkeypatch.setattr(fsspec.core, "url_to_fs", missing)
    message = rf"{kind}:// needs the package {package}\. Install it: pip install {package}$"
    with pytest.raises(RemoteError, match=message):
        Remote(f"{kind}://bucket/x").names()


def test_without_fsspec_the_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *arguments: Any) -> Any:
        if name == "fsspec":
            raise ImportError(name)
        return real(name, *arguments)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RemoteError, match=r"need the package fsspec.*pip install fsspec s3fs"):
        Remote("s3://bucket/x").names()


def test_an_unknown_kind_of_address_is_refused() -> None:
    with pytest.raises(RemoteError, match="no addresses of the kind s4://"):
        Remote("s4://bucket/x").names()
