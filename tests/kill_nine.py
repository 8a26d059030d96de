"""Kill prepare and training at random moments: they must end as an undisturbed run does.

python tests/kill_nine.py                 ten kills each, some minutes
python tests/kill_nine.py --kills 3 --seed 1
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

# ruff: noqa: E402
HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]  # as pytest.ini says for tests

import torch
from PIL import Image
from support.training_runs import arguments, finish, identical, kill, start_training, weights

from training.data import open_latent_set
from training.train.checkpoints.run_folder import CHECKPOINTS

STEPS_PER_KILL = 30
IMAGES_PER_KILL = 12


def run_with_kills(
    start: Callable[[], subprocess.Popen[str]],
    folder: Path,
    kills: int,
    chance: random.Random,
    say: Callable[[str], None],
) -> None:
    """Start ``kills`` times, and kill each within a second after ``folder`` has changed.

    Then start once more, and let it end.
    """
    for number in range(kills):
        before, process = _names(folder), start()
        while _names(folder) == before:
            if process.poll() is not None:
                raise AssertionError(
                    f"it ended before kill {number + 1} of {kills}: {finish(process)}"
                )
            time.sleep(0.01)
        time.sleep(chance.random())
        kill(process)
        names = _names(folder)
        unfinished = sum(name.startswith(".") for name in names)
        say(f"killed {number + 1} of {kills}: {len(names)} entries, {unfinished} unfinished")
    finish(start())


def training_survives(
    data: Path, folder: Path, kills: int, chance: random.Random, say: Callable[[str], None] = print
) -> None:
    """Raise ``AssertionError`` if a killed run differs from an undisturbed one in any bit."""
    options = [
        f"--steps={STEPS_PER_KILL * (kills + 1)}",
        "--checkpoints.every=2",
        "--batch.workers=1",
        "--resume=latest",
    ]
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    finish(start_training(arguments(data, undisturbed, *options)))
    run_with_kills(
        lambda: start_training(arguments(data, killed, *options)),
        killed / CHECKPOINTS,
        kills,
        chance,
        say,
    )
    for file in ("model", "ema-0.99", "ema-0.9", "state"):
        assert identical(weights(undisturbed, file), weights(killed, file)), f"{file} differs"
    assert not [name for name in _names(killed / CHECKPOINTS) if name.startswith(".")]


def prepare_survives(
    folder: Path, kills: int, chance: random.Random, say: Callable[[str], None] = print
) -> None:
    """Raise ``AssertionError`` if latents of a killed prepare differ from undisturbed ones."""
    write_images(folder / "photos", IMAGES_PER_KILL * (kills + 1), chance)

    def start(output: Path) -> subprocess.Popen[str]:
        options = [
            "--images",
            str(folder / "photos"),
            "--output",
            str(output),
            "--image-size=128",
            "--vae=tiny",
            "--shard-size=2",
            "--workers=1",
        ]
        return start_training(options, script=("-m", "training.prepare"))

    finish(start(folder / "undisturbed_latents"))
    run_with_kills(
        lambda: start(folder / "killed_latents"), folder / "killed_latents", kills, chance, say
    )
    sets = [open_latent_set(folder / name) for name in ("undisturbed_latents", "killed_latents")]
    assert sets[0].info == sets[1].info
    assert (sets[0].class_ids == sets[1].class_ids).all()
    for index in range(len(sets[0])):
        for cropped, flipped in ((False, False), (False, True), (True, False), (True, True)):
            here, there = (latents.moments(index, cropped, flipped) for latents in sets)
            assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True)), (
                f"example {index} differs"
            )


def write_images(folder: Path, count: int, chance: random.Random) -> None:
    """Write gradients of three classes and many sizes."""
    for index in range(count):
        path = folder / f"class{index % 3}" / f"{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = chance.randrange(64, 320), chance.randrange(64, 320)
        Image.linear_gradient("L").resize(size).rotate(chance.randrange(360)).convert("RGB").save(
            path
        )


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} if folder.is_dir() else set()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python tests/kill_nine.py",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, default=10, help="kills of each (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments (default: 0)")
    options = parser.parse_args(argv)
    chance = random.Random(options.seed)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name:
        folder = Path(name)
        print("prepare")
        prepare_survives(folder, options.kills, chance)
        print("train")
        training_survives(folder / "undisturbed_latents", folder, options.kills, chance)
    print("all latents, weights, averages and optimizer states are identical")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
