"""What a machine runs out of, in one line: memory, disk space, and processes that were killed."""

from __future__ import annotations

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from .processes import started_processes

_MEMORY = re.compile(
    r"out of memory|allocate memory|not enough memory|CUBLAS_STATUS_ALLOC_FAILED"
    r"|out of shared memory",
    re.IGNORECASE,
)
"""What CUDA, ROCm, XPU, MPS, the CPU's allocator and data workers say."""
_FULL = re.compile(r"No space left|quota exceeded|File too large|not enough space", re.IGNORECASE)
"""What the system says, also where safetensors passes it on as text."""
_KILLED = re.compile(r"DataLoader worker .*(exited unexpectedly|killed by signal)")
_LOST = re.compile(r"Connection (closed|reset) by peer|NCCL|gloo|Broken pipe|Socket Timeout")
_IN_WORKER = re.compile(r"Caught \w+ in DataLoader worker")


class MachineError(OSError):
    """Something that the machine lacks or has ended; the message says what, and what to do."""


@contextmanager
def explained(
    memory: str,
    workers: str = "",
    last_state: Callable[[], str] = lambda: "",
    disk: Callable[[], str] = lambda: "Make room there.",
) -> Iterator[None]:
    """Raise ``MachineError``, in one line, where the machine is the reason that the block failed.

    ``memory`` says what to lower where memory runs out; ``workers`` what to do when a process that
    prepares data was killed; ``disk``, called after the failure, what to do where the disk is full;
    ``last_state``, called too, where the last good state is. An error of a data worker loses the
    traceback in its message. Other errors pass unchanged.
    """
    try:
        yield
    except Exception as error:
        kind, cause = _cause(error)
        if kind:
            remedies = {"memory": memory, "workers": workers, "peer": ""}
            remedy = disk() if kind == "disk" else remedies[kind]
            parts = (f"{cause}.", remedy, last_state())
            raise MachineError(" ".join(part for part in parts if part)) from None
        if isinstance(error, (ValueError, OSError)) and _IN_WORKER.match(str(error)):
            last_line = str(error).strip().splitlines()[-1]
            parts = (last_line.partition(": ")[2].rstrip(".") + ".", last_state())
            raise MachineError(" ".join(part for part in parts if part)) from None
        raise


def is_full_disk(error: BaseException) -> bool:
    """Whether a disk, or the share of it that one may use, is full."""
    number = getattr(error, "errno", None)
    full = (errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC))
    return number in full or bool(_FULL.search(str(error)))


def is_out_of_memory(error: Exception) -> bool:
    """Whether the memory of a device, or of the computer, was too small for a tensor."""
    return isinstance(error, RuntimeError) and (
        isinstance(error, torch.OutOfMemoryError) or bool(_MEMORY.search(str(error)))
    )


def _cause(error: Exception) -> tuple[str, str]:
    """The kind of failure and a sentence about it, without a full stop; empty for any other."""
    text = str(error)
    if _KILLED.search(text) and not _MEMORY.search(text):
        return "workers", (
            "a process that prepares data was killed, most often because memory ran out"
        )
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return "memory", "memory ran out"
    if isinstance(error, MemoryError):
        return "memory", "the computer's memory ran out"
    if is_out_of_memory(error):
        on_cpu = re.search(r"DefaultCPUAllocator|shared memory", text)
        return "memory", ("the computer's memory ran out" if on_cpu else _on_device())
    if isinstance(error, (OSError, RuntimeError)) and is_full_disk(error):
        file = getattr(error, "filename", None)
        return "disk", f"the disk is full ({file or text.splitlines()[0]})"
    if isinstance(error, torch.distributed.DistError) or (
        isinstance(error, RuntimeError) and started_processes() > 1 and _LOST.search(text)
    ):
        return "peer", (
            "another process of this command has ended without a word, or cannot be reached; "
            "most often it was killed because memory ran out"
        )
    return "", ""


def _on_device() -> str:
    device = torch.accelerator.current_accelerator(check_available=True)
    return f"the memory of the device {f'({device.type}) ' if device else ''}ran out"
