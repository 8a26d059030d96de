"""The versions of ComfyUI that the pack works with; reading them needs no other part of it."""

from __future__ import annotations

OLDEST = (0, 12, 0)


def unsupported_host() -> str | None:
    """One sentence where this ComfyUI is older than ``OLDEST``, else None."""
    try:
        from comfyui_version import __version__ as version
    except ImportError:  # from before 0.3
        version = "of 2024 or older"
    if _numbers(version) >= OLDEST:
        return None
    oldest = ".".join(map(str, OLDEST))
    return (
        f"FiTv2 needs ComfyUI {oldest} or newer, and this is {version}. Its nodes are not loaded."
    )


def _numbers(version: str) -> tuple[int, ...]:
    """The leading numbers of a version, such as (0, 30, 0) of "0.30.0rc1"."""
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
    return tuple(numbers)
