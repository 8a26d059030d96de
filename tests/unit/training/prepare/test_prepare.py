"""``training.prepare``: a folder of images becomes a latent set, however often it is stopped."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from support.image_files import contents, draw_bar
from torch import Tensor

from comfyui_fitv2.pixels import from_bytes, psnr
from training import prepare as module
from training.data import open_latent_set
from training.data.decode import read_versions
from training.data.shards import read_shard
from training.data.vae import VAE, open_vae
from training.prepare import PrepareOptions, main

ROOT = Path(__file__).parents[4]


def test_a_folder_of_images_becomes_a_latent_set(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = open_latent_set(run("latents"))
    assert "12 images of 3 classes" in capsys.readouterr().out
    assert latents.info.class_names == ("blue", "green", "red")
    assert (latents.info.vae, latents.info.image_size) == ("tiny", 64)
    assert (latents.info.flips, latents.info.posterior) == (True, False)
    assert latents.class_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # 100 × 60 is not longer than 64 on both sides, so it has no crop.
    assert latents.grids[:4, 0].tolist() == [[3, 5], [5, 3], [3, 3], [2, 7]]
    assert (latents.grids[:, 0] == latents.grids[:, 1]).all()


def test_latents_decode_to_the_images_and_their_crops_plain_and_flipped(
    run: Callable[..., Path], photos: Path
) -> None:
    draw_bar(photos / "red" / "large.png", (300, 160), (200, 20, 30))
    latents, vae = open_latent_set(run("latents")), open_vae("tiny")
    resized, cropped = read_versions(photos / "red" / "large.png", 64)
    assert cropped is not None
    assert latents.grids[-1].tolist() == [[2, 5], [4, 4]]
    for is_cropped, expected in ((False, resized), (True, cropped)):
        for flipped in (False, True):
            mean, _ = latents.moments(12, is_cropped, flipped)
            decoded = vae.decode(mean[None])[0]
            same, mirrored = from_bytes(expected.copy()), from_bytes(expected[:, ::-1].copy())
            assert psnr(decoded, mirrored if flipped else same) > 24
            assert psnr(decoded, same if flipped else mirrored) < 10


def test_without_flips_no_mirrored_images_are_stored(run: Callable[..., Path]) -> None:
    with_flips, without = run("with"), run("without", flip=False)
    latents = open_latent_set(without)
    assert not latents.info.flips
    assert torch.equal(
        latents.moments(3, False, True)[0], open_latent_set(with_flips).moments(3, False, False)[0]
    )
    stored = [len(read_shard(folder, 0)["resized"][0]) for folder in (without, with_flips)]
    assert stored == [4 * 6 * 10, 2 * 4 * 6 * 10]


class _Stopping(VAE):
    """Lets ``left`` batches pass, then stops as Ctrl-C does."""

    def __init__(self, vae: VAE, left: int) -> None:
        self.vae, self.left = vae, left
        self.channels, self.posterior = vae.channels, vae.posterior
        self.scale_factor = vae.scale_factor

    def moments(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.vae.moments(images)

    def decode(self, latents: Tensor) -> Tensor:
        return self.vae.decode(latents)


def test_a_stopped_run_resumes_and_ends_the_same(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "measure_reconstruction", lambda *_: None)
    whole = contents(run("whole"))
    batches = _Stopping(open_vae("tiny"), left=10**6)
    monkeypatch.setattr(module, "open_vae", lambda *_: batches)
    run("counted")
    needed = 10**6 - batches.left
    spent = 0
    for allowed in (3, 11, 10**6):
        batches.left = allowed
        try:
            run("stopped")
        except KeyboardInterrupt:
            shards = len(list((tmp_path / "stopped").glob("shard-*.arrow")))
            assert not (tmp_path / "stopped" / "latent_set.json").exists()
            assert shards == (0 if allowed == 3 else 1)
        spent += allowed - max(batches.left, 0)
    assert contents(tmp_path / "stopped") == whole
    # Of the work before each stop, only that on the unfinished shard is repeated.
    assert needed < spent < needed + 3 + 11


def test_a_complete_set_is_left_alone(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run("latents"))
    monkeypatch.setattr(module, "open_vae", lambda *_: pytest.fail("nothing is left to encode"))
    assert contents(run("latents")) == before
    assert "is complete: 12 images" in capsys.readouterr().out


def _command(photos: Path, output: Path) -> list[str]:
    options = "--resolution 64 --batch-size 2 --shard-size 2 --workers 1 --device cpu"
    folders = ["--images", str(photos), "--output", str(output)]
    return ["-m", "training.prepare", *folders, *options.split()]


@pytest.mark.slow
@pytest.mark.processes
def test_a_killed_run_and_two_processes_end_as_one(
    run: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    whole = contents(run("whole", shard_size=2))
    killed = subprocess.Popen(
        [sys.executable, *_command(photos, tmp_path / "latents")],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while killed.poll() is None and not (tmp_path / "latents" / "shard-000001.arrow").exists():
            time.sleep(0.001)
    finally:
        workers = psutil.Process(killed.pid).children()
        killed.kill()
        killed.wait()
    assert workers
    assert psutil.wait_procs(workers, timeout=60)[1] == [], (
        "workers exit with the process that started them"
    )
    begun = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").glob("shard-*.arrow")}
    assert len(begun) >= 2
    launch = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        *_command(photos, tmp_path / "latents"),
    ]
    launched = subprocess.run(launch, cwd=ROOT, check=True, capture_output=True, text=True)
    assert "encoding 1/2" in launched.stderr
    assert contents(tmp_path / "latents") == whole
    assert {path: path.stat().st_mtime_ns for path in begun} == begun, (
        "a finished shard is not written again"
    )


def test_damaged_images_are_reported_and_others_are_encoded(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "0.png").read_bytes()[:90])
    (photos / "red" / "text.jpg").write_text("not an image", encoding="utf-8")
    draw_bar(photos / "lone.png", (20, 20), (0, 0, 0))
    output = run("latents")
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["images"] == len(open_latent_set(output)) == 12
    assert sorted(report["failed"]) == ["red/cut.png", "red/text.jpg"]
    assert list(report["left_out"]) == ["lone.png"]
    said = capsys.readouterr().err
    assert all(
        text in said
        for text in (
            "cannot use red/cut.png",
            "2 could not be used",
            "lone.png: not in a folder of a class",
        )
    )


def test_an_image_that_the_vae_cannot_encode_is_reported(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing(_Stopping):
        def moments(self, images: Tensor) -> Tensor:
            # Red images alone: their first channel is bright everywhere.
            bad = (images[:, 0].amin(dim=(1, 2)) > 0.5).view(-1, 1, 1, 1, 1)
            return self.vae.moments(images).masked_fill(bad, float("inf"))

    monkeypatch.setattr(module, "open_vae", lambda *_: Overflowing(open_vae("tiny"), 0))
    output = run("latents")
    assert open_latent_set(output).class_ids.tolist() == [0] * 4 + [1] * 4
    failed = json.loads((output / "report.json").read_text(encoding="utf-8"))["failed"]
    assert sorted(failed) == [f"red/{i}.png" for i in range(4)]
    assert "infinite or undefined" in failed["red/0.png"]


def test_a_run_in_which_every_image_fails_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / "class").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "class" / f"{name}.jpg").write_bytes(b"nothing")
    folders = ["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "latents")]
    for options, message in (
        ([], "error: None of the 2 images of the class 'class' can be used (class/a.jpg: "),
        (["--ignore-problems"], "error: none of the 2 images could be used."),
    ):
        assert not (tmp_path / "latents").exists()
        assert main([*folders, "--workers", "0", *options]) == 1
        assert capsys.readouterr().err.splitlines()[-1].startswith(message)
    assert not (tmp_path / "latents" / "latent_set.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "none"], "none: no such folder."),
        (["--vae", "none.safetensors"], "none.safetensors: no such VAE."),
        (["--metadata", "none.csv"], "none.csv: no such metadata file."),
    ],
)
def test_mistakes_are_one_line(
    photos: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["--images", str(photos), "--output", str(tmp_path / "latents"), *arguments]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "latents").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"image_size": 100}, "--image-size must be a multiple of 16, such as 256, not 100."),
        ({"batch_size": 0}, "--batch-size must be 1 or more, not 0."),
        ({"workers": -1}, "--workers must be 0 or more, not -1."),
        ({"scale_factor": 0.0}, "--scale-factor must be above 0, not 0."),
    ],
)
def test_values_out_of_range_are_refused_by_name(option: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PrepareOptions(images=Path("photos"), output=Path("latents"), **option)


@pytest.mark.parametrize("name", ["--image-size", "--image_size", "--resolution"])
def test_the_image_size_has_an_old_name(
    name: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[PrepareOptions] = []
    monkeypatch.setattr(module, "prepare", read.append)
    folders = ["--images", str(photos), "--output", str(tmp_path / "latents")]
    assert main([*folders, name, "96", "--no-flip"]) == 0
    assert (read[0].image_size, read[0].flip, read[0].output) == (96, False, tmp_path / "latents")


def test_images_without_classes_are_refused_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw_bar(tmp_path / "photos" / "a.png", (20, 20), (0, 0, 0))
    assert main(["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "latents")]) == 1
    assert "a sub-folder for each class" in capsys.readouterr().err


def test_labels_come_from_a_metadata_file(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(
        '{"file": "red/0.png", "label": "warm"}\n{"file": "blue/0.png", "label": "cold"}\n',
        encoding="utf-8",
    )
    latents = open_latent_set(run("latents", metadata=tmp_path / "labels.jsonl"))
    assert (latents.info.class_names, latents.class_ids.tolist()) == (("cold", "warm"), [0, 1])


def test_a_datasets_folder_gives_the_latents_of_its_images(
    run: Callable[..., Path], photos: Path, tmp_path: Path
) -> None:
    files = sorted(photos.glob("*/*.png"))
    rows = {
        "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
        "label": [file.parent.name for file in files],
    }
    Dataset.from_dict(
        rows, features=Features({"image": ImageFeature(), "label": Value("string")})
    ).save_to_disk(tmp_path / "saved")
    ours, theirs = (
        open_latent_set(run("folder")),
        open_latent_set(run("dataset", images=tmp_path / "saved")),
    )
    assert theirs.info == ours.info
    assert all(
        torch.equal(theirs.moments(i, False, True)[0], ours.moments(i, False, True)[0])
        for i in range(12)
    )


@pytest.mark.processes
def test_workers_change_nothing(run: Callable[..., Path]) -> None:
    assert contents(run("alone")) == contents(run("helped", workers=2))
