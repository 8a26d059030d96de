"""The processes that share a command's work: how they find each other and how they stop.

A command runs in one process, or in as many as ``torchrun``, ``accelerate launch`` or another
launcher started. Each of them may start data workers. When one of them fails, all end.
"""

from __future__ import annotations

import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from multiprocessing import parent_process
from threading import Event, Thread
from types import FrameType
from typing import Any

import psutil
import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import broadcast_object_list
from torch.distributed import TCPStore  # pyright: ignore[reportPrivateImportUsage]

EXIT_STATUS = {signal.SIGINT: 130, signal.SIGTERM: 0} | {
    getattr(signal, name): 0 for name in ("SIGHUP", "SIGBREAK") if hasattr(signal, name)
}
"""Exit status after saving: 130 for Ctrl-C (shell convention), else 0. SIGHUP is what a terminal
sends that closes, SIGBREAK what Windows sends for Ctrl-Break."""
PARENT_VARIABLE = "FITV2_PARENT"
"""Environment variable with the id of a process with which the command is to end."""

_TIMEOUT = timedelta(days=7)
"""Longer than the other processes ever wait for one that works alone."""
_LAUNCHERS = ("TORCHELASTIC_RUN_ID", "ACCELERATE_MIXED_PRECISION")
"""Variables that torchrun and accelerate launch set."""
_COUNTS = (
    "WORLD_SIZE",
    "PMI_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "SLURM_STEP_NUM_TASKS",
)
"""Variables with the number of processes that a launcher started; the first one set counts."""
_GRACE_SECONDS = 3
"""Time in which a process that is asked to end does so by itself."""
_STORE_SECONDS = 10
"""Time in which the store of all processes answers."""
_CLEANUP_SECONDS = 20
"""Time in which a process that failed has cleaned up."""


def started_processes() -> int:
    """The number of processes that a launcher has started of this command."""
    for name in _COUNTS:
        if os.environ.get(name, "").isdecimal():
            return int(os.environ[name])
    return 1


def find_device(name: str | None) -> torch.device:
    """The device called ``name``; without one, the accelerator if there is one, else the CPU.

    Raises ``ValueError`` for a name that torch does not know and a device that is not there.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if name is None:
        return accelerator or torch.device("cpu")
    try:
        device = torch.device(name)
        if device.type != "meta":
            torch.empty(1, device=device)
            return device
    except (RuntimeError, AssertionError, ImportError):  # each backend has its own
        pass
    found = f"cpu and {accelerator.type}" if accelerator else "cpu"
    raise ValueError(
        f"--device {name} cannot be used: PyTorch {torch.__version__} finds {found} here."
    )


def join_processes(device: str | None) -> PartialState:
    """Connect to the other processes. ``device`` is the user's choice; None chooses one.

    Raises ``ValueError`` where the device cannot be used, and where other processes were started
    but cannot be reached, because each would then do all of the work.
    """
    if device is not None:
        find_device(device)
    # Without cpu=True, processes on machines without a GPU would not know of each other.
    on_cpu = device == "cpu" or not torch.accelerator.is_available()
    check_launch(on_cpu)
    state = PartialState(cpu=on_cpu, timeout=_TIMEOUT)
    check_joined(state.num_processes, "Start one, or add --device cpu.")
    watch_others(state.num_processes)
    return state


def check_launch(on_cpu: bool) -> None:
    """Raise ``ValueError`` where a launcher started more processes than this machine has devices.

    They would fail with an error of the device's library.
    """
    here = os.environ.get("LOCAL_WORLD_SIZE", "")
    devices = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
    if not on_cpu and here.isdecimal() and 0 < devices < int(here):
        raise ValueError(
            f"{here} processes were started on this machine, which has {devices} "
            f"{'device' if devices == 1 else 'devices'}. Start {devices}."
        )


def check_joined(joined: int, remedy: str) -> None:
    """Raise ``ValueError`` where the ``joined`` processes are not all that were started."""
    if (started := started_processes()) != joined:
        raise ValueError(
            f"{started} processes were started that do not know of each other: each would do all "
            f"of the work. {remedy}"
        )


def require_one_process(command: str, remedy: str) -> None:
    """Raise ``ValueError`` where a launcher started several of a command that is for one."""
    if (started := started_processes()) > 1:
        raise ValueError(f"{started} processes were started; {command} runs in one. {remedy}")


def on_main(state: PartialState, action: Callable[[], None]) -> None:
    """Run ``action`` on the main process while the others wait; if it fails, they exit with 1."""
    error: Exception | None = None
    if state.is_main_process:
        try:
            action()
        except (ValueError, OSError) as failure:
            announce_failure()
            error = failure
    failed = state.num_processes > 1 and broadcast_object_list([error is not None])[0]
    if failed and error is None:
        raise SystemExit(1)  # the main process prints why
    if error is not None:
        raise error


def of_all(accelerator: Accelerator, value: int) -> list[int]:
    """The ``value`` of each process. All processes must call this together."""
    own = torch.tensor([value], device=accelerator.device)
    values: Any = accelerator.gather(own)
    return values.tolist()


class _Others:
    """What this process knows of the other processes of its command."""

    store: TCPStore | None = None
    """Where a process says that it failed; None in a command of one process."""
    failed_first: bool | None = None
    """Whether this process was the first to fail; None if it has not failed."""


_FAILURES = f"fitv2/failures/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}"


def watch_others(processes: int) -> None:
    """Let this process end soon after another one of the ``processes`` has failed.

    Otherwise it would wait in a collective operation: on GPUs until a timeout. Call it once the
    processes are connected.
    """
    if processes == 1 or _Others.store is not None:
        return
    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    try:
        # A connection of its own: that of the process group may be blocked.
        timeout = timedelta(seconds=_STORE_SECONDS)
        _Others.store = TCPStore(address, port, is_master=False, timeout=timeout)
    except (RuntimeError, ValueError):
        return  # then the launcher alone ends the others

    done, launchers = Event(), _launchers()

    def watch(store: TCPStore) -> None:
        try:
            while not store.check([_FAILURES]):
                if done.wait(1) or not all(map(_is_alive, launchers)):
                    return
        except RuntimeError:  # whoever keeps the store has ended
            return
        if _Others.failed_first is None and not done.wait(_GRACE_SECONDS):
            os._exit(1)

    def stop() -> None:  # C++ code must not return to an interpreter that is shutting down
        done.set()
        thread.join(_STORE_SECONDS + _GRACE_SECONDS)  # it may be asking the store

    thread = Thread(target=watch, args=(_Others.store,), daemon=True)
    thread.start()
    atexit.register(stop)


def disconnect() -> None:
    """Leave the other processes, once the work of all is done.

    Threads of their connections could otherwise abort a process while its interpreter shuts down.
    """
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def announce_failure() -> bool:
    """Say to the other processes that this one has failed; whether it is the first to fail.

    All but the first exit silently with 1, because their errors follow from the first one's. If
    the clean-up that follows takes too long, because it waits for another process, this one ends.
    """
    if _Others.failed_first is None:
        _Others.failed_first = _is_first_to_fail()
        if started_processes() > 1:
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, signal.SIG_IGN)  # until it has said why
            Thread(target=_exit_after, args=(_CLEANUP_SECONDS,), daemon=True).start()
    return _Others.failed_first


def _is_first_to_fail() -> bool:
    if _Others.store is None:
        # Processes that are not connected yet fail for the same reason: one per machine reports it.
        if started_processes() == 1 or os.environ.get("LOCAL_RANK", "0") == "0":
            return True
        time.sleep(_CLEANUP_SECONDS)  # the launcher would end that one with this one
        return False
    try:
        return _Others.store.add(_FAILURES, 1) == 1
    except RuntimeError:
        return True


def _exit_after(seconds: float) -> None:
    time.sleep(seconds)
    sys.stderr.flush()
    os._exit(1)


class StopSignals:
    """A context in which signals to stop are remembered until the step is complete.

    The end of the launcher counts as SIGTERM: nobody could stop this process any more. A second
    Ctrl-C raises ``KeyboardInterrupt`` at once.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        for number in EXIT_STATUS:
            self._previous[number] = signal.signal(number, self._remember)
            if self._previous[number] is signal.SIG_IGN:  # as nohup asks
                signal.signal(number, signal.SIG_IGN)
        if launchers := _launchers():
            Thread(target=self._watch, args=(launchers,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def agreed(self, accelerator: Accelerator) -> signal.Signals | None:
        """The signal that any process received, or None. All processes must call this together."""
        if accelerator.num_processes == 1:
            return self.received
        number = max(of_all(accelerator, int(self.received or 0)))
        return signal.Signals(number) if number else None

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.received == signal.SIGINT == number:
            raise KeyboardInterrupt
        self.received = signal.Signals(number)

    def _watch(self, launchers: list[psutil.Process]) -> None:
        while all(map(_is_alive, launchers)):
            time.sleep(1)
        self.received = self.received or signal.SIGTERM


def _launchers() -> list[psutil.Process]:
    """The processes without which this one is an orphan: not a shell, which may be left."""
    ids = [int(os.environ[PARENT_VARIABLE])] if PARENT_VARIABLE in os.environ else []
    if any(name in os.environ for name in _LAUNCHERS):
        ids.append(os.getppid())
    found = []
    for number in ids:
        try:
            found.append(psutil.Process(number))
        except psutil.Error:
            continue
    return found


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


class DataWorkers:
    """Ends a command's data workers with it. It is the ``worker_init_fn`` of a ``DataLoader``.

    Workers ignore signals to stop: if they ended, the run could not finish its step and save. They
    exit when ``end`` is called, and with their parent.
    """

    def __init__(self) -> None:
        # A plain byte: a lock or a queue could be left unusable by a worker that was killed.
        self._ended = multiprocessing.RawValue("b", 0)

    def __call__(self, worker: int) -> None:
        for number in EXIT_STATUS:
            signal.signal(number, signal.SIG_IGN)
        Thread(target=_exit_when, args=(lambda: bool(self._ended.value),), daemon=True).start()

    def end(self) -> None:
        """Let the workers exit soon, even busy ones. Close the loader's iterator after this."""
        self._ended.value = 1


def exit_with_parent(_worker: int = 0) -> None:
    """Make a data worker exit with its parent, however that ends and whatever the worker does.

    An orphan would block forever on its queue, or first finish the batch that it prepares.
    """
    Thread(target=_exit_when, daemon=True).start()


def _exit_when(ended: Callable[[], bool] = lambda: False) -> None:
    parent, pid = parent_process(), os.getppid()
    # `parent` alone shows the end late, while the parent's other children live.
    while parent and parent.is_alive() and os.getppid() == pid and not ended():
        parent.join(0.3)
    if ended():
        time.sleep(_GRACE_SECONDS)
        os._exit(0)  # the loader would report another status as a failure
    os._exit(1)
