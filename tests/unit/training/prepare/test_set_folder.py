"""``prepare`` waits for the shards of other processes, which share only the folder with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.data.shards import shard_path
from training.prepare import set_folder
from training.prepare.set_folder import SetFolder


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were taken; the clock follows them."""
    taken: list[float] = []
    monkeypatch.setattr(set_folder.time, "sleep", taken.append)
    monkeypatch.setattr(set_folder.time, "monotonic", lambda: sum(taken))
    return taken


def finish_after(
    seconds: float, path: Path, sleeps: list[float], monkeypatch: pytest.MonkeyPatch
) -> list[int]:
    """Let another process finish a shard at this time; counts the looks at it."""
    looks: list[int] = []
    real = SetFolder.has_shard

    def has_shard(self: SetFolder, number: int) -> bool:
        looks.append(number)
        if sum(sleeps) >= seconds:
            path.touch()
        return real(self, number)

    monkeypatch.setattr(SetFolder, "has_shard", has_shard)
    return looks


def test_waiting_looks_ever_less_often(
    tmp_path: Path, sleeps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed: list[list[int]] = []
    shard_path(tmp_path, 0).touch()
    looks = finish_after(3600, shard_path(tmp_path, 1), sleeps, monkeypatch)
    SetFolder(tmp_path).wait_for([0, 1], noticed.append)
    assert sleeps[0] <= set_folder._FIRST_PAUSE
    assert max(sleeps) <= set_folder._LONGEST_PAUSE
    assert len(sleeps) < 500, "an hour at five looks a second would be 18,000"
    assert looks.count(0) == 1, "what is there is not looked at again"
    assert noticed[0] == [1]
    assert 30 < len(noticed) <= 60
    assert 3600 <= sum(sleeps) < 3600 + set_folder._LONGEST_PAUSE


def test_processes_do_not_look_at_the_same_moments(
    tmp_path: Path, sleeps: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    finish_after(300, shard_path(tmp_path, 1), sleeps, monkeypatch)
    SetFolder(tmp_path).wait_for([1], lambda _: None)
    longest = [pause for pause in sleeps if pause > set_folder._LONGEST_PAUSE / 2]
    assert len(set(longest)) == len(longest) > 5
