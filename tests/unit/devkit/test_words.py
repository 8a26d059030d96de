"""What the widgets in the browser say, in every language."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from devkit.environment import ROOT

WEB = ROOT / "web"
TEXT = r'"(?:[^"\\]|\\.)*"'
LANGUAGES = sorted((WEB / "words").glob("*.js"))
every_language = pytest.mark.parametrize("file", LANGUAGES, ids=lambda file: file.stem)


def words(file: Path) -> dict[str, str]:
    """The texts of a language by the English ones."""
    source = file.read_text(encoding="utf-8")
    pairs = re.findall(rf"^  ({TEXT}):\s+({TEXT}),$", source, re.MULTILINE)
    return {json.loads(english): json.loads(told) for english, told in pairs}


def sources() -> str:
    return "\n".join(file.read_text(encoding="utf-8") for file in sorted(WEB.glob("*.js")))


def test_there_is_a_file_for_each_language_of_the_nodes() -> None:
    nodes = {folder.name for folder in (ROOT / "locales").iterdir() if folder.is_dir()}
    assert {file.stem for file in LANGUAGES} == nodes - {"en"}


@every_language
def test_everything_that_is_said_is_translated(file: Path) -> None:
    said = {json.loads(text) for text in re.findall(rf"\bsay\(\s*({TEXT})", sources())}
    assert len(said) > 50
    assert said - set(words(file)) == set()


@every_language
def test_every_text_has_a_translation_of_its_own_that_is_used(file: Path) -> None:
    source = sources()
    unused = [text for text in words(file) if json.dumps(text, ensure_ascii=False) not in source]
    assert unused == [], "no widget says this, but as a key of an object"
    assert [text for text, told in words(file).items() if not told.strip()] == []


@every_language
def test_a_translation_puts_in_what_the_english_text_does(file: Path) -> None:
    def put_in(text: str) -> list[str]:
        return sorted(re.findall(r"\{\w+\}", text))

    assert [t for t, told in words(file).items() if put_in(t) != put_in(told)] == []


def test_all_languages_have_the_same_texts() -> None:
    assert len({tuple(words(file)) for file in LANGUAGES}) == 1
