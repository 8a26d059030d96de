"""The words by which people look for the nodes in ComfyUI's search.

The search compares the whole of what was typed with each name and each alias on its own, so every
word that should find a node is an alias by itself.
"""

from __future__ import annotations

from typing import Any

import pytest
from support.live_client import LiveClient

from devkit.host import PACK_NAME

WORDS = {
    "flag": ["FiTClassLabel", "FiTLoader"],
    "country": ["FiTClassLabel", "FiTLoader"],
    "class": ["FiTClassLabel"],
    "checkpoint": ["FiTLoader"],
    "loader": ["FiTLoader", "FiTTrainingRun"],
    "checkpoint loader": ["FiTLoader"],
    "xy": ["FiTCompareSheet", "FiTResolutionSweep", "FiTSweepSampler"],
    "plot": ["FiTCompareSheet", "FiTResolutionSweep", "FiTSweepSampler"],
    "grid": ["FiTCompareSheet", "FiTResolutionSweep"],
    "aspect": ["FiTResolution"],
    "ratio": ["FiTResolution", "FiTResolutionSweep"],
    "size": ["FiTResolution"],
    "width": ["FiTResolution"],
    "sampler": ["FiTSampler", "FiTSolver", "FiTSweepSampler"],
    "solver": ["FiTSolver"],
    "scheduler": ["FiTScheduler"],
    "sigmas": ["FiTScheduler"],
    "rope": ["FiTExtrapolation"],
    "hires": ["FiTExtrapolation"],
    "cfg": ["FiTGuidance"],
    "training": ["FiTTrainingRun"],
}


@pytest.fixture(scope="module")
def aliases(server) -> dict[str, list[str]]:
    info: dict[str, Any] = LiveClient(server.url).get("/object_info")
    return {
        name: facts["search_aliases"]
        for name, facts in info.items()
        if facts["python_module"] == f"custom_nodes.{PACK_NAME}"
    }


@pytest.mark.parametrize("word", WORDS)
def test_a_word_finds_its_nodes(aliases: dict[str, list[str]], word: str) -> None:
    found = [name for name, words in aliases.items() if word in words]
    assert sorted(found) == WORDS[word]


def test_the_name_of_the_pack_finds_all_nodes(aliases: dict[str, list[str]]) -> None:
    assert len(aliases) == 13
    assert [name for name, words in aliases.items() if words[:1] != ["fitv2"]] == []


def test_aliases_are_short_plain_and_different(aliases: dict[str, list[str]]) -> None:
    for words in aliases.values():
        assert len(set(words)) == len(words)
        assert all(word == word.lower().strip() and len(word) <= 32 for word in words)
