"""Loading a 2.7 GB checkpoint ÷ reading its bytes: time and peak memory.

    python -m benchmarks.load

``load_checkpoint`` in a fresh process and the FiT Loader node in a fresh ComfyUI take turns with
reading the file in pieces of 16 MiB into one buffer. Loading looks at every weight, so all of them
are in memory at the end, as the column "resident" shows. A cold file is one that was removed from
the system's page cache. Peak memory is the process's above what it had before, mapped pages of the
file included. Each process has loaded a small checkpoint first, so what PyTorch does once is not
counted.

Goals: peak ≤ 1.1 × file, time ≤ 1.3 × read.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from support.live_client import LiveClient
from tqdm import tqdm

from comfyui_fitv2 import FiTConfig, load_checkpoint
from devkit.environment import DEV
from devkit.host import Host, find_host
from devkit.server import Server

from .node_times import run_timed
from .random_model import save_random
from .timing import ratio

PIECE = 16 * 2**20
SMALL = FiTConfig(hidden_size=64, depth=2, num_heads=4, num_classes=1000, adaln_lora_dim=16)
COUNTS_MEMORY = Path("/proc/self/clear_refs").exists()
FORGETS_FILES = hasattr(os, "posix_fadvise")


class Loading(NamedTuple):
    seconds: float
    peak: int
    """Peak bytes above those before."""
    resident: int
    """Bytes above those before, at the end."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--preset", default="fitv2-xl", help="a name of FiTConfig.preset")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--comfyui", type=Path, help="your own ComfyUI instead of the one in .dev")
    arguments = parser.parse_args()
    host = find_host(arguments.comfyui, None)
    caches = ["warm", "cold"] if FORGETS_FILES else ["warm"]
    DEV.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=DEV, prefix="load-") as folder:
        base = Path(folder)
        file, small = (
            base / "models" / "fit" / f"{name}.safetensors" for name in ("large", "small")
        )
        save_random(file, FiTConfig.preset(arguments.preset))
        save_random(small, SMALL)
        found: dict[str, dict[str, list[Loading]]] = {
            cache: {"read": [], "load_checkpoint": [], "FiT Loader": []} for cache in caches
        }
        with tqdm(total=arguments.rounds * len(caches) * 3, leave=False) as progress:
            for _ in range(arguments.rounds):
                for cache, loadings in found.items():
                    for name, measured in loadings.items():
                        progress.set_description(f"{name}, {cache}")
                        measured.append(
                            _load_in_host(host, base, small, file, cache)
                            if name == "FiT Loader"
                            else _load_in_process(name, small, file, cache)
                        )
                        progress.update()
        _report(found, file.stat().st_size, arguments.preset)


def _report(found: dict[str, dict[str, list[Loading]]], size: int, preset: str) -> None:
    print(
        f"{preset}, fp32, a file of {size / 1e9:.2f} GB; medians. Goals: ÷ read ≤ 1.3, peak ≤ 1.1"
    )
    print(f"{'':22} {'seconds':>8} {'÷ read':>7} {'peak ÷ file':>12} {'resident ÷ file':>16}")
    for cache, loadings in found.items():
        seconds = {name: [loading.seconds for loading in loadings[name]] for name in loadings}
        for name, measured in loadings.items():
            time_cells = (
                f"{statistics.median(seconds[name]):8.2f} {ratio(seconds, name, 'read'):7.2f}"
            )
            peak = statistics.median(loading.peak for loading in measured) / size
            resident = statistics.median(loading.resident for loading in measured) / size
            memory = f"{peak:12.2f} {resident:16.2f}" if COUNTS_MEMORY else f"{'-':>12} {'-':>16}"
            print(f"{cache:5} {name:16} {time_cells} {memory}")
    if not FORGETS_FILES:
        print("Nothing was measured cold: this system cannot drop a file from its page cache.")
    if not COUNTS_MEMORY:
        print("Memory was not measured: this system has no /proc/PID/clear_refs.")


def _load_in_process(name: str, small: Path, file: Path, cache: str) -> Loading:
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as fresh:
        return fresh.submit(_load_here, name, small, file, cache).result()


def _load_here(name: str, small: Path, file: Path, cache: str) -> Loading:
    load_checkpoint(small)
    _settle(file, cache)
    kept = []  # until memory is measured

    def load() -> float:
        started = time.perf_counter()
        kept.append(_read(file) if name == "read" else load_checkpoint(file))
        return time.perf_counter() - started

    return _measured(os.getpid(), load)


def _load_in_host(host: Host, base: Path, small: Path, file: Path, cache: str) -> Loading:
    def prompt(checkpoint: str) -> dict[str, dict[str, object]]:
        loader = {
            "class_type": "FiTLoader",
            "inputs": {"checkpoint": checkpoint, "weight_dtype": "fp32"},
        }
        return {"1": loader, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}

    with Server(host, base) as server:
        client = LiveClient(server.url)
        client.run(prompt(small.name))
        _settle(file, cache)
        return _measured(server.pid, lambda: run_timed(client, prompt(file.name), "1")[1])


def _settle(file: Path, cache: str) -> None:
    """Bring the file into the page cache the same way every time, and out again if it is cold."""
    _forget(file)
    _read(file)
    if cache == "cold":
        _forget(file)


def _forget(file: Path) -> None:
    if FORGETS_FILES:
        with file.open("rb") as opened:
            os.fsync(opened.fileno())  # only what is on the disk can be dropped
            os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _read(file: Path) -> None:
    piece = bytearray(PIECE)
    with file.open("rb", buffering=0) as opened:
        while opened.readinto(piece):
            pass


def _measured(pid: int, seconds: Callable[[], float]) -> Loading:
    if not COUNTS_MEMORY:
        return Loading(seconds(), 0, 0)
    process = Path(f"/proc/{pid}")
    (process / "clear_refs").write_text("5")  # resets the peak
    before = _memory(process, "VmRSS")
    took = seconds()
    return Loading(took, _memory(process, "VmHWM") - before, _memory(process, "VmRSS") - before)


def _memory(process: Path, field: str) -> int:
    line = next(
        line
        for line in (process / "status").read_text().splitlines()
        if line.startswith(f"{field}:")
    )
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    main()
