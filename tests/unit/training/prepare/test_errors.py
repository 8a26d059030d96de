"""What stops ``prepare`` while it encodes is one line with a remedy, and nothing is lost."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.image_files import contents
from support.pooling_vae import PoolingVAE
from torch import Tensor

from training import prepare as module
from training.data import open_latent_set
from training.prepare import encode, set_folder

Run = Callable[..., Path]


class SmallMemory(PoolingVAE):
    """Runs out of memory where more than ``most`` images come at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self.most = most

    def moments(self, images: Tensor) -> Tensor:
        if len(images) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().moments(images)


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch) -> Callable[[PoolingVAE], None]:
    monkeypatch.setattr(module, "measure_reconstruction", lambda *_: None)
    return lambda vae: monkeypatch.setattr(module, "open_vae", lambda *_: vae)


def test_a_batch_that_does_not_fit_is_encoded_in_parts(
    run: Run, use: Callable[[PoolingVAE], None]
) -> None:
    use(PoolingVAE())
    whole = contents(run("whole", batch_size=5))
    use(SmallMemory(1))
    assert contents(run("parts", batch_size=5)) == whole


def test_where_not_even_one_image_fits_that_is_said(
    run: Run, use: Callable[[PoolingVAE], None]
) -> None:
    use(SmallMemory(0))
    with pytest.raises(OSError, match="Not even one image fits"):
        run("latents")


def test_a_full_disk_says_how_much_is_needed_and_resumes(
    run: Run,
    tmp_path: Path,
    use: Callable[[PoolingVAE], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(PoolingVAE())
    whole = contents(run("whole"))
    write = set_folder.write_shard

    def full(folder: Path, number: int, *arguments: Any) -> None:
        if number == 2:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(folder, number, *arguments)

    with monkeypatch.context() as patched:
        patched.setattr(set_folder, "write_shard", full)
        message = (
            r"disk is full \(.*\)\. The 2 images that are left need about 0\.1 GiB\. Make room"
        )
        with pytest.raises(OSError, match=message):
            run("latents")
    assert len(list((tmp_path / "latents").glob("shard-*"))) == 2
    assert contents(run("latents")) == whole


@pytest.mark.parametrize("kind", ["error", "gone"])
def test_a_share_that_is_cut_off_stops_and_its_images_are_not_called_broken(
    run: Run,
    photos: Path,
    tmp_path: Path,
    use: Callable[[PoolingVAE], None],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    use(PoolingVAE())
    whole = contents(run("whole"))
    read, away = encode.read_versions, tmp_path / "away"

    def cut_off(source: Path, *arguments: Any, **options: Any) -> Any:
        if source.parent.name == "green":
            if kind == "error":
                raise OSError(errno.ESTALE, "Stale file handle")
            if photos.exists():
                shutil.move(photos, away)
        return read(source, *arguments, **options)

    with monkeypatch.context() as patched:
        patched.setattr(encode, "read_versions", cut_off)
        with pytest.raises(OSError, match=r"cannot be read at present .* Is the drive or the netw"):
            run("latents")
    if kind == "gone":
        shutil.move(away, photos)
    assert contents(run("latents")) == whole


def test_one_image_that_is_gone_is_only_that(
    run: Run,
    photos: Path,
    use: Callable[[PoolingVAE], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    use(PoolingVAE())
    monkeypatch.setattr(encode, "read_versions", _losing(photos / "red" / "0.png"))
    assert len(open_latent_set(run("latents"))) == 11


def _losing(lost: Path) -> Callable[..., Any]:
    """``read_versions``, for which this file has just been removed."""
    read = encode.read_versions

    def losing(source: Path, *arguments: Any, **options: Any) -> Any:
        if source == lost:
            lost.unlink(missing_ok=True)
        return read(source, *arguments, **options)

    return losing


def test_many_broken_images_are_not_all_printed(
    run: Run,
    photos: Path,
    use: Callable[[PoolingVAE], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    use(PoolingVAE())
    for i in range(30):
        (photos / "red" / f"broken{i}.png").write_text("not an image", encoding="utf-8")
    run("latents")
    said = capsys.readouterr()
    assert said.err.count("cannot use red/broken") == 5
    assert "cannot use 25 more; the report at the end lists them" in said.err
    assert "30 could not be used" in said.err
    assert "report.json lists all" in said.err
    assert len([line for line in said.err.splitlines() if "red/broken" in line]) <= 10
