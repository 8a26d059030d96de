"""What a machine runs out of is one line: cause, remedy, and where the last good state is."""

from __future__ import annotations

import errno
from collections.abc import Iterator

import pytest
import torch
from safetensors import SafetensorError
from torch.utils.data import DataLoader

from training.failures import MachineError, explained, is_full_disk


def failing(error: Exception) -> str:
    with (
        pytest.raises(MachineError) as raised,
        explained("Lower it.", "Fewer workers.", lambda: "The last state is here."),
    ):
        raise error
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.mark.cases("P6")
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nGPU 0 has"),
        RuntimeError("HIP out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9.06 GiB, other allocations: 1"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError('[enforce fail at alloc_cpu.cpp:117] err == 0. DefaultCPUAllocator: can\'t '
                     "allocate memory: you tried to allocate 4000000000000 bytes."),
        RuntimeError("[enforce fail] data. DefaultCPUAllocator: not enough memory: you tried"),
        RuntimeError("unable to mmap 4096 bytes from file: Cannot allocate memory (12)"),
        RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error. It is possible that"
                     " dataloader's workers are out of shared memory."),
        MemoryError("Unable to allocate 3.64 TiB for an array"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),
    ],
    ids=lambda error: str(error)[:40],
)  # fmt: skip
def test_memory_that_ran_out_names_what_to_lower(error: Exception) -> None:
    assert failing(error).endswith("ran out. Lower it. The last state is here.")


@pytest.mark.cases("P6")
def test_memory_that_really_runs_out_is_recognised() -> None:
    message = r"the computer's memory ran out\. Lower it\."
    with pytest.raises(MachineError, match=message), explained("Lower it."):
        torch.empty(2**60)


def test_a_killed_worker_is_said() -> None:
    for text in ("(pid 9) is killed by signal: Killed.", "(pid(s) 9) exited unexpectedly"):
        message = failing(RuntimeError(f"DataLoader worker {text}"))
        assert message == (
            "a process that prepares data was killed, most often because memory ran out. Fewer "
            "workers. The last state is here."
        )


def test_a_full_disk_is_said() -> None:
    message = failing(OSError(errno.ENOSPC, "No space left on device", "/data/file"))
    assert message == (
        "the disk is full (/data/file). Make room there. The last state is here."
    )  # fmt: skip
    text = "Error while serializing: I/O error: No space left on device (os error 28)"
    assert is_full_disk(SafetensorError(text))
    assert is_full_disk(OSError(errno.EFBIG, "File too large"))
    assert not is_full_disk(PermissionError(errno.EACCES, "Permission denied"))


@pytest.mark.parametrize("error", [ValueError("a reason"), RuntimeError("a bug"), KeyError("key")])
def test_other_errors_pass_unchanged(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, explained("Lower it."):
        raise error
    assert raised.value is error


def test_a_lost_process_is_said_in_a_run_of_several(monkeypatch: pytest.MonkeyPatch) -> None:
    error = RuntimeError("[gloo/transport/tcp/pair.cc:545] Connection closed by peer [127.0.0.1]")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert failing(error).startswith("another process of this command has ended without a word")


class Broken(torch.utils.data.IterableDataset):
    def __iter__(self) -> Iterator[int]:
        raise FileNotFoundError("latents/shard-000007.arrow is gone")


@pytest.mark.processes
def test_an_error_of_a_worker_is_one_line() -> None:
    with (
        pytest.raises(MachineError) as raised,
        explained("Lower it.", last_state=lambda: "The last state is here."),
    ):
        next(iter(DataLoader(Broken(), num_workers=1)))
    assert str(raised.value) == "latents/shard-000007.arrow is gone. The last state is here."
