"""Options come from a dataclass; a user's error is one line; Ctrl-C has an exit status."""

import io
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from torch.torch_version import TorchVersion

from comfyui_fitv2.solvers import SolverError
from training.command_line import OptionError, parse_options, run_command, to_type, typed

ROOT = Path(__file__).parents[3]


@dataclass(frozen=True, kw_only=True)
class Options:
    output_folder: Path
    """Where the images go."""
    sizes: tuple[str, ...] = ("256x256",)
    """Sizes in pixels."""
    packed: bool = False
    """Whether to pack."""
    count: int = 1
    """Number of images."""

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"--count must be 1 or more, not {self.count}.")


def parse(*argv: str) -> Options:
    return parse_options(Options, argv, prog="python -m test")


@pytest.mark.parametrize("spelling", ["--output-folder", "--output_folder"])
def test_a_field_is_an_option_with_hyphens_or_underscores(spelling: str) -> None:
    options = parse(spelling, "out", "--sizes", "a", "b", "--packed")
    assert options == Options(output_folder=Path("out"), sizes=("a", "b"), packed=True)


def test_an_option_given_twice_counts_as_given_last() -> None:
    assert parse("--output-folder", "a", "--output-folder", "b").output_folder == Path("b")


def test_help_is_the_docstring_of_each_field(capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as stopped:
        parse("--help")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "Where the images go. (required)" in printed
    assert "Sizes in pixels. (default: 256x256)" in printed


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--size", "1"], "Unrecognized options: --size, 1 Perhaps you meant: --sizes"),
        (["--packed", "maybe"], "Unrecognized options: maybe"),
        ([], "Missing from python -m test: --output-folder PATH Where the images go. (required)"),
        (["--count", "many"], "Error parsing --count: invalid literal for int()"),
        (["--count", "0"], "--count must be 1 or more, not 0."),
    ],
)
def test_a_command_line_that_cannot_be_read_is_one_line(argv: list[str], message: str) -> None:
    folder = ["--output-folder", "out"] if argv else []
    with pytest.raises(OptionError) as refused:
        parse(*folder, *argv)
    assert str(refused.value).startswith(message)
    assert "\n" not in str(refused.value)
    assert "──" not in str(refused.value)


def test_a_command_line_that_cannot_be_read_has_the_usual_exit_status(
    capsys: pytest.CaptureFixture,
) -> None:
    def command() -> None:
        parse("--output-folder", "out", "--size", "1")

    assert run_command(command) == 2
    assert capsys.readouterr().err.startswith("error: Unrecognized options: --size")


@pytest.mark.parametrize(("returned", "status"), [(None, 0), (0, 0), (3, 3)])
def test_the_status_of_a_command_is_passed_on(returned: int | None, status: int) -> None:
    assert run_command(lambda: returned) == status


@pytest.mark.parametrize(
    "error", [ValueError("too few"), FileNotFoundError("too few"), SolverError("too few")]
)
def test_a_users_error_is_one_line(error: Exception, capsys: pytest.CaptureFixture) -> None:
    def fail() -> None:
        raise error

    assert run_command(fail) == 1
    assert capsys.readouterr().err == "error: too few\n"


@pytest.mark.parametrize(
    ("system", "line"),
    [
        ("linux", r"--run 'runs\mine' --init-pairs 'first aid' Finland"),
        ("win32", r'--run runs\mine --init-pairs "first aid" Finland'),
    ],
)
def test_a_command_to_type_is_quoted_as_the_system_reads_it(
    system: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert to_type(["--run", r"runs\mine", "--init-pairs", "first aid", "Finland"]) == line


@pytest.mark.parametrize(
    ("system", "line"),
    [
        ("linux", r"'/opt/py thon/accelerate' launch"),
        ("win32", r'"C:\py thon\accelerate" launch'),
        ("win32", r"C:\python\accelerate.exe launch"),
    ],
)
def test_a_typed_command_is_cut_as_the_system_cuts_it(
    system: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "platform", system)
    assert typed(line) == [line.removesuffix(" launch").strip("'\""), "launch"]


def test_an_error_of_the_program_keeps_its_traceback() -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run_command(fail)


def test_ctrl_c_is_no_crash(capsys: pytest.CaptureFixture) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    assert run_command(interrupted, "Run it again to resume.") == 130
    assert capsys.readouterr().err == "stopped. Run it again to resume.\n"


@pytest.mark.cases("P7")
@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "cp932"])
def test_text_that_the_output_cannot_encode_ends_no_command(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = {"stdout": "日本 → 中国 🦊", "stderr": "Ελλάδα ≤ 🦊"}
    for name in streams:
        monkeypatch.setattr(sys, name, io.TextIOWrapper(io.BytesIO(), encoding=encoding))

    def command() -> None:
        for name, text in streams.items():
            print(text, file=getattr(sys, name), flush=True)

    assert run_command(command) == 0


@pytest.mark.cases("P8")
@pytest.mark.parametrize("command", ["train", "export"])  # a package, and a module
def test_an_isolated_python_runs_commands_by_path(command: str, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-I", ROOT / "training", command, "--help"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0
    assert f"python -m training.{command}" in process.stdout


@pytest.mark.cases("P8")
@pytest.mark.parametrize("argv", [[], ["prepar"]])
def test_an_unknown_command_by_path_lists_the_commands(argv: list[str]) -> None:
    process = subprocess.run(
        [sys.executable, "-I", ROOT / "training", *argv], capture_output=True, text=True
    )
    assert process.returncode == 2
    assert process.stderr == (
        "usage: python training COMMAND …, one of evaluate, export, prepare, recipes.flags, "
        "recipes.paper, sample, scaling, train, train_vae\n"
    )


def test_an_old_torch_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.8.1+cu128"))
    assert run_command(lambda: 0) == 1
    assert capsys.readouterr().err.startswith("error: PyTorch 2.8.1+cu128 is too old: training ")


WITHOUT_A_READER = """
import sys
from training.command_line import run_command

def command():
    sys.stdin.readline()
    for stream in (sys.stdout, sys.stderr):
        print("nobody reads this", file=stream, flush=True)
    return 3

raise SystemExit(run_command(command))
"""


@pytest.mark.processes
def test_a_command_goes_on_when_nobody_reads_its_output_any_more() -> None:
    """Ctrl-C ends ``| tee`` before the run has saved."""
    process = subprocess.Popen(
        [sys.executable, "-c", WITHOUT_A_READER],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.close()
    process.stdout = None
    process.communicate("\n", timeout=120)
    assert process.returncode == 3
