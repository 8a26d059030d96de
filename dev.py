"""The project's commands, for Linux, macOS and Windows, with nothing but Python installed.

python dev.py demo           generate images with a shared workflow in a real ComfyUI
python dev.py serve          leave that ComfyUI running for a browser
python dev.py test           run every check and test
python dev.py test --fast    run what needs neither ComfyUI nor network, in three minutes
"""

import argparse
import io
import json
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

OLDEST_PYTHON = (3, 10)
if sys.version_info < OLDEST_PYTHON:  # all of this file is readable for Python 3.6, to say so
    needed, this = ".".join(map(str, OLDEST_PYTHON)), sys.version.split()[0]
    sys.exit(f"dev.py needs Python {needed} or newer, and {sys.executable} is Python {this}.")

# An isolated Python, such as that of ComfyUI's portable build, does not search a script's folder.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from devkit import chromium, javascript
from devkit.checks import Check, run_in_a_row, run_side_by_side, threads_for_two
from devkit.client import Client, PromptError
from devkit.environment import DEV, ROOT, SetupError, install, say, show_live
from devkit.host import find_host, link_pack, newest_frontend, own_host
from devkit.host_tests import compare_hosts, oldest_host_check
from devkit.server import Server, next_free_port
from devkit.workflow import WorkflowError, to_prompt

DEMO_WORKFLOW = ROOT / "workflows" / "2 Three aspect ratios.json"
DEMO_LABELS = "Finland; France; Sweden; Brazil; Botswana; Italy"
OUTPUT = ROOT / "output"
PORT = 8188
"""The one that ComfyUI takes by itself, so that a bookmark of it stays right."""
FAST = "not (slow or processes or network or host or browser)"
"""The tests of ``--fast``, by the markers in tests/pytest.ini."""
TESTS = ("browser", "unit", "host")
"""The folders of tests, of which two run at a time; the longest first."""


def demo(arguments: argparse.Namespace) -> int:
    workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    # ComfyUI numbers the images in its output folder and never overwrites one.
    with Server(
        find_host(arguments.comfyui, arguments.python),
        DEV / "base",
        "--output-directory",
        str(OUTPUT),
    ) as server:
        client = Client(server.url)
        prompt = to_prompt(workflow, client.get("/object_info"))
        label = arguments.label or (DEMO_LABELS if arguments.workflow == DEMO_WORKFLOW else None)
        for node in prompt.values():
            if node["class_type"] == "FiTClassLabel" and label:
                node["inputs"]["text"] = label
        say(f"running {arguments.workflow.name}")
        run = client.wait(client.queue(prompt), lambda: show_live(server.last_line()))
        show_live("")
        files = [file for file in run.files() if file["type"] == "output"]  # without previews
        for file in files:
            say(f"  {OUTPUT / file['subfolder'] / file['filename']}")
        say(f"{len(files)} images are in {OUTPUT}")
    return 0


def serve(arguments: argparse.Namespace) -> int:
    host = find_host(arguments.comfyui, arguments.python)
    # Your own models are offered too; your other packs and your settings are left out.
    models = [] if host.ours else ["--models-directory", str(host.folder / "models")]
    port = next_free_port(arguments.port)
    if port != arguments.port:
        say(f"port {arguments.port} is taken, so this is {port}")
    folders = ["--output-directory", str(OUTPUT), *models]
    with Server(host, DEV / "base", *folders, port=port) as server:
        say(f"ComfyUI runs at {server.url} - open it, then Templates > FiTv2. Ctrl+C stops it.")
        say(server.wait())
    return 1  # Ctrl+C is another way out


def test(arguments: argparse.Namespace) -> int:
    # pyright reads ComfyUI's types from our own copy, whichever ComfyUI is tested.
    ours = None if arguments.fast else own_host()
    python = install(group="dev")
    environment = dict(os.environ)
    if ours is not None:
        host = find_host(arguments.comfyui, arguments.python) if arguments.comfyui else ours
        environment["FITV2_HOST"] = str(host.folder)
        environment["FITV2_HOST_PYTHON"] = str(host.python)
        environment["FITV2_NEWEST_FRONTEND"] = str(newest_frontend())
        browser = chromium.chromium()
        if browser:
            environment[chromium.VARIABLE] = str(browser)
        javascript.install_tools(python)
    if arguments.hosts is not None:
        return report_failed(compare_hosts(environment, arguments.hosts))
    # import-linter sees the pack as ComfyUI does: as one package.
    walls = {**environment, "PYTHONPATH": str(link_pack(DEV / "walls").parent)}
    lint_imports = python.with_name("lint-imports")
    ruff = [python, "-m", "ruff"]
    quick = [
        Check("style", [*ruff, "check", "."], environment),
        Check("format", [*ruff, "format", "--check", "."], environment),
        Check("walls", [lint_imports, "--no-cache", "--no-logo"], walls),
    ]
    types: list[Check] = []
    if not arguments.fast:
        # The unit tests try the registry's tools, which this installs.
        quick.append(Check("registry", [python, "-m", "devkit.registry"], environment))
        types = [
            Check("types", [python, "-m", "pyright"], environment),
            Check("JavaScript types", javascript.type_check(python), environment),
            Check("JavaScript style", javascript.style_check(python), environment),
        ]
    pytest = [python, "-m", "pytest"]
    if arguments.soak:
        soak = Check("soak", [*pytest, "tests/soak", "-s", *arguments.pytest], environment)
        failed = run_in_a_row([soak])
    elif arguments.fast or arguments.pytest:
        tests = Check("tests", [*pytest, *pytest_arguments(arguments)], environment)
        failed = run_in_a_row([*quick, *types, tests])
    else:
        half = {**environment, **threads_for_two()}
        tests = [Check(f"{name} tests", [*pytest, f"tests/{name}"], half) for name in TESTS]
        failed = run_side_by_side([*quick, *tests, oldest_host_check(half), *types])
    return report_failed(failed)


def report_failed(checks: Sequence[str]) -> int:
    """Say which checks failed; returns the exit code."""
    if checks:
        say(f"failed: {', '.join(checks)}")
    return 1 if checks else 0


def pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    """What follows ``--``, within ``--fast``'s tests; all tests unless it names some."""
    given = list(arguments.pytest)
    if not any((ROOT / argument.partition("::")[0]).exists() for argument in given):
        given.insert(0, "tests")
    return ["-m", FAST, *given] if arguments.fast else given


def main() -> int:
    for stream in (sys.stdout, sys.stderr):  # a file of Windows cannot hold every character
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    arguments = _parser().parse_args()
    # Without these a closed terminal would leave ComfyUI running.
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    try:
        return arguments.function(arguments)
    except (SetupError, PromptError, WorkflowError, FileNotFoundError, ConnectionError) as error:
        show_live("")
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        show_live("")
        say("stopped")
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    host = argparse.ArgumentParser(add_help=False)
    host.add_argument(
        "--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of fetching one"
    )
    host.add_argument(
        "--python", type=Path, metavar="PATH", help="the Python of that ComfyUI, if not found"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for function, summary in (
        (demo, "generate images into output/"),
        (serve, "run ComfyUI with the pack"),
        (test, "run every check and test"),
    ):
        command = commands.add_parser(function.__name__, help=summary, parents=[host])
        command.set_defaults(function=function)
    demo_options, serve_options, test_options = commands.choices.values()
    demo_options.add_argument(
        "--workflow", type=Path, default=DEMO_WORKFLOW, help="a shared workflow JSON"
    )
    demo_options.add_argument("--label", help='classes to generate, such as "Finland; France"')
    serve_options.add_argument(
        "--port", type=int, default=PORT, help="the next free one is taken; ComfyUI's own is 8188"
    )
    test_options.add_argument(
        "--fast", action="store_true", help="only what needs neither ComfyUI nor network"
    )
    test_options.add_argument(
        "--hosts",
        nargs="*",
        metavar="VERSION|PATH",
        help="other versions of ComfyUI, by default all; a table is printed",
    )
    test_options.add_argument(
        "--soak", action="store_true", help="hundreds of prompts and thousands of damaged files"
    )
    test_options.add_argument("pytest", nargs="*", help="arguments for pytest, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
