"""Reads damaged copies of one kind of file; a process of its own, which may die.

``python tests/soak/fuzz_child.py KIND ORIGINAL SCRATCH FIRST COUNT`` prints one line of JSON for
each seed before it reads, and one after it: what was damaged, how it ended.
"""

from __future__ import annotations

import json
import random
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parents[n]) for n in (1, 2)]

from soak.mutations import mutate  # noqa: E402 — this is started as a file

MEMORY_BYTES = 12 << 30
FORBIDDEN_EVENTS = ("os.system", "os.exec", "os.posix_spawn", "os.mkdir", "subprocess.Popen")
"""Of sys.addaudithook, while a file is read."""


def read_checkpoint(path: Path) -> None:
    from comfyui_fitv2 import load_checkpoint

    load_checkpoint(path)


def read_vae(path: Path) -> None:
    from training.data.vae import open_vae

    open_vae(str(path))


def read_latents(path: Path) -> None:
    from training.data import open_latent_set

    latents = open_latent_set(path)
    for index in range(len(latents)):
        latents.moments(index, cropped=index % 2 == 1, flipped=index % 3 == 1)


def read_run_in_nodes(path: Path) -> None:
    from comfyui_fitv2 import load_checkpoint
    from nodes.run_folder import find_run, newest, sample_sheet, state_of

    run = find_run(str(path), path.parent)
    state_of(run)
    sample_sheet(run)
    checkpoint = newest(run)
    weights = checkpoint.weights_file("")
    checkpoint.describe(weights)
    load_checkpoint(weights)


def read_run_in_trainer(path: Path) -> None:
    from training.train.checkpoints.reader import (
        latest,
        read_metadata,
        read_summary,
        read_tensors,
    )
    from training.train.checkpoints.run_folder import MODEL, stored_config

    stored_config(path)
    checkpoint = latest(path)
    read_summary(checkpoint)
    read_metadata(checkpoint)
    read_tensors(checkpoint, MODEL)


def read_workflow(path: Path) -> None:
    from devkit.workflow import read_workflow, to_prompt

    object_info = json.loads((path.parent / "object_info").read_text(encoding="utf-8"))
    to_prompt(read_workflow(path), object_info)


READERS: dict[str, tuple[Callable[[Path], None], set[str]]] = {
    "checkpoint": (read_checkpoint, {"CheckpointError"}),
    "vae": (read_vae, {"AutoencoderError", "VAEError"}),
    "latents": (read_latents, {"LatentSetError"}),
    "run-nodes": (read_run_in_nodes, {"RunError", "CheckpointError"}),
    "run-trainer": (read_run_in_trainer, {"RunError", "ConfigError"}),
    "workflow": (read_workflow, {"WorkflowError"}),
}
"""How each kind is read, and the errors that may refuse it."""


def main() -> None:
    kind, original, scratch, first, count = sys.argv[1:]
    read, refusals = READERS[kind]
    read_copy(read, Path(original), Path(scratch))  # imports come before the limits
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    events: list[str] = []
    is_reading = False

    def watch(event: str, arguments: object) -> None:
        if is_reading and event.startswith(FORBIDDEN_EVENTS):
            events.append(event)

    sys.addaudithook(watch)
    for seed in range(int(first), int(first) + int(count)):
        copy = fresh_copy(Path(original), Path(scratch))
        done = mutate(copy, random.Random(seed))
        print(json.dumps({"seed": seed, "done": done}), flush=True)
        started = time.monotonic()
        is_reading, end = True, "read"
        try:
            read(copy)
        except Exception as error:
            name = type(error).__name__
            end = "refused" if name in refusals else f"{name}: {error}"[:500]
        is_reading = False
        result = {"seed": seed, "end": end, "events": events[:], "seconds": 0.0}
        result["seconds"] = time.monotonic() - started
        events.clear()
        print(json.dumps(result), flush=True)


def read_copy(read: Callable[[Path], None], original: Path, scratch: Path) -> None:
    read(fresh_copy(original, scratch))


def fresh_copy(original: Path, scratch: Path) -> Path:
    copy = scratch / original.name
    if copy.is_dir():
        shutil.rmtree(copy)
    copy.unlink(missing_ok=True)
    return Path(
        shutil.copytree(original, copy) if original.is_dir() else shutil.copy(original, copy)
    )


if __name__ == "__main__":
    main()
