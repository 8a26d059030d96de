"""Shared entry point: options from a dataclass, user errors in one line, Ctrl-C without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

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
    """Read ``options``, a dataclass, from a command line. Without ``argv``, that of this process.

    A field is an option, ``--kebab-case``, with its docstring as help; underscores are accepted
    too. ``default`` replaces the defaults of the fields. Raises ``SystemExit`` after ``--help`` (0)
    and, with the closest matches, on a command line that cannot be read (2).
    """
    defaults = {} if default is None else {"default": default}
    return tyro.cli(
        tyro.conf.AvoidSubcommands[options],
        prog=prog,
        description=description,
        args=argv,
        **defaults,
    )


def run_command(command: Callable[[], int | None], stopped: str = "") -> int:
    """The exit status of ``command``: what it returns (None is 0), 1 on an error, 130 on Ctrl-C.

    An error of the user's is printed as one ``error:`` line, and Ctrl-C as one line that ends with
    ``stopped``.
    """
    try:
        return command() or 0
    except (ValueError, OSError, SolverError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"stopped. {stopped}".rstrip(), file=sys.stderr)
        return 130
