"""Checks as commands: one after the other, or two at a time."""

from __future__ import annotations

import os
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
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

    def start(self, output: IO[str] | None = None) -> subprocess.Popen[bytes]:
        """Run it in the project's root; what it prints goes to ``output``."""
        return subprocess.Popen(
            self.command,
            cwd=ROOT,
            env=dict(self.variables),
            stdout=output,
            stderr=subprocess.STDOUT if output else None,
        )


class Row:
    """Checks that run one after the other. What they print goes to ``output``.

    Two rows may take their checks from one iterator.
    """

    def __init__(self, checks: Iterable[Check], output: IO[str] | None = None) -> None:
        self._checks = checks
        self._output = output
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False
        self.failed: list[str] = []
        """The names of those that failed."""

    def run(self) -> None:
        for check in self._checks:
            if self._stopped:
                return
            started = time.monotonic()
            self._say(check.name)
            self._process = check.start(self._output)
            code = self._process.wait()
            if code:
                self.failed.append(check.name)
            word = "failed" if code else "passed"
            self._say(f"{check.name}: {word} after {time.monotonic() - started:.0f} s")

    def stop(self) -> None:
        """End the check that runs."""
        self._stopped = True
        if self._process is not None:
            self._process.terminate()

    def _say(self, line: str) -> None:
        if self._output is None:
            say(line)
        else:
            # The process that writes next has the same file, so nothing may be kept back.
            print(f"[fitv2] {line}", file=self._output, flush=True)


def run_in_a_row(checks: Sequence[Check]) -> list[str]:
    """The names of the checks that failed."""
    row = Row(checks)
    row.run()
    return row.failed


def run_side_by_side(checks: Sequence[Check]) -> list[str]:
    """The names of the checks that failed, of two rows that run at the same time.

    The row that is free takes the next check, so the longest should come first. What the second row
    prints is shown once both have ended.
    """
    left = iter(checks)
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
        first, second = Row(left), Row(left, output)
        beside = Thread(target=second.run, daemon=True)
        beside.start()
        try:
            first.run()
            while beside.is_alive():
                beside.join(1)  # without a time limit, Ctrl+C would wait on Windows
        except BaseException:
            second.stop()
            beside.join()
            raise
        output.seek(0)
        print(output.read(), end="", flush=True)
    return first.failed + second.failed


def threads_for_two() -> dict[str, str]:
    """Variables that give each of two rows half of the processor's cores.

    More threads than cores wait for each other actively, which takes several times as long.
    """
    return {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 2) // 2))}
