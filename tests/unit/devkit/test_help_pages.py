"""The help pages of the nodes in every language; that the editor finds them: tests/host."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.workflows import WORKFLOWS

from devkit.environment import ROOT
from devkit.locales import TRANSLATIONS, read
from devkit.object_info import snapshot

DOCS = ROOT / "web" / "docs"
LANGUAGES = ("en", *TRANSLATIONS)
PAGES = [
    # English is also what the editor shows in a language without a page.
    (name, language, DOCS / (f"{name}.md" if language == "en" else f"{name}/{language}.md"))
    for name in snapshot()
    for language in LANGUAGES
]
every_page = pytest.mark.parametrize(
    ("name", "language", "path"), PAGES, ids=lambda value: value if isinstance(value, str) else ""
)


@every_page
def test_a_page_has_the_title_and_all_inputs_and_outputs(
    name: str, language: str, path: Path
) -> None:
    page = path.read_text(encoding="utf-8")
    info = snapshot()[name]
    assert page.startswith(f"# {read(language)[name]['display_name']}\n")
    for group in ("required", "optional"):
        for key in info["input_order"].get(group, []):
            assert f"`{key}`" in page, key
    for output in info["output_name"]:
        assert f"`{output}`" in page, output


@every_page
def test_a_page_leads_to_workflows_that_exist(name: str, language: str, path: Path) -> None:
    page = " ".join(path.read_text(encoding="utf-8").split())
    names = {workflow.stem for workflow in WORKFLOWS}
    assert set(re.findall(r"\*\*(\d .+?)\*\*", page)) <= names
    assert re.search("(See also|另见|関連)", page)


@every_page
def test_the_pictures_of_a_page_are_there(name: str, language: str, path: Path) -> None:
    for picture in re.findall(r"!\[.+?\]\((.+?)\)", path.read_text(encoding="utf-8")):
        assert (DOCS / picture).is_file(), picture


def test_there_are_no_other_pages() -> None:
    assert set(DOCS.rglob("*.md")) == {path for _, _, path in PAGES}


def test_every_workflow_is_named_in_a_page() -> None:
    text = " ".join(" ".join(path.read_text(encoding="utf-8").split()) for _, _, path in PAGES)
    assert [path.stem for path in WORKFLOWS if f"**{path.stem}**" not in text] == []


@pytest.mark.parametrize(
    "path", [p for _, language, p in PAGES if language == "en"], ids=lambda path: path.stem
)
def test_english_prose_ends_at_100_columns(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert not [line for line in lines if len(line) > 100 and not line.startswith("|")]
