"""What the editor shows of our nodes, in other languages: ``locales/<language>/nodeDefs.json``.

python -m devkit.locales    write the English texts anew from the snapshot of the nodes, and list
                            what the translations lack, what they have too much, and whose English
                            has changed

First renew the snapshot: ``python -m devkit.object_info``.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from typing import Any

from .environment import ROOT, say
from .object_info import snapshot

LOCALES = ROOT / "locales"
TRANSLATIONS = ("zh", "ja")
FILE = "nodeDefs.json"

# The editor compiles names and descriptions, where these signs have a meaning. Some versions also
# compile tooltips, so that these signs can neither be escaped there nor written.
_SYNTAX = re.compile(r"[@{}|%]")

Texts = dict[str, Any]


def read(language: str, file: str = FILE) -> Texts:
    return json.loads((LOCALES / language / file).read_text(encoding="utf-8"))


def english(nodes: dict[str, Any]) -> Texts:
    """The texts of nodes, from what ComfyUI says of them."""
    return {name: _texts(info) for name, info in nodes.items()}


def _texts(info: dict[str, Any]) -> Texts:
    inputs = {
        name: {"name": _escaped(name), "tooltip": info["input"][group][name][1]["tooltip"]}
        for group in ("required", "optional")
        for name in info["input_order"].get(group, [])
    }
    outputs = {
        str(slot): {"name": _escaped(name), "tooltip": tooltip}
        for slot, (name, tooltip) in enumerate(
            zip(info["output_name"], info["output_tooltips"], strict=True)
        )
    }
    return {
        "display_name": _escaped(info["display_name"]),
        "description": _escaped(info["description"]),
        "inputs": inputs,
        "outputs": outputs,
    }


def _escaped(text: str) -> str:
    return _SYNTAX.sub(lambda sign: f"{{'{sign.group()}'}}", text)


def flat(texts: Texts, above: str = "") -> Iterator[tuple[str, str]]:
    """Every text with its place, such as ``FiTLoader.inputs.preset.tooltip``."""
    for key, value in texts.items():
        if isinstance(value, str):
            yield above + key, value
        else:
            yield from flat(value, f"{above}{key}.")


def missing(language: str, file: str = FILE) -> list[str]:
    """Places that English has and a language has not."""
    theirs = dict(flat(read(language, file)))
    return [place for place, _ in flat(read("en", file)) if place not in theirs]


def stale(language: str, file: str = FILE) -> list[str]:
    """Places that a language has and English has not."""
    ours = dict(flat(read("en", file)))
    return [place for place, _ in flat(read(language, file)) if place not in ours]


def main() -> int:
    path = LOCALES / "en" / FILE
    before = dict(flat(read("en"))) if path.exists() else {}
    texts = english(snapshot())
    path.write_text(
        json.dumps(texts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8", newline="\n"
    )
    now = dict(flat(texts))
    complete = True
    for language in TRANSLATIONS:
        for what, places in (("missing", missing(language)), ("stale", stale(language))):
            for place in places:
                complete = False
                say(f"{language}: {what}: {place}: {now.get(place, '')}")
    for place in sorted(set(before) & set(now)):
        if before[place] != now[place]:
            say(f"changed: {place}: {now[place]}")
    return 0 if complete else 1


if __name__ == "__main__":
    sys.exit(main())
