"""The versions of ComfyUI that the pack works with; reading them needs no other part of it."""

from __future__ import annotations

OLDEST = (0, 12, 0)


BEFORE_0_3 = "of 2024 or older"
"""What stands for the version of a ComfyUI that has none written down."""


def unsupported_host() -> str | None:
    """What the log says where this ComfyUI is older than ``OLDEST``, else None."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:
        version = BEFORE_0_3
    problem = too_old(version)
    return problem and f"{problem} Its nodes are not loaded."


def too_old(version: str) -> str | None:
    """One sentence where this version of ComfyUI is older than ``OLDEST``, else None."""
    if numbers(version) >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    return f"FiTv2 needs ComfyUI {oldest} or newer, and this is {version}."


def numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, such as (0, 30, 0) of "0.30.0rc1"."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
