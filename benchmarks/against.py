"""A benchmark in this checkout ÷ the same benchmark in another one, in one run.

    python -m benchmarks.against --turns 5 ../before forward --preset fitv2-b --no-compile

The two checkouts take turns, a process each, so that noise of the machine hits both alike. The
table is the benchmark's own, with the median over the turns of here ÷ there in place of every
number. Only an integer that never changes stays, such as a count of tokens. Lines that only one
checkout prints are left out.
"""

from __future__ import annotations

import argparse
import re
import statistics
import subprocess
import sys
from collections import Counter
from pathlib import Path

from tqdm import tqdm

HERE = Path(__file__).parents[1]
NUMBER = re.compile(r"(?<![\w.])\d+(?:\.\d+)?(?:e[-+]?\d+)?(?![\w.])")

Line = tuple[str, int]
"""The text of a line without its numbers and spaces, and which of the lines with it."""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkout", type=Path, help="the other checkout")
    parser.add_argument("benchmark", help="a name, such as forward, packed, host or train")
    parser.add_argument("--turns", type=int, default=5, help="runs in each checkout")
    parser.add_argument(
        "--python", default=sys.executable, help="the other checkout's Python, if not this one"
    )
    parser.add_argument("options", nargs=argparse.REMAINDER, help="the benchmark's own")
    arguments = parser.parse_args()
    command = ["-m", f"benchmarks.{arguments.benchmark}", *arguments.options]
    there: list[dict[Line, list[str]]] = []
    here: list[dict[Line, list[str]]] = []
    output = ""
    for _ in tqdm(range(arguments.turns), unit="turn"):
        there.append(numbers(_run(arguments.checkout, [arguments.python, *command])))
        output = _run(HERE, [sys.executable, *command])
        here.append(numbers(output))
    print(compared(output, here, there))


def _run(checkout: Path, command: list[str]) -> str:
    process = subprocess.run(
        command, cwd=checkout, text=True, encoding="utf-8", stdout=subprocess.PIPE
    )
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed in {checkout}")
    return process.stdout


def numbers(output: str) -> dict[Line, list[str]]:
    """The numbers of every line of a benchmark's output."""
    seen: Counter[str] = Counter()
    found = {}
    for line in output.splitlines():
        text = "".join(NUMBER.sub("#", line).split())
        found[text, seen[text]] = NUMBER.findall(line)
        seen[text] += 1
    return found


def compared(
    output: str, here: list[dict[Line, list[str]]], there: list[dict[Line, list[str]]]
) -> str:
    """``output``, with the medians of here ÷ there in place of its numbers."""
    lines = []
    for text, key in zip(output.splitlines(), numbers(output), strict=True):
        if not all(key in turn for turn in (*here, *there)):
            continue
        cells = zip(*(turn[key] for turn in here), strict=True)
        others = zip(*(turn[key] for turn in there), strict=True)
        shown = iter([_ratio(*pair) for pair in zip(cells, others, strict=True)])
        lines.append(NUMBER.sub(lambda match: next(shown).rjust(len(match[0])), text))  # noqa: B023
    return "\n".join(lines)


def _ratio(here: tuple[str, ...], there: tuple[str, ...]) -> str:
    if here[0].isdigit() and len({*here, *there}) == 1:
        return here[0]
    pairs = [(float(a), float(b)) for a, b in zip(here, there, strict=True)]
    return f"{statistics.median(a / b if b else float(a == b) for a, b in pairs):.3f}"


if __name__ == "__main__":
    main()
