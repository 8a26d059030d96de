"""A run that resumes does not list the images again, unless a folder has changed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.image_files import contents, draw_bar
from support.pooling_vae import PoolingVAE

from training.data import open_latent_set
from training.data.sources import ImageFolder
from training.prepare.set_folder import SetFolder

Run = Callable[..., Path]


@pytest.fixture
def listings(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The folders that were listed."""
    found: list[Path] = []
    real = ImageFolder.listing
    monkeypatch.setattr(
        ImageFolder, "listing", lambda self: (found.append(self.root), real(self))[1]
    )
    return found


def age(photos: Path) -> None:
    """Make the folders an hour old: what changed just now is not relied upon."""
    for folder in (photos, *photos.iterdir()):
        os.utime(folder, (time.time() - 3600, time.time() - 3600))


def stop_at(number: int, monkeypatch: pytest.MonkeyPatch, run: Run) -> None:
    """Prepare until the shard of this number is to be written."""
    real = SetFolder.write_shard

    def write(self: SetFolder, shard: int, *rest: object) -> None:
        if shard == number:
            raise KeyboardInterrupt
        real(self, shard, *rest)  # pyright: ignore

    with monkeypatch.context() as patched:
        patched.setattr(SetFolder, "write_shard", write)
        with pytest.raises(KeyboardInterrupt):
            run("latents")


@pytest.mark.usefixtures("vae")
def test_an_unfinished_set_resumes_without_listing_until_its_end(
    run: Run,
    photos: Path,
    tmp_path: Path,
    listings: list[Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = contents(run("whole"))
    age(photos)
    stop_at(2, monkeypatch, run)
    listings.clear()
    stop_at(2, monkeypatch, run)
    assert listings == []
    assert "12 images, as listed before: no folder of" in capsys.readouterr().out
    assert contents(run("latents")) == whole
    assert len(listings) == 1, "at the end, for files that were written over"
    assert "have changed" not in capsys.readouterr().err
    run("latents")
    assert len(listings) == 2, "a complete set is compared with its images"
    assert contents(tmp_path / "latents") == whole


@pytest.mark.usefixtures("vae")
def test_a_new_image_is_noticed_when_a_run_resumes(
    run: Run, photos: Path, listings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(photos)
    stop_at(2, monkeypatch, run)
    draw_bar(photos / "red" / "new.png", (70, 50), (200, 20, 30))
    listings.clear()
    assert "red/new.png" in open_latent_set(run("latents")).names()
    assert len(listings) == 1


@pytest.mark.usefixtures("vae")
def test_a_folder_that_has_just_changed_is_not_relied_upon(
    run: Run, listings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at(2, monkeypatch, run)
    listings.clear()
    run("latents")
    assert len(listings) == 1


def test_an_image_that_was_written_over_is_said_and_then_followed(
    run: Run,
    vae: PoolingVAE,
    photos: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    age(photos)
    stop_at(2, monkeypatch, run)
    image = photos / "blue" / "0.png"
    with image.open("r+b") as file, (photos / "red" / "0.png").open("rb") as other:
        file.truncate()
        file.write(other.read())
    os.utime(image, (1, 1))
    latents = open_latent_set(run("latents"))
    assert "Images have changed since" in capsys.readouterr().err
    before = latents.moments(0, False, False)[0].mean()
    vae.images = 0
    assert open_latent_set(run("latents")).moments(11, False, False)[0].mean() != before
    assert vae.images == 2, "the one image, and its mirror image"


@pytest.mark.usefixtures("vae")
def test_relist_lists(
    run: Run, photos: Path, listings: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    age(photos)
    stop_at(2, monkeypatch, run)
    listings.clear()
    run("latents", relist=True)
    assert len(listings) == 1
