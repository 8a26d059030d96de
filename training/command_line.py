"""What the commands share: a mistake of the person who typed is one line, and stopping is no crash."""

from __future__ import annotations

import sys
from collections.abc import Callable

from comfyui_fitv2.solvers import SolverError


def run_command(command: Callable[[], None], stopped: str = "") -> int:
    """The exit status of ``command``: 0, 1 behind one ``error:`` line, or 130 after Ctrl-C, behind what ``stopped`` says."""
    try:
        command()
    except (ValueError, OSError, SolverError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped. {stopped}".rstrip(), file=sys.stderr)
        return 130
    return 0
