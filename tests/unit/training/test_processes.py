"""Processes of one command find each other, and stop together."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
import torch

from training.processes import (
    StopSignals,
    check_launch,
    find_device,
    join_processes,
    require_one_process,
)

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


VARIABLES = [
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
]


@pytest.mark.parametrize("variable", VARIABLES)
def test_processes_that_cannot_share_work_are_refused(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As torchrun, mpirun and srun start them."""
    assert join_processes("cpu").num_processes == 1
    monkeypatch.setenv(variable, "4")
    with pytest.raises(ValueError, match="4 processes were started that do not know of each other"):
        join_processes("cpu")
    with pytest.raises(ValueError, match=r"4 processes were started; this runs in one. Do so."):
        require_one_process("this", "Do so.")


def test_more_processes_than_devices_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "device_count", lambda: 2)
    with pytest.raises(ValueError, match=r"4 processes .* which has 2 devices. Start 2."):
        check_launch(on_cpu=False)
    check_launch(on_cpu=True)


BUSY_WORKER = """
import sys, time
from torch.utils.data import DataLoader, IterableDataset
from training.processes import DataWorkers

class Busy(IterableDataset):
    def __iter__(self):
        yield 1
        print("busy", flush=True)
        while True:
            sum(range(1000))

workers = DataWorkers()
batches = iter(DataLoader(Busy(), batch_size=None, num_workers=2, worker_init_fn=workers))
next(batches)
next(batches)
sys.stdin.readline()
workers.end()
raise ValueError("batches is still open")
"""


@pytest.mark.processes
@pytest.mark.parametrize("end", ["failure", "kill"])
def test_busy_workers_that_ignore_signals_end_with_their_process(end: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", BUSY_WORKER],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "busy\n"
    workers = psutil.Process(process.pid).children()
    assert len(workers) == 2
    if end == "kill":
        process.kill()
        process.wait()
    else:
        process.communicate("\n", timeout=120)
        assert process.returncode == 1
    assert not psutil.wait_procs(workers, timeout=120)[1]


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="Windows sends SIGBREAK")
def test_a_closed_terminal_stops_unless_nohup_was_asked_for() -> None:
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.received is signal.SIGHUP
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals() as stop:
        signal.raise_signal(signal.SIGHUP)
    assert stop.received is None
    signal.signal(signal.SIGHUP, before)


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
