"""The project's commands, for Linux, macOS and Windows, with nothing but Python installed.

python dev.py demo     draw pictures with a shipped workflow in a real ComfyUI, into output/
python dev.py serve    the same ComfyUI, left running to be used in a browser
python dev.py test     every check and test
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from devkit.client import Client, PromptError
from devkit.environment import DEV, ROOT, SetupError, find_host, install, link_pack, own_host, say
from devkit.server import Server
from devkit.workflow import WorkflowError, to_prompt

DEMO_WORKFLOW = ROOT / "workflows" / "three_aspect_ratios.json"
DEMO_LABELS = "Finland; France; Sweden; Brazil; Botswana; Italy"
OUTPUT = ROOT / "output"


def demo(arguments: argparse.Namespace) -> int:
    workflow = json.loads(arguments.workflow.read_text(encoding="utf-8"))
    # Into our folder directly: the host numbers its pictures and never writes over one.
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
        run = client.run(prompt, _Progress(prompt))
        files = [file for file in run.files() if file["type"] == "output"]  # previews are elsewhere
        for file in files:
            say(f"  {OUTPUT / file['subfolder'] / file['filename']}")
        say(f"{len(files)} pictures are in {OUTPUT}")
    return 0


def serve(arguments: argparse.Namespace) -> int:
    host = find_host(arguments.comfyui, arguments.python)
    # A user's own models are worth seeing; their other packs and settings stay out of it.
    models = [] if host.ours else ["--models-directory", str(host.folder / "models")]
    with Server(host, DEV / "base", "--output-directory", str(OUTPUT), *models) as server:
        say(f"ComfyUI runs at {server.url} - open it, then Templates > fitv2. Ctrl+C stops it.")
        server.wait()
    return 0


def test(arguments: argparse.Namespace) -> int:
    ours = own_host()  # the tools and the types come from here, whichever host is under test
    python = install(group="dev")
    host = ours if arguments.comfyui is None else find_host(arguments.comfyui, arguments.python)
    environment = {
        **os.environ,
        "FITV2_HOST": str(host.folder),
        "FITV2_HOST_PYTHON": str(host.python),
    }
    # import-linter sees the pack as the host does: as one package.
    walls = {**environment, "PYTHONPATH": str(link_pack(DEV / "walls").parent)}
    checks = {
        "style": ([python, "-m", "ruff", "check", "."], environment),
        "format": ([python, "-m", "ruff", "format", "--check", "."], environment),
        "types": ([python, "-m", "pyright"], environment),
        "walls": ([python.with_name("lint-imports"), "--no-cache"], walls),
        "tests": ([python, "-m", "pytest", *(arguments.pytest or ["tests"])], environment),
    }
    failed = []
    for name, (command, variables) in checks.items():
        started = time.monotonic()
        say(name)
        if subprocess.run(command, cwd=ROOT, env=variables).returncode:
            failed.append(name)
        say(
            f"{name}: {'failed' if name in failed else 'passed'} after {time.monotonic() - started:.0f} s"
        )
    if failed:
        say(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


class _Progress:
    """Prints what a prompt is doing: one line a node, with its steps."""

    def __init__(self, prompt: dict[str, dict]) -> None:
        self._titles = {node_id: node["_meta"]["title"] for node_id, node in prompt.items()}
        self._live = sys.stdout.isatty()

    def __call__(self, kind: str, data: dict) -> None:
        if kind == "executing" and data.get("node"):
            say(f"  {self._titles[data['node']]}")
        elif kind == "progress" and self._live:
            end = "\n" if data["value"] == data["max"] else ""
            print(f"\r  step {data['value']} of {data['max']}", end=end, flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for function, summary in (
        (demo, "draw pictures into output/"),
        (serve, "run ComfyUI with the pack"),
        (test, "run every check and test"),
    ):
        command = commands.add_parser(function.__name__, help=summary)
        command.set_defaults(function=function)
        command.add_argument(
            "--comfyui", type=Path, metavar="PATH", help="use this ComfyUI instead of fetching one"
        )
        command.add_argument(
            "--python",
            type=Path,
            metavar="PATH",
            help="the Python that runs it, where it is not found by itself",
        )
        if function is demo:
            command.add_argument(
                "--workflow", type=Path, default=DEMO_WORKFLOW, help="a shared workflow JSON"
            )
            command.add_argument("--label", help='classes to draw, such as "Finland; France"')
        if function is test:
            command.add_argument("pytest", nargs="*", help="arguments for pytest, behind --")
    arguments = parser.parse_args()
    for name in (
        "SIGTERM",
        "SIGHUP",
    ):  # unless they unwind, a closed terminal leaves ComfyUI running
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), lambda *_: sys.exit(1))
    try:
        return arguments.function(arguments)
    except (SetupError, PromptError, WorkflowError, FileNotFoundError) as error:
        say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        say("stopped")
        return 130


if __name__ == "__main__":
    sys.exit(main())
