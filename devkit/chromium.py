"""The browser of the browser tests: any Chromium, Chrome or Edge that is installed."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from .environment import SetupError, run_step

VARIABLE = "FITV2_CHROMIUM"
HOW_TO_GET_ONE = (
    "The browser tests need a Chromium, Chrome or Edge, and none was found. Install one"
    f" (Debian, Ubuntu: sudo apt install chromium), or name its program in {VARIABLE}."
)

COMMANDS = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "microsoft-edge",
    "msedge",
)
MAC_PROGRAMS = (
    "Google Chrome.app/Contents/MacOS/Google Chrome",
    "Chromium.app/Contents/MacOS/Chromium",
    "Microsoft Edge.app/Contents/MacOS/Microsoft Edge",
)
WINDOWS_PROGRAMS = (
    "Google/Chrome/Application/chrome.exe",
    "Chromium/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
)


def chromium() -> Path | None:
    """The browser's program; ``None`` where there is none.

    As root on Debian and Ubuntu it is installed. Raises ``SetupError`` if ``FITV2_CHROMIUM`` names
    no file, or if installing fails.
    """
    found = find_chromium(os.environ)
    if found is None and _may_install():
        options = ["-y", "--no-install-recommends"]
        quiet = {"DEBIAN_FRONTEND": "noninteractive"}
        run_step("updating the list of packages", ["apt-get", "update"], quiet)
        run_step("installing Chromium", ["apt-get", "install", *options, "chromium"], quiet)
        found = find_chromium(os.environ)
    return found


def find_chromium(variables: Mapping[str, str]) -> Path | None:
    """The program that ``FITV2_CHROMIUM`` names, else one that is installed in a usual place."""
    if named := variables.get(VARIABLE):
        if Path(named).is_file():
            return Path(named)
        raise SetupError(
            f"{VARIABLE} names {named}, which is no file. Expected a browser's program."
        )
    return next((place for place in _places(variables) if place.is_file()), None)


def _places(variables: Mapping[str, str]) -> Iterator[Path]:
    for command in COMMANDS:
        if found := shutil.which(command, path=variables.get("PATH", "")):
            yield Path(found)
    if sys.platform == "darwin":
        for applications in (Path("/Applications"), Path.home() / "Applications"):
            yield from (applications / program for program in MAC_PROGRAMS)
    if sys.platform == "win32":
        for name in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData"):
            if folder := variables.get(name):
                yield from (Path(folder) / program for program in WINDOWS_PROGRAMS)


def _may_install() -> bool:
    is_root = hasattr(os, "geteuid") and os.geteuid() == 0
    return is_root and Path("/etc/debian_version").exists() and bool(shutil.which("apt-get"))
