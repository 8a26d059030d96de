"""What else the country of a flag is called: codes, everyday names, and names in many languages.

Names come from the Unicode CLDR, which the package babel holds, and so do the codes of ISO 3166. A
name that two countries share stays with both: whoever types it is asked which one is meant.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

from babel import Locale
from babel.core import get_global

from comfyui_fitv2.labels import name_keys

from .flags import Flag

LANGUAGES = (
    *("en", "de", "fr", "es", "it", "pt", "nl", "pl", "ru", "uk", "tr", "ar", "fa", "hi", "bn"),
    *("id", "vi", "th", "ko", "ja", "zh", "zh_Hant", "sv", "fi", "cs", "el", "he", "hu", "ro"),
)
"""Languages with many readers. Each adds up to 256 names to the checkpoint."""
EVERYDAY = {
    "ae": ("UAE", "Emirates"),
    "ba": ("Bosnia",),
    "cd": ("DR Congo", "DRC", "Democratic Republic of the Congo", "Zaire"),
    "cg": ("Congo Republic", "Republic of the Congo"),
    "ci": ("Ivory Coast",),
    "cv": ("Cabo Verde",),
    "eu": ("European Union",),
    "fk": ("Falklands",),
    "gb": ("Great Britain", "Britain"),
    "kp": ("DPRK",),
    "mk": ("Macedonia",),
    "mm": ("Burma",),
    "mo": ("Macau",),
    "nl": ("Holland",),
    "sz": ("Eswatini",),
    "tl": ("East Timor",),
    "tt": ("Trinidad",),
    "us": ("America", "United States of America"),
    "va": ("Vatican", "Holy See"),
    "vi": ("US Virgin Islands",),
}
"""English names in common use that the CLDR lists as variants, which babel leaves out."""
_REGIONAL_A = 0x1F1E6
_TAG_A = 0xE0061
_BLACK_FLAG, _END_OF_TAGS = "\U0001f3f4", "\U000e007f"


def other_names(flag: Flag) -> list[str]:
    """What the country is called besides the flag's own name, the most usual names first."""
    known = {name_keys(flag.name)[0]}
    names = []
    for name in _candidates(flag.code):
        key = name_keys(name)[0]
        if key and key not in known:
            known.add(key)
            names.append(name)
    return names


def _candidates(code: str) -> Iterator[str]:
    territory = code.upper()
    english = Locale("en").territories.get(territory)
    if english:
        yield english
        yield english.replace("&", "and")
    yield from EVERYDAY.get(code, ())
    yield territory
    # The CLDR's aliases: codes of three letters, and older ones such as UK.
    for alias, territories in get_global("territory_aliases").items():
        if alias.isalpha() and list(territories) == [territory]:
            yield alias
    yield emoji(code)
    for language in LANGUAGES[1:]:
        name = Locale.parse(language).territories.get(territory)
        # Austria is Áo in Vietnamese, and AO is Angola's code.
        if name and name_keys(name)[0] not in _codes():
            yield name


@cache
def _codes() -> set[str]:
    codes = map(str, (*Locale("en").territories, *get_global("territory_aliases")))
    return {code.lower() for code in codes if code.isalpha()}


def emoji(code: str) -> str:
    """The flag's emoji: two regional letters, or a black flag with tags for a part of a country."""
    if len(code) == 2:
        return "".join(chr(_REGIONAL_A + ord(letter) - ord("a")) for letter in code)
    tags = "".join(chr(_TAG_A + ord(letter) - ord("a")) for letter in code.replace("-", ""))
    return f"{_BLACK_FLAG}{tags}{_END_OF_TAGS}"
