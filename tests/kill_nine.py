"""Kill prepare and training at random moments, and see that what they leave in the end is what an undisturbed run leaves.

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

from training.data.latent_set import LatentSet
from training.train.checkpoints.reader import FOLDER

STEPS_A_KILL = 30
PICTURES_A_KILL = 12


def run_with_kills(
    start: Callable[[], subprocess.Popen[str]],
    folder: Path,
    kills: int,
    chance: random.Random,
    say: Callable[[str], None],
) -> None:
    """Start again and again. The first ``kills`` times, wait until ``folder`` has changed, and kill within a second of that; let the last end."""
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
        say(
            f"killed {number + 1} of {kills}: {len(_names(folder))} entries, {sum(name.startswith('.') for name in _names(folder))} of them unfinished"
        )
    finish(start())


def training_survives(
    data: Path, folder: Path, kills: int, chance: random.Random, say: Callable[[str], None] = print
) -> None:
    """Raises ``AssertionError`` where a killed run's weights, averages or optimizer differ from an undisturbed run's in one bit."""
    options = [
        f"--steps={STEPS_A_KILL * (kills + 1)}",
        "--checkpoints.every=2",
        "--batch.workers=1",
        "--resume=latest",
    ]
    undisturbed, killed = folder / "undisturbed", folder / "killed"
    finish(start_training(arguments(data, undisturbed, *options)))
    run_with_kills(
        lambda: start_training(arguments(data, killed, *options)),
        killed / FOLDER,
        kills,
        chance,
        say,
    )
    for file in ("model", "ema-0.99", "ema-0.9", "state"):
        assert identical(weights(undisturbed, file), weights(killed, file)), f"{file} differs"
    assert not [name for name in _names(killed / FOLDER) if name.startswith(".")]


def prepare_survives(
    folder: Path, kills: int, chance: random.Random, say: Callable[[str], None] = print
) -> None:
    """Raises ``AssertionError`` where a killed prepare's latents differ from an undisturbed one's in one bit."""
    draw_pictures(folder / "photos", PICTURES_A_KILL * (kills + 1), chance)

    def start(output: Path) -> subprocess.Popen[str]:
        options = [
            "--images",
            str(folder / "photos"),
            "--output",
            str(output),
            "--resolution=128",
            "--vae=tiny",
            "--shard-size=2",
            "--workers=1",
        ]
        return start_training(options, script=("-m", "training.prepare"))

    finish(start(folder / "undisturbed_latents"))
    run_with_kills(
        lambda: start(folder / "killed_latents"), folder / "killed_latents", kills, chance, say
    )
    sets = [LatentSet.open(folder / name) for name in ("undisturbed_latents", "killed_latents")]
    assert sets[0].info == sets[1].info
    assert (sets[0].labels == sets[1].labels).all()
    for index in range(len(sets[0])):
        for cropped, flipped in ((False, False), (False, True), (True, False), (True, True)):
            here, there = (latents.moments(index, cropped, flipped) for latents in sets)
            assert all(torch.equal(a, b) for a, b in zip(here, there, strict=True)), (
                f"picture {index} differs"
            )


def draw_pictures(folder: Path, count: int, chance: random.Random) -> None:
    """Of three classes and many sizes."""
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
    parser.add_argument("--kills", type=int, default=10, help="of each (default: 10)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: 0)")
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
