"""Processes of one command find each other, and stop together."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from training.processes import StopSignals, find_device, join_processes

ROOT = Path(__file__).parents[3]
TWO_PROCESSES = """
import sys
from pathlib import Path

from training.command_line import run_command
from training.processes import join_processes, on_main

folder = Path(sys.argv[1])


def command():
    state = join_processes("cpu")
    (folder / f"started-{state.process_index}").touch()
    on_main(state, lambda: (folder / f"main-{state.process_index}").touch())
    on_main(state, fail)
    (folder / f"survived-{state.process_index}").touch()


def fail():
    raise ValueError("the reason")


raise SystemExit(run_command(command))
"""


@pytest.mark.processes
def test_the_main_process_acts_alone_and_its_failure_stops_all(tmp_path: Path) -> None:
    (tmp_path / "two.py").write_text(TWO_PROCESSES)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    ended = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "two.py"), str(tmp_path)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1
    assert ended.stderr.count("error: the reason") == 1
    made = {path.name for path in tmp_path.iterdir()}
    assert made == {"two.py", "started-0", "started-1", "main-0"}


def test_processes_that_cannot_share_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join_processes("cpu").num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="4 processes were started, and they cannot share work"):
        join_processes("cpu")


def test_the_first_signal_is_remembered_and_a_second_ctrl_c_interrupts() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.received is signal.SIGTERM
        signal.raise_signal(signal.SIGINT)
        assert stop.received is signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGTERM) is before


def test_without_a_name_the_accelerator_is_used_where_there_is_one() -> None:
    available = torch.accelerator.is_available()
    assert (find_device(None).type != "cpu") == available


@pytest.mark.parametrize("name", ["gpu", "cuda:77", "mps:9", "meta", "hpu", "", "xpu:5"])
def test_a_device_that_is_not_there_is_refused_in_one_line(name: str) -> None:
    for choose in (find_device, join_processes):
        with pytest.raises(ValueError, match=f"--device {name} cannot be used: PyTorch") as refusal:
            choose(name)
        assert "\n" not in str(refusal.value)
