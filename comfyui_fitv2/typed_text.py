"""Text that people type, on any keyboard: the signs between entries, digits and spaces."""

from __future__ import annotations

import re
import unicodedata

_SEMICOLONS = ";；﹔︔؛⁏፤꛶\u037e"
_COMMAS = ",，﹐︐、﹑､،፣߸꛵⸴"
_LINE_ENDS = "\n\r\v\f\x85\u2028\u2029"
_COLONS = ":：﹕︓∶꞉׃ː"
_TIMES = "×*＊✕✖⨯xXｘＸхХ"  # the last two are Cyrillic
_DOTS = "·・･‧∙⋅•"  # labels are printed with the first
_DASHES = "-−‐‑‒–—"
_STARS = "*＊×✕✖⨯∗"  # not the letter x, which names hold
_INVISIBLE = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"  # comes along with pasted text

_PLAIN: dict[int, str | None] = {
    ord(sign): plain
    for plain, signs in {
        ";": _SEMICOLONS,
        ",": _COMMAS,
        "\n": _LINE_ENDS,
        ":": _COLONS,
        "x": _TIMES,
        "·": _DOTS,
        "-": _DASHES,
        None: _INVISIBLE,
    }.items()
    for sign in signs
}

SEMICOLON = re.compile(f"[{_SEMICOLONS}{_LINE_ENDS}]")
"""What always separates entries: semicolons and line ends of any script."""
COMMA = re.compile(f"[{_COMMAS}]")
"""What separates entries unless a name holds it."""
DOT = re.compile(f"[{_DOTS}]")
"""What stands between an id and a name."""
PLUS = re.compile("[+＋﹢]")
"""What joins the parts of a blend."""
TIMES = re.compile(f"[{_STARS}]")
"""What stands between a weight and a name."""


def plain_signs(text: str) -> str:
    """``text`` with ASCII's separators, digits and spaces in place of any other script's.

    For sizes, numbers and options, not for names: every sign of multiplication becomes "x", every
    dash "-", and full-width letters become narrow. Outer spaces and invisible characters go.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_PLAIN))
    return "".join(str(int(c)) if c.isdecimal() else c for c in plain).strip()


def trim(text: str) -> str:
    """``text`` without outer spaces of any script and outer invisible characters."""
    while (shorter := text.strip().strip(_INVISIBLE)) != text:
        text = shorter
    return text
