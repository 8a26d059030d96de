"""Which names may be meant by a text that is none: what begins so, shares words, is spelt alike."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches

SUGGESTIONS = 5
_LONG_WORD = 3
"""A shorter word, such as "of", or a shorter part of a word, says nothing."""
_SAME_WORD = 0.75
"""Similarity, from 0 to 1, from which a word may be another one that is misspelt."""
_ALIKE = 0.6
"""The same for whole names, where no word is shared."""
_BEGINS = 0.8
"""What a word that begins with the typed one counts for; the word itself counts for 1."""


class NearestNames:
    """Names and synonyms of classes with class ids, as keys of ``class_index.name_key``."""

    def __init__(
        self, names: Iterable[tuple[str, int]], synonyms: Iterable[tuple[str, int]]
    ) -> None:
        self._keys = [(key, i, False) for key, i in names if key]
        self._keys += [(key, i, True) for key, i in synonyms if key]
        self._with_word: defaultdict[str, set[int]] = defaultdict(set)
        """The places in ``_keys`` of the keys with each word."""
        for place, (key, _, _) in enumerate(self._keys):
            for word in _words(key):
                self._with_word[word].add(place)

    def find(self, key: str) -> list[int]:
        """Ids of at most ``SUGGESTIONS`` classes, the likeliest first; none for an empty key."""
        if not key:
            return []
        ranked = self._holding(key) + self._sharing_words(key)
        ranked = ranked or self._spelt_like(key)
        return list(dict.fromkeys(ranked))[:SUGGESTIONS]

    def _holding(self, key: str) -> list[int]:
        """Classes with a name that begins with the text, then with a word that does, then others.

        Among these, names go before synonyms, and short ones before long ones.
        """
        found = []
        for other, class_id, is_synonym in self._keys:
            at = other.find(key)
            rank = 0 if at == 0 else 1 if f" {key}" in other else 2
            if at < 0 or len(key) < _LONG_WORD + rank - 1:
                continue
            found.append((rank, is_synonym, len(other), class_id))
        return [class_id for *_, class_id in sorted(found)]

    def _sharing_words(self, key: str) -> list[int]:
        """Classes that share words with the text; a rare word counts for more than a common one."""
        scores: defaultdict[int, float] = defaultdict(float)
        for word in _words(key):
            for place, worth in self._places(word).items():
                scores[place] += worth
        of_class: dict[int, tuple[float, bool, int]] = {}
        for place, score in scores.items():
            other, class_id, is_synonym = self._keys[place]
            rank = (-score, is_synonym, len(_words(other)))
            of_class[class_id] = min(rank, of_class.get(class_id, rank))
        best = min(of_class.values(), default=(0.0, False, 0))[0]
        close = (i for i, rank in of_class.items() if rank[0] <= best / 2)
        return sorted(close, key=lambda i: of_class[i])

    def _places(self, word: str) -> dict[int, float]:
        """The keys with this word or one like it, and how much that says."""
        places: dict[int, float] = {}
        for other, alike in self._words_like(word):
            keys = self._with_word[other]
            worth = alike * math.log(1 + len(self._keys) / len(keys))
            places |= {place: max(worth, places.get(place, 0.0)) for place in keys}
        return places

    def _words_like(self, word: str) -> list[tuple[str, float]]:
        """The word itself, or else those that begin with it, or else those that are spelt like it.

        Each with a number from 0 to 1, which is 1 for the word itself.
        """
        if word in self._with_word:
            return [(word, 1.0)]
        begun = [other for other in self._with_word if other.startswith(word)]
        if begun:
            return [(other, _BEGINS) for other in begun]
        close = get_close_matches(word, self._with_word, n=3, cutoff=_SAME_WORD)
        return [(other, SequenceMatcher(None, word, other).ratio() ** 4) for other in close]

    def _spelt_like(self, key: str) -> list[int]:
        if len(key) <= _LONG_WORD:
            return []
        by_key = defaultdict(list)
        for other, class_id, is_synonym in self._keys:
            if not is_synonym:
                by_key[other].append(class_id)
        alike = get_close_matches(key, by_key, n=SUGGESTIONS, cutoff=_ALIKE)
        return [class_id for match in alike for class_id in by_key[match]]


def _words(key: str) -> list[str]:
    """The words of a key that say something; all of them where they are short."""
    words = key.replace(",", " ").replace("(", " ").replace(")", " ").split()
    return [word for word in words if len(word) >= _LONG_WORD] or words
