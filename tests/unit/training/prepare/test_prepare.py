from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
import torch.nn.functional as F
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image, ImageDraw
from torch import Tensor

from comfyui_fitv2.preview import preview_features
from training import prepare as module
from training.data.decode import read_versions
from training.data.latent_set import LatentSet, read_shard
from training.data.vae import VAE, open_vae
from training.prepare import PrepareOptions, main, prepare
from training.prepare.plan import PlanError

ROOT = Path(__file__).parents[4]
SIZES = ((100, 60), (60, 100), (48, 48), (130, 40))


def draw(path: Path, size: tuple[int, int], colour: tuple[int, int, int]) -> None:
    """A white picture with a coloured bar at its left."""
    image = Image.new("RGB", size, "white")
    ImageDraw.Draw(image).rectangle((0, 0, size[0] // 3, size[1]), fill=colour)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """12 pictures of 3 classes and 4 sizes."""
    for name, colour in (("blue", (0, 60, 160)), ("green", (0, 120, 60)), ("red", (200, 20, 30))):
        for i, size in enumerate(SIZES):
            draw(tmp_path / "photos" / name / f"{i}.png", size, colour)
    return tmp_path / "photos"


@pytest.fixture
def run(photos: Path, tmp_path: Path) -> Callable[..., Path]:
    """Prepare ``photos`` at 64 pixels a side into a folder of this name."""

    def run(name: str, **changes: Any) -> Path:
        options = {
            "images": photos,
            "resolution": 64,
            "batch_size": 2,
            "shard_size": 5,
            "workers": 0,
            "device": "cpu",
            **changes,
        }
        prepare(PrepareOptions(output=tmp_path / name, **options))
        return tmp_path / name

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def psnr(image: Tensor, reference: np.ndarray) -> float:
    return (
        -10
        * (image - torch.from_numpy(reference.copy()).permute(2, 0, 1) / 255)
        .square()
        .mean()
        .log10()
        .item()
    )


def test_a_folder_of_pictures_becomes_a_latent_set(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    latents = LatentSet.open(run("latents"))
    assert "12 pictures of 3 classes" in capsys.readouterr().out
    assert latents.info.class_names == ("blue", "green", "red")
    assert (
        latents.info.vae,
        latents.info.resolution,
        latents.info.flips,
        latents.info.posterior,
    ) == ("tiny", 64, True, False)
    assert latents.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    # 100 × 60 is not longer than 64 on both sides, so it has no crop.
    assert latents.grids[:4, 0].tolist() == [[3, 5], [5, 3], [3, 3], [2, 7]]
    assert (latents.grids[:, 0] == latents.grids[:, 1]).all()


def test_latents_draw_the_pictures_and_their_crops_plain_and_flipped(
    run: Callable[..., Path], photos: Path
) -> None:
    draw(photos / "red" / "large.png", (300, 160), (200, 20, 30))
    latents, vae = LatentSet.open(run("latents")), open_vae("tiny")
    resized, cropped = read_versions(photos / "red" / "large.png", 64)
    assert cropped is not None
    assert latents.grids[-1].tolist() == [[2, 5], [4, 4]]
    for is_cropped, expected in ((False, resized), (True, cropped)):
        for flipped in (False, True):
            mean, _ = latents.moments(12, is_cropped, flipped)
            drawn = vae.decode(mean[None])[0]
            assert psnr(drawn, expected[:, ::-1] if flipped else expected) > 24
            assert psnr(drawn, expected if flipped else expected[:, ::-1]) < 10


def test_without_flips_no_flipped_pictures_are_stored(run: Callable[..., Path]) -> None:
    with_flips, without = run("with"), run("without", flip=False)
    latents = LatentSet.open(without)
    assert not latents.info.flips
    assert torch.equal(
        latents.moments(3, False, True)[0], LatentSet.open(with_flips).moments(3, False, False)[0]
    )
    stored = [len(read_shard(folder, 0)[0]["resized"]) for folder in (without, with_flips)]
    assert stored == [4 * 6 * 10, 2 * 4 * 6 * 10]


def test_the_preview_colours_of_a_set_are_those_of_its_pictures(
    run: Callable[..., Path], photos: Path
) -> None:
    latents = LatentSet.open(run("latents"))
    factors, bias = (
        torch.tensor(latents.info.latent_format[key])
        for key in ("latent_rgb_factors", "latent_rgb_factors_bias")
    )
    assert latents.info.latent_format["scale_factor"] == pytest.approx(0.18215)
    mean, _ = latents.moments(8, cropped=False, flipped=False)
    guess = (
        torch.einsum("bfhw,fc->bchw", preview_features(mean[None]), factors) + bias.view(3, 1, 1)
    )[0] / 2 + 0.5
    small = F.avg_pool2d(
        torch.from_numpy(read_versions(photos / "red" / "0.png", 64)[0].copy()).permute(2, 0, 1)
        / 255,
        8,
    )
    assert (guess - small).abs().mean() < 0.05


class _Stopping(VAE):
    """Lets ``left`` batches pass, then stops as Ctrl-C does."""

    def __init__(self, vae: VAE, left: int) -> None:
        self.vae, self.left = vae, left
        self.channels, self.scale_factor, self.posterior = (
            vae.channels,
            vae.scale_factor,
            vae.posterior,
        )

    def moments(self, images: Tensor) -> Tensor:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.vae.moments(images)

    def decode(self, latents: Tensor) -> Tensor:
        raise NotImplementedError


def test_a_stopped_run_goes_on_where_it_was_and_ends_the_same(
    run: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    # Of the work before each stop, only that on the unfinished shard is done again.
    assert needed < spent < needed + 3 + 11


def test_a_complete_set_is_left_alone(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run("latents"))
    monkeypatch.setattr(module, "open_vae", lambda *_: pytest.fail("nothing is left to encode"))
    assert contents(run("latents")) == before
    assert "is complete: 12 pictures" in capsys.readouterr().out


def _command(photos: Path, output: Path) -> list[str]:
    sizes = [
        "--resolution",
        "64",
        "--batch-size",
        "2",
        "--shard-size",
        "2",
        "--workers",
        "1",
        "--device",
        "cpu",
    ]
    return ["-m", "training.prepare", "--images", str(photos), "--output", str(output), *sizes]


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
    assert psutil.wait_procs(workers, timeout=10)[1] == [], (
        "workers end with the process that started them"
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


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 128}, r"--resolution was 64, now 128"),
        ({"flip": False}, r"--flip was True, now False"),
        (
            {"precision": "bf16", "batch_size": 4},
            r"--batch-size was 2, now 4; --precision was fp32, now bf16",
        ),
    ],
)
def test_changed_options_are_refused_by_name(
    run: Callable[..., Path], change: dict[str, Any], message: str
) -> None:
    run("latents")
    with pytest.raises(PlanError, match=message):
        run("latents", **change)


def test_changed_pictures_are_refused_by_name(run: Callable[..., Path], photos: Path) -> None:
    run("latents")
    draw(photos / "red" / "new.png", (20, 20), (0, 0, 0))
    (photos / "blue" / "0.png").unlink()
    draw(photos / "blue" / "1.png", (20, 20), (0, 0, 0))
    with pytest.raises(
        PlanError,
        match=r"1 picture \(red/new\.png\) added; 1 picture \(blue/0\.png\) removed; 1 picture \(blue/1\.png\) of another size",
    ):
        run("latents")


def test_changed_classes_are_refused(run: Callable[..., Path], photos: Path) -> None:
    run("latents")
    (photos / "blue").rename(photos / "azure")
    with pytest.raises(
        PlanError,
        match=r"the classes were 3 classes \(blue, green, red\), now 3 classes \(azure, green, red\)",
    ):
        run("latents")


def test_a_folder_of_other_files_is_not_written_to(
    run: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "latents").mkdir()
    (tmp_path / "latents" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(PlanError, match="holds files"):
        run("latents")
    assert contents(tmp_path / "latents") == {"thesis.txt": b"mine"}


def test_broken_pictures_are_reported_and_others_are_encoded(
    run: Callable[..., Path], photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "red" / "cut.png").write_bytes((photos / "red" / "0.png").read_bytes()[:90])
    (photos / "red" / "text.jpg").write_text("not a picture", encoding="utf-8")
    draw(photos / "lone.png", (20, 20), (0, 0, 0))
    output = run("latents")
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert report["pictures"] == len(LatentSet.open(output)) == 12
    assert sorted(report["failed"]) == ["red/cut.png", "red/text.jpg"]
    assert list(report["left_out"]) == ["lone.png"]
    said = capsys.readouterr().err
    assert all(
        text in said
        for text in (
            "cannot use red/cut.png",
            "2 could not be used",
            "lone.png: lies beside the folders",
        )
    )


def test_a_picture_that_the_vae_cannot_encode_is_reported(
    run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Overflowing(_Stopping):
        def moments(self, images: Tensor) -> Tensor:
            # Of red pictures: their first channel is the brightest at the left, or at the right where flipped.
            bad = (images[:, 0].amin(dim=(1, 2)) > 0.5).view(-1, 1, 1, 1, 1)
            return self.vae.moments(images).masked_fill(bad, float("inf"))

    monkeypatch.setattr(module, "open_vae", lambda *_: Overflowing(open_vae("tiny"), 0))
    output = run("latents")
    assert LatentSet.open(output).labels.tolist() == [0] * 4 + [1] * 4
    failed = json.loads((output / "report.json").read_text(encoding="utf-8"))["failed"]
    assert sorted(failed) == [f"red/{i}.png" for i in range(4)]
    assert "infinite or undefined" in failed["red/0.png"]


def test_a_run_in_which_every_picture_fails_is_an_error(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (tmp_path / "photos" / "class").mkdir(parents=True, exist_ok=True)
        (tmp_path / "photos" / "class" / f"{name}.jpg").write_bytes(b"nothing")
    assert (
        main(
            [
                "--images",
                str(tmp_path / "photos"),
                "--output",
                str(tmp_path / "latents"),
                "--workers",
                "0",
            ]
        )
        == 1
    )
    assert (
        capsys.readouterr()
        .err.splitlines()[-1]
        .startswith("error: none of the 2 pictures could be used.")
    )
    assert not (tmp_path / "latents" / "latent_set.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--images", "none"], "none: no such folder of pictures."),
        (["--resolution", "100"], "--resolution must be a multiple of 16, such as 256, not 100."),
        (["--batch-size", "0"], "--batch-size must be 1 or more, not 0."),
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


def test_pictures_without_classes_are_refused_with_advice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    draw(tmp_path / "photos" / "a.png", (20, 20), (0, 0, 0))
    assert main(["--images", str(tmp_path / "photos"), "--output", str(tmp_path / "latents")]) == 1
    assert "Put them in a sub-folder for each class" in capsys.readouterr().err


def test_labels_come_from_a_metadata_file(run: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "labels.jsonl").write_text(
        '{"file": "red/0.png", "label": "warm"}\n{"file": "blue/0.png", "label": "cold"}\n',
        encoding="utf-8",
    )
    latents = LatentSet.open(run("latents", metadata=tmp_path / "labels.jsonl"))
    assert (latents.info.class_names, latents.labels.tolist()) == (("cold", "warm"), [0, 1])


def test_a_datasets_folder_gives_the_latents_of_its_pictures(
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
        LatentSet.open(run("folder")),
        LatentSet.open(run("dataset", images=tmp_path / "saved")),
    )
    assert theirs.info == ours.info
    assert all(
        torch.equal(theirs.moments(i, False, True)[0], ours.moments(i, False, True)[0])
        for i in range(12)
    )


def test_workers_change_nothing(run: Callable[..., Path]) -> None:
    assert contents(run("alone")) == contents(run("helped", workers=2))
