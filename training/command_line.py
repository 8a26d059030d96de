"""Shared entry point: options from a dataclass, one line per user error, a clean exit on Ctrl-C."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, TextIO, TypeVar

import torch
import tyro

from comfyui_fitv2.solvers import SolverError

from .processes import announce_failure, disconnect

Options = TypeVar("Options")
_FRAME = re.compile(r"\x1b\[[\d;]*m|[╭╮╰╯│─]|-{5,}")
"""Colours and lines around tyro's messages."""


class OptionError(ValueError):
    """A command line that cannot be read; the message names the option and the closest matches."""


def parse_options(
    options: type[Options],
    argv: Sequence[str] | None = None,
    *,
    prog: str,
    description: str = "",
) -> Options:
    """Fill the dataclass ``options`` from the command line ``argv``, by default this process's own.

    Each field becomes an option in ``--kebab-case``, or with underscores, whose help text is the
    docstring under the field. Raises ``SystemExit`` with status 0 after ``--help``, and
    ``OptionError`` on a command line that is not valid.
    """
    message = io.StringIO()
    try:
        with redirect_stderr(message):
            return tyro.cli(
                options,
                prog=prog,
                description=description,
                args=argv,
                config=(tyro.conf.AvoidSubcommands,),
            )
    except SystemExit as exit:
        if not exit.code:
            raise
        raise OptionError(_one_line(message.getvalue())) from None


def _one_line(message: str) -> str:
    """A message of tyro's without its title, its frame and the help that follows."""
    _, _, text = message.partition("\n")
    text = re.split("Argument helptext:|For full helptext", _FRAME.sub(" ", text))[0]
    # The name of a dataclass says nothing to a user; an option's begins with hyphens.
    return re.sub(r"^Error parsing \w+: ", "", " ".join(text.split()))


def _check_torch() -> None:
    if torch.__version__ < "2.9":  # not a comparison of text: torch's version has its own
        raise OSError(
            f"PyTorch {torch.__version__} is too old: training needs 2.9 or newer. Install it for "
            "your machine as pytorch.org says, in an environment of its own."
        )


def by_path(command: str) -> list[str]:
    """The start of the line that runs a command of the trainer with this Python, in any folder."""
    return [sys.executable, str(Path(__file__).parent), command]


def to_type(words: Sequence[str]) -> str:
    """The words of a command as one line, quoted as the shell of this system reads it."""
    return " ".join(map(_for_cmd, words)) if sys.platform == "win32" else shlex.join(words)


def own_line(prog: str, argv: Sequence[str] | None) -> str:
    """The line to type that runs ``prog`` with ``argv``, by default as this process was run."""
    return f"{prog} {to_type(sys.argv[1:] if argv is None else argv)}".rstrip()


def typed(line: str) -> list[str]:
    """The words of a command that was typed as one line, as the shell of this system cuts it."""
    return shlex.split(line.replace("\\", r"\\") if sys.platform == "win32" else line)


def _for_cmd(word: str) -> str:
    """A word as cmd and PowerShell read it. In cmd, single quotes quote nothing."""
    escaped = word.replace('"', '\\"')
    return word if re.fullmatch(r"[\w.:/\\=+-]+", word) else f'"{escaped}"'


def run_command(command: Callable[[], int | None], stopped: str = "") -> int:
    """Run ``command`` and return the exit status: its own or 0, 1 on an error, 130 on Ctrl-C.

    A ``ValueError``, ``OSError`` or ``SolverError`` is printed as one ``error:`` line; the status
    after an ``OptionError`` is 2. After Ctrl-C one line is printed that ends with ``stopped``,
    which says what to do next. Of several processes the first one that fails prints, and the
    others end with 1.

    Characters that the output cannot encode, such as → in a file of Windows, are printed as "?".
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    with _lasting_output():
        return _run(command, stopped)


def _run(command: Callable[[], int | None], stopped: str) -> int:
    try:
        _check_torch()
        status = command() or 0
        disconnect()
        return status
    except (ValueError, OSError, SolverError) as error:
        if announce_failure():
            print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
    except Exception:
        if announce_failure():
            raise
        return 1
    except KeyboardInterrupt:
        print(f"stopped. {stopped}".rstrip(), file=sys.stderr)
        return 130


class _LastingStream:
    """A text stream that outlives its reader, such as the ``tee`` that Ctrl-C ends too.

    Otherwise a run could neither finish its step nor save: it would fail while it prints.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._attempt(lambda: self._stream.write(text))
        return len(text)

    def flush(self) -> None:
        self._attempt(self._stream.flush)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _attempt(self, action: Callable[[], Any]) -> None:
        try:
            action()
        except BrokenPipeError:  # what is still buffered must go somewhere
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
        except OSError:  # a closed terminal, or a full disk
            pass


@contextmanager
def _lasting_output() -> Iterator[None]:
    streams: Any = _LastingStream(sys.stdout), _LastingStream(sys.stderr)
    with redirect_stdout(streams[0]), redirect_stderr(streams[1]):
        yield
