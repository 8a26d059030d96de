"""The trainer's commands by path: ``python training prepare --images photos …``.

It is ``python -m training.prepare`` for a Python that does not search the current folder, such as
that of ComfyUI's portable build, and from any folder.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

_HERE = Path(__file__).resolve().parent
_COMMANDS = sorted(
    [".".join(file.relative_to(_HERE).parent.parts) for file in _HERE.rglob("*/__main__.py")]
    + ["export"]
)


def main() -> int:
    """Run the command that the first argument names; returns 2 without a known one."""
    if len(sys.argv) < 2 or sys.argv[1] not in _COMMANDS:
        print(f"usage: python training COMMAND …, one of {', '.join(_COMMANDS)}", file=sys.stderr)
        return 2
    sys.path[0] = str(_HERE.parent)  # instead of this folder
    runpy.run_module(f"training.{sys.argv.pop(1)}", run_name="__main__", alter_sys=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
