"""Sizes in pixels, latents and tokens; which of them a ratio and a token budget mean.

A token covers 16 × 16 pixels: patch 2 of an f8 latent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import isqrt

VAE_FACTOR = 8
TOKEN_PIXELS = 16

_LANDSCAPE = {
    "3:2": (3, 2),
    "4:3": (4, 3),
    "16:9": (16, 9),
    "2:1": (2, 1),
    "21:9": (21, 9),
    "3:1": (3, 1),
}
ASPECT_RATIOS: dict[str, tuple[int, int]] = {
    "1:1": (1, 1),
    **_LANDSCAPE,
    **{f"{h}:{w}": (h, w) for w, h in _LANDSCAPE.values()},
}
"""Named ratios, width : height."""


@dataclass(frozen=True, slots=True)
class Resolution:
    """An image size whose sides, in pixels, are multiples of 16. Raises ``ValueError`` on other sizes."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if (
            min(self.width, self.height) < TOKEN_PIXELS
            or self.width % TOKEN_PIXELS
            or self.height % TOKEN_PIXELS
        ):
            raise ValueError(
                f"{self.width} × {self.height} pixels is not a whole number of {TOKEN_PIXELS} × {TOKEN_PIXELS} tokens; "
                f"{snap(self.width, self.height)} is the nearest."
            )

    @property
    def grid(self) -> tuple[int, int]:
        """Tokens as (rows, columns)."""
        return self.height // TOKEN_PIXELS, self.width // TOKEN_PIXELS

    @property
    def tokens(self) -> int:
        rows, columns = self.grid
        return rows * columns

    @property
    def latent_size(self) -> tuple[int, int]:
        """Latent (height, width)."""
        return self.height // VAE_FACTOR, self.width // VAE_FACTOR

    def extrapolation(self, train_tokens: int) -> float:
        """Tokens as a multiple of the training length; above 1 is beyond it."""
        return self.tokens / train_tokens

    def report(self, train_tokens: int) -> str:
        """One line, such as "432 × 144 px · 27 × 9 = 243 tokens · 0.95× training length (256)"."""
        rows, columns = self.grid
        multiple = self.extrapolation(train_tokens)
        beyond = ", beyond it" if multiple > 1 else ""
        return f"{self} · {columns} × {rows} = {self.tokens} tokens · {multiple:.2f}× training length ({train_tokens}){beyond}"

    def __str__(self) -> str:
        return f"{self.width} × {self.height} px"


def snap(width: int, height: int) -> Resolution:
    """The nearest size in whole tokens, at least one a side."""
    return Resolution(
        *(max(round(side / TOKEN_PIXELS), 1) * TOKEN_PIXELS for side in (width, height))
    )


def for_ratio(ratio: str, tokens: int) -> Resolution:
    """The size of a named ratio within a budget of ``tokens``, by the rule that sized the training images.

    Raises ``ValueError`` on an unknown ratio or a budget too small to draw it.
    """
    if ratio not in ASPECT_RATIOS:
        raise ValueError(
            f"No aspect ratio is called {ratio!r}. There are: {', '.join(ASPECT_RATIOS)}."
        )
    w, h = ASPECT_RATIOS[ratio]
    columns, rows = isqrt(tokens * w // h), isqrt(tokens * h // w)
    if not rows or not columns:
        raise ValueError(
            f"{tokens} tokens are too few for {ratio}: it needs {-(-max(w, h) // min(w, h))} or more."
        )
    return Resolution(columns * TOKEN_PIXELS, rows * TOKEN_PIXELS)


def parse_size(text: str, tokens: int) -> Resolution:
    """A size as people write it: "256x192" in pixels (to the nearest whole tokens), "3:2" within ``tokens``, or "3:2 @ 576" within 576.

    Raises ``ValueError`` on anything else.
    """
    if exact := re.fullmatch(r"\s*(\d+)\s*[x×]\s*(\d+)\s*", text, re.IGNORECASE):
        return snap(int(exact[1]), int(exact[2]))
    if ratio := re.fullmatch(r"\s*(\d+:\d+)\s*(?:@\s*(\d+)\s*)?", text):
        return for_ratio(ratio[1], int(ratio[2] or tokens))
    raise ValueError(
        f'{text.strip()!r} is not a size. Write pixels as "256x192", a ratio as "3:2", or a ratio and its most tokens as "3:2 @ 576".'
    )


def flexible_resize(width: int, height: int, max_side: int) -> Resolution:
    """The size at which an image is trained on: area at most ``max_side``² pixels, sides floored to whole tokens, never
    enlarged but to give a side its first token (arXiv 2410.13925, section 3.4)."""
    if width < 1 or height < 1:
        raise ValueError(f"An image must have 1 pixel or more a side, not {width} × {height}.")
    if min(width, height) < TOKEN_PIXELS:
        shorter = min(width, height)
        width, height = width * TOKEN_PIXELS // shorter, height * TOKEN_PIXELS // shorter
    budget = max_side**2
    if width * height > budget:
        # isqrt, because a side one ulp under a whole token would lose that token.
        width, height = isqrt(budget * width // height), isqrt(budget * height // width)
    if (
        min(width, height) < TOKEN_PIXELS
    ):  # so long an image that the budget leaves its short side under a token
        longest = budget // TOKEN_PIXELS
        width, height = (min(max(side, TOKEN_PIXELS), longest) for side in (width, height))
    return Resolution(width // TOKEN_PIXELS * TOKEN_PIXELS, height // TOKEN_PIXELS * TOKEN_PIXELS)
