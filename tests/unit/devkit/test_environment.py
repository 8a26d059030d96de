"""Steps of the set-up: a full disk is named as the cause."""

from __future__ import annotations

import shutil
import sys
from types import SimpleNamespace

import pytest

from devkit.environment import SetupError, run_step

FULL = (
    "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
    "OSError: [WinError 112] There is not enough space on the disk: 'C:\\\\pack\\\\.dev'",
    "fatal: write error: Disk quota exceeded",
)


@pytest.mark.parametrize("line", FULL)
def test_a_full_disk_is_named_as_the_cause(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free = SimpleNamespace(free=2_340_000_000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: free)
    with pytest.raises(SetupError) as error:
        run_step("installing", [sys.executable, "-c", f"raise SystemExit({line!r})"])
    message = str(error.value)
    assert message.startswith("installing failed: the disk is full. ")
    for said in ("2.3 GB", "10 GB", "the same command again"):
        assert said in message
    assert line not in message


def test_another_failure_shows_the_end_of_the_output() -> None:
    with pytest.raises(SetupError, match="installing failed:\nno such package"):
        run_step("installing", [sys.executable, "-c", "raise SystemExit('no such package')"])
