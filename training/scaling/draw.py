"""Command that draws textured shapes into a folder.

python -m training.scaling.draw --output shapes --count 3000
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..command_line import OptionError, parse_options, run_command
from .drawn_shapes import Ratios, write_drawings


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawOptions:
    """Options of the command."""

    output: Path
    """Folder for the drawings, with a sub-folder per class."""
    count: int = 3000
    """Number of drawings, of all classes in turn."""
    side: int = 192
    """A drawing has about as many pixels as a square of this side."""
    seed: int = 1
    """Another seed draws other drawings of the same kind."""
    widest: float = 2.0
    """Greatest ratio of the longer side to the shorter one."""

    def __post_init__(self) -> None:
        if self.count < 1 or self.side < 16 or self.seed < 0 or not self.widest >= 1:
            raise OptionError(
                "--count and --widest must be 1 or more, --side 16 or more, and --seed 0 or more."
            )


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.scaling.draw``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            DrawOptions,
            argv,
            prog="python -m training.scaling.draw",
            description="Draw drawings of textured shapes, the class of each in its folder.",
        )
        ratios = Ratios(most=options.widest)
        write_drawings(options.output, options.count, options.side, options.seed, ratios)
        print(f"{options.output}: {options.count:,} drawings")

    return run_command(command, "The same command resumes from here.")


if __name__ == "__main__":
    raise SystemExit(main())
