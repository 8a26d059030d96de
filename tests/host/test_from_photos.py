"""From a folder of photos to an image made in the host, with the README's commands."""

from __future__ import annotations

import html
import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw
from support.graph import Graph
from support.live_client import LiveClient
from support.nasty_images import make_nasty_images

from comfyui_fitv2 import load_checkpoint
from devkit.server import Server
from training.export import main as export
from training.prepare import main as prepare
from training.sample import main as sample
from training.train import main as train

ROOT = Path(__file__).parent.parent.parent
COLOURS = {"grass": (0, 140, 60), "poppy": (210, 20, 30), "sea": (20, 60, 160)}
SHAPES = ((96, 96), (144, 64), (64, 120), (120, 80), (90, 130))
SMALL = [
    "--model.hidden_size=64",
    "--model.depth=3",
    "--model.num_heads=2",
    "--model.adaln_lora_dim=16",
    "--batch.token_budget=512",
]
SHORT = [
    "--optimizer.learning_rate=2e-3",
    "--optimizer.warmup_steps=10",
    "--ema-decays=0.95",
    "--samples.every=0",
    "--precision=fp32",
]


def make_photos(folder: Path) -> None:
    """A white disc on the colour of each class, in images of several shapes."""
    for name, colour in COLOURS.items():
        (folder / name).mkdir(parents=True)
        for i, size in enumerate(SHAPES):
            image = Image.new("RGB", size, colour)
            x, y = size[0] * (i + 2) // 8, size[1] // 3
            ImageDraw.Draw(image).ellipse((x - 10, y - 10, x + 10, y + 10), "white")
            image.save(folder / name / f"{i}.jpg", quality=95)


def command(folder: Path, line: str, *more: str) -> str:
    """Run a command in ``folder``, with relative paths, as a person would; returns its output."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "ACCELERATE_USE_CPU": "true",
        "TQDM_DISABLE": "1",
    }
    ran = subprocess.run(
        [sys.executable, "-m", *line.split(), *more],
        cwd=folder,
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    assert ran.returncode == 0, ran.stdout
    return ran.stdout


def test_a_folder_of_photos_becomes_classes_in_the_host(
    server: Server, client: LiveClient, tmp_path: Path
) -> None:
    make_photos(tmp_path / "photos")
    command(
        tmp_path, "training.prepare --images photos --output latents --resolution 96 --vae tiny"
    )
    launch = "accelerate.commands.launch -m training.train --config tiny"
    command(tmp_path, f"{launch} --data latents --output runs/mine --steps 200", *SMALL, *SHORT)
    command(
        tmp_path,
        "training.export --run runs/mine --output",
        str(server.base / "models" / "fit" / "mine.safetensors"),
    )

    for name, colour in COLOURS.items():
        graph = Graph()
        loader = graph.loader("mine.safetensors")
        sampled = graph.ksampler(
            loader[0], graph.label(loader[0], name), graph.size(112, 80)[0], steps=10
        )
        saved = graph.add(
            "SaveImage", images=graph.decoded(sampled[0])[0], filename_prefix="from_photos"
        )
        image = Image.open(
            io.BytesIO(client.fetch(client.run(graph.prompt).outputs[saved.id]["images"][0]))
        ).convert("RGB")
        assert image.size == (112, 80)
        middle = np.median(np.asarray(image).reshape(-1, 3), axis=0)
        distances = {
            other: float(np.abs(middle - reference).max()) for other, reference in COLOURS.items()
        }
        assert min(distances, key=lambda other: distances[other]) == name, (middle, colour)
        assert distances[name] < 60, (middle, colour)


@pytest.mark.cases("D4", "D6", "D7", "D9", "D10")
def test_a_folder_of_nasty_files_goes_all_the_way(
    server: Server, client: LiveClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    expected = make_nasty_images(tmp_path / "images")
    names = {e.class_name for e in expected.values() if e.size}
    small = ["--images", "images", "--image-size", "64"]
    assert prepare([*small, "--check"]) == 0
    page = (tmp_path / "images.check.html").read_text(encoding="utf-8")
    assert prepare([*small, "--output", "latents"]) == 0
    report = json.loads((tmp_path / "latents" / "report.json").read_text(encoding="utf-8"))
    reasons = {**report["left_out"], **report["failed"]}
    for file, e in expected.items():
        if e.size is None:
            assert re.search(e.reason, reasons[file]), file
            assert html.escape(file) in page, file
        else:
            assert file not in reasons, reasons[file]

    run = ["--config", "tiny", "--data", "latents", "--output", "runs/nasty", "--steps", "4"]
    assert train([*run, *SMALL, *SHORT]) == 0
    exported = server.base / "models" / "fit" / "nasty.safetensors"
    assert export(["--run", "runs/nasty", "--output", str(exported)]) == 0
    assert {*(load_checkpoint(exported).class_names or ())} == names
    quick = ["--sizes", "64x64", "--steps", "1"]
    assert sample([*quick, "--output", "generated", "--checkpoint", str(exported)]) == 0
    assert len(list((tmp_path / "generated").glob("*.png"))) == len(names)

    graph = Graph()
    loader = graph.loader("nasty.safetensors")
    label = graph.label(loader[0], "; ".join(sorted(names)))
    latent = graph.size(64, 64, batch_size=len(names))
    sampled = graph.ksampler(loader[0], label, latent[0], steps=1)
    saved = graph.add("SaveImage", images=graph.decoded(sampled[0])[0], filename_prefix="nasty")
    assert len(client.run(graph.prompt).outputs[saved.id]["images"]) == len(names)
