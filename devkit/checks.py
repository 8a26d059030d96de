"""Checks as commands: one after the other, and two such rows side by side."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

from .environment import ROOT, say


@dataclass(frozen=True)
class Check:
    """A command that passes with exit code 0."""

    name: str
    command: Sequence[str | Path]
    variables: Mapping[str, str]
    """Its whole environment."""

    def passes(self, output: IO[str] | None = None) -> bool:
        """Run it in the project's root and say how it went; what it prints goes to ``output``."""
        started = time.monotonic()
        print_to(output, self.name)
        code = subprocess.run(
            self.command,
            cwd=ROOT,
            env=dict(self.variables),
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        ).returncode
        word = "failed" if code else "passed"
        print_to(output, f"{self.name}: {word} after {time.monotonic() - started:.0f} s")
        return code == 0


def run_in_a_row(checks: Sequence[Check]) -> list[str]:
    """The names of the checks that failed."""
    return [check.name for check in checks if not check.passes()]


def run_side_by_side(first: Sequence[Check], second: Sequence[Check]) -> list[str]:
    """The names of the checks that failed, of two rows that run at the same time.

    What the second row prints is shown once the first row has ended.
    """
    failed: list[str] = []
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:

        def run_second() -> None:
            failed.extend(check.name for check in second if not check.passes(output))

        beside = Thread(target=run_second, daemon=True)
        beside.start()
        failed += run_in_a_row(first)
        while beside.is_alive():
            beside.join(1)  # without a time limit, Ctrl+C would wait on Windows
        output.seek(0)
        print(output.read(), end="", flush=True)
    return failed


def threads_for_two() -> dict[str, str]:
    """Variables that give each of two rows half of the processor's cores.

    More threads than cores wait for each other actively, which takes several times as long.
    """
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2))}


def print_to(output: IO[str] | None, line: str) -> None:
    if output is None:
        say(line)
    else:
        # The process that writes next has the same file, so nothing may be kept back.
        print(f"[fitv2] {line}", file=output, flush=True)
