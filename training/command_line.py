"""Shared entry point: options from a dataclass, one line per user error, a clean exit on Ctrl-C."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import tyro

from comfyui_fitv2.solvers import SolverError

Options = TypeVar("Options")


def parse_options(
    options: type[Options],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
    default: Options | None = None,
) -> Options:
    """Fill the dataclass ``options`` from the command line ``argv``, by default this process's own.

    Each field becomes an option in ``--kebab-case``, or with underscores, whose help text is the
    docstring under the field. ``default`` replaces the defaults of the fields. Raises
    ``SystemExit`` with status 0 after ``--help``, and with 2 on a command line that is not valid.
    """
    defaults: dict[str, Any] = {} if default is None else {"default": default}
    return tyro.cli(
        options,
        prog=prog,
        description=description,
        args=argv,
        config=(tyro.conf.AvoidSubcommands,),
        **defaults,
    )


def run_command(command: Callable[[], int | None], stopped: str = "") -> int:
    """Run ``command`` and return the exit status: its own or 0, 1 on an error, 130 on Ctrl-C.

    A ``ValueError``, ``OSError`` or ``SolverError`` is printed as one ``error:`` line. After Ctrl-C
    one line is printed that ends with ``stopped``, which says what to do next.
    """
    try:
        return command() or 0
    except (ValueError, OSError, SolverError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped. {stopped}".rstrip(), file=sys.stderr)
        return 130
