"""The editor's texts of our nodes: English as the nodes say it, translations complete."""

from __future__ import annotations

import re

import pytest

from devkit.locales import FILE, TRANSLATIONS, english, flat, missing, read, stale
from devkit.object_info import snapshot

every_language = pytest.mark.parametrize("language", TRANSLATIONS)
every_file = pytest.mark.parametrize("file", [FILE, "main.json"])


def test_english_is_what_the_nodes_say() -> None:
    """After a change of nodes: ``python -m devkit.locales``."""
    assert read("en") == english(snapshot())


@every_language
@every_file
def test_a_language_has_every_text_and_no_other(language: str, file: str) -> None:
    assert missing(language, file) == []
    assert stale(language, file) == []


@every_language
def test_what_people_read_is_translated(language: str) -> None:
    ours = dict(flat(read("en")))
    for place, text in flat(read(language)):
        if place.endswith(("tooltip", "description")):
            assert re.search(r"[\u3040-\u30ff\u4e00-\u9fff]", text), place
            assert text != ours[place], place


@every_language
def test_choices_and_numbers_of_a_tooltip_survive_translation(language: str) -> None:
    """Names of choices are typed or chosen as they are, in every language."""
    theirs = dict(flat(read(language)))
    for place, text in flat(read("en")):
        if place.endswith("tooltip"):
            for word in re.findall(r"^([a-z0-9-]+):|\. ([a-z]+):", text, re.MULTILINE):
                assert "".join(word) in theirs[place], place


@pytest.mark.parametrize("language", ["en", *TRANSLATIONS])
def test_texts_are_the_same_whether_or_not_the_editor_compiles_tooltips(language: str) -> None:
    for place, text in flat(read(language)):
        if place.endswith("tooltip"):
            assert not re.search(r"[@{}|]", text), place
        else:
            assert not re.search(r"[@{}|%]", re.sub(r"\{'.'\}", "", text)), place
