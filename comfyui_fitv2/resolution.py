"""Image sizes in pixels, latents and tokens, and the one that a ratio and a token budget give.

A token covers 16 × 16 pixels: patch 2 of an f8 latent.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt

from .labels import split_list
from .typed_text import COMMA, plain_signs

VAE_FACTOR = 8
TOKEN_PIXELS = 16
MAX_PIXELS = 16384
"""The longest side that a typed size may have."""
FAR_BEYOND = 64
"""Times the trained tokens, from which on people are warned of the memory and time it takes."""

_LANDSCAPE = {
    "5:4": (5, 4),
    "3:2": (3, 2),
    "4:3": (4, 3),
    "16:10": (16, 10),
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
"""Common ratios, width : height. ``for_ratio`` and ``parse_size`` take any other, too."""

# Short enough for exact and quick arithmetic, and far beyond any image.
_NUMBER = r"(\d{1,5}(?:[.,]\d{1,5})?)"
_RATIO = re.compile(rf"{_NUMBER}\s*:\s*{_NUMBER}")
_SIZE = re.compile(r"(\d{1,9})\s*x\s*(\d{1,9})", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Resolution:
    """An image size whose sides, in pixels, are multiples of 16; else ``ValueError``."""

    width: int
    height: int

    def __post_init__(self) -> None:
        if any(side < 1 or side % TOKEN_PIXELS for side in (self.width, self.height)):
            raise ValueError(
                f"{self.width} × {self.height} pixels is not a whole number of tokens of "
                f"{TOKEN_PIXELS} × {TOKEN_PIXELS}; {snap(self.width, self.height)} is the nearest."
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

    def length_ratio(self, train_tokens: int) -> float:
        """Tokens as a multiple of the trained ones; above 1 is beyond them."""
        return self.tokens / train_tokens

    def side_ratio(self, train_tokens: int) -> float:
        """The longest side as a multiple of the trained one; above 1 positions are extrapolated."""
        return max(self.grid) / isqrt(train_tokens)

    def report(self, train_tokens: int) -> str:
        """One line, such as
        "432 × 144 px · 27 × 9 = 243 tokens · 0.95× trained tokens (256) · 1.69× trained side (16)".
        """
        rows, columns = self.grid
        ratio = self.length_ratio(train_tokens)
        beyond = ", far beyond" if ratio > FAR_BEYOND else ", beyond" if ratio > 1 else ""
        return (
            f"{self} · {columns} × {rows} = {self.tokens} tokens"
            f" · {ratio:.2f}× trained tokens ({train_tokens}){beyond}"
            f" · {self.side_ratio(train_tokens):.2f}× trained side ({isqrt(train_tokens)})"
        )

    def __str__(self) -> str:
        return f"{self.width} × {self.height} px"


def trained_size(train_length: int) -> str:
    """What a model was trained on, from its trained side in tokens:
    "256 tokens (256 × 256 px, 16 tokens a side)" for 16."""
    pixels = train_length * TOKEN_PIXELS
    return f"{train_length**2} tokens ({pixels} × {pixels} px, {train_length} tokens a side)"


def snap(width: int, height: int) -> Resolution:
    """The nearest size in whole tokens, at least one per side."""
    columns, rows = (max(round(side / TOKEN_PIXELS), 1) for side in (width, height))
    return Resolution(columns * TOKEN_PIXELS, rows * TOKEN_PIXELS)


def describe_size(width: int, height: int) -> str:
    """One line on an image of any size, such as "432 × 144 px · 243 tokens"."""
    tokens = (width // TOKEN_PIXELS) * (height // TOKEN_PIXELS)
    return f"{width} × {height} px · {tokens} tokens"


def parse_ratio(text: str) -> Fraction:
    """Width ÷ height of any ratio, such as "5:4", "16:10", "2.39:1" or "1,85:1".

    Raises ``ValueError`` for anything else.
    """
    match = _RATIO.fullmatch(plain_signs(text))
    width, height = (Fraction(n.replace(",", ".")) for n in match.groups()) if match else (0, 0)
    if not width or not height:
        raise ValueError(
            f"{text.strip()!r} is not an aspect ratio. Write width : height in numbers above 0, "
            "such as 3:2, 9:16 or 2.39:1."
        )
    return Fraction(width, height)


def for_ratio(ratio: str, tokens: int) -> Resolution:
    """The size of a ratio, such as "3:2" or "2.39:1", within a budget of ``tokens``.

    The rule is that for training images. Raises ``ValueError`` for a text that is no ratio, a
    budget too small for it, and a side of more than ``MAX_PIXELS``.
    """
    w, h = parse_ratio(ratio).as_integer_ratio()
    columns, rows = isqrt(tokens * w // h), isqrt(tokens * h // w)
    if not rows or not columns:
        needed = -(-max(w, h) // min(w, h))
        raise ValueError(f"{tokens} tokens are too few for {ratio}: it needs {needed} or more.")
    return _limited(columns * TOKEN_PIXELS, rows * TOKEN_PIXELS)


def parse_size(text: str, tokens: int) -> Resolution:
    """A size as people write it.

    "256x192" is in pixels, taken to the nearest whole tokens; "3:2" is that ratio within
    ``tokens``, and "3:2 @ 576" within 576. Raises ``ValueError`` for anything else.
    """
    plain = plain_signs(text)
    if exact := _SIZE.fullmatch(plain):
        return _limited(int(exact[1]), int(exact[2]))
    ratio, at, budget = (part.strip() for part in plain.partition("@"))
    if _RATIO.fullmatch(ratio) and re.fullmatch(r"\d{1,9}" if at else "", budget):
        return for_ratio(ratio, int(budget or tokens))
    raise ValueError(
        f'{text.strip()!r} is not a size. Write pixels as "256x192", a ratio as "3:2", or a ratio '
        'and its maximum number of tokens as "3:2 @ 576".'
    )


def _limited(width: int, height: int) -> Resolution:
    """The nearest size in whole tokens, of sides from 1 pixel to ``MAX_PIXELS``."""
    if not 1 <= min(width, height) <= max(width, height) <= MAX_PIXELS:
        raise ValueError(
            f"{width} × {height} pixels: sides are from 1 to {MAX_PIXELS} pixels long."
        )
    return snap(width, height)


def parse_sizes(text: str, tokens: int) -> dict[str, Resolution]:
    """Every size of a list, by the text that it was written as; see ``parse_size``.

    Commas, semicolons and line ends separate. Raises ``ValueError`` for an empty list too.
    """
    entries = split_list(COMMA.sub(";", text))
    if not entries:
        raise ValueError(
            "No size was given. Write one per line, or several with commas between them."
        )
    return {entry: parse_size(entry, tokens) for entry in entries}


def flexible_resize(width: int, height: int, image_size: int) -> Resolution:
    """The size at which an image is trained on (arXiv 2410.13925, section 3.4).

    Its area is at most ``image_size``² pixels and its sides are floored to whole tokens. An image
    is enlarged only to give a side its first token. Raises ``ValueError`` for an image without
    pixels.
    """
    if width < 1 or height < 1:
        raise ValueError(f"An image must have 1 pixel or more per side, not {width} × {height}.")
    if min(width, height) < TOKEN_PIXELS:
        shorter = min(width, height)
        width, height = width * TOKEN_PIXELS // shorter, height * TOKEN_PIXELS // shorter
    budget = image_size**2
    if width * height > budget:
        # isqrt, because a side one ulp under a whole token would lose that token.
        width, height = isqrt(budget * width // height), isqrt(budget * height // width)
    if min(width, height) < TOKEN_PIXELS:  # so long that the budget leaves less than a token
        longest = budget // TOKEN_PIXELS
        width, height = (min(max(side, TOKEN_PIXELS), longest) for side in (width, height))
    return Resolution(width // TOKEN_PIXELS * TOKEN_PIXELS, height // TOKEN_PIXELS * TOKEN_PIXELS)
