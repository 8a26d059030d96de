"""Names of files that Windows, macOS and Linux all take."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 120
"""The longest name in characters: folders and a number come with it."""
_MOST_BYTES = 220
"""The same in UTF-8, of which Linux allows a file 255: most scripts take two to four for a letter.
"""

_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)
_PLAIN = {
    " · ": " - ",
    "·": "-",
    ":": "x",
    "∶": "x",
    "×": "x",
    "/": "-",
    "\\": "-",
    "|": "-",
    "<": "(",
    ">": ")",
    '"': "'",
    "?": "",
    "*": "x",
    "%": "",
}


def legal_name(text: str, otherwise: str = "image") -> str:
    """``text`` as the name of a file, without an ending, that every file system takes.

    "3:2" becomes "3x2" and "1 · cat" "1 - cat". Letters of all scripts stay. A percent sign goes,
    because ComfyUI replaces words between two of them. ``otherwise`` is for a text of which nothing
    is left.
    """
    for sign, plain in _PLAIN.items():
        text = text.replace(sign, plain)
    spaced = " ".join(unicodedata.normalize("NFC", text).split())
    kept = "".join(c for c in spaced if unicodedata.category(c) != "Cc")
    cut = kept[:LONGEST].encode(errors="ignore")[:_MOST_BYTES].decode(errors="ignore")
    name = cut.strip(" .")
    return f"_{name}" if _RESERVED.fullmatch(name) else name or otherwise
