"""Lists of numbers as people type them."""

from __future__ import annotations

import pytest

from comfyui_fitv2.number_list import MAX_NUMBERS, parse_numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("7", [7]),
        ("1..4", [1, 2, 3, 4]),
        ("4..2", [4, 3, 2]),
        ("1, 3, .., 9", [1, 3, 5, 7, 9]),
        ("1, 3, .., 10", [1, 3, 5, 7, 9]),
        ("1, .., 3", [1, 2, 3]),
        ("1; 5\n9", [1, 5, 9]),
        ("3, 3, 1..3", [3, 1, 2]),
        ("1 … 3", [1, 2, 3]),
        ("1 , 3 ..\t5 ", [1, 3, 4, 5]),
        ("1，2，……，5", [1, 2, 3, 4, 5]),
        ("10, 8, .., 4", [10, 8, 6, 4]),
        ("１..３", [1, 2, 3]),
        (str(2**64 - 1), [2**64 - 1]),
        (" ; ", []),
    ],
)
def test_lists_and_ranges_of_whole_numbers(text: str, numbers: list[int]) -> None:
    assert parse_numbers("seeds", text, 0, 2**64 - 1) == numbers


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("1, 1.5, .., 3", [1, 1.5, 2, 2.5, 3]),
        ("0.1, 0.2, .., 0.7", [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]),
        ("1.5..3", [1.5, 2.5]),
        ("−1, 2", [-1, 2]),
    ],
)
def test_fractions_are_exact(text: str, numbers: list[float]) -> None:
    assert parse_numbers("guidance_scales", text, -5, 20, whole=False) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 3", r"steps: '1 2 3' is no number\. Write numbers with commas between them"),
        ("1..3 5", r"steps: '1\.\.3 5' is no number"),
        ("one", r"steps: 'one' is no number\. Write numbers with commas between them"),
        ("1.5", r"steps: 1\.5 is no whole number"),
        ("0", r"steps: 0 is outside of 1 to 1000"),
        ("5..2000", r"steps: 2000 is outside of 1 to 1000"),
        (".., 5", r"steps: '\.\.' stands for the numbers between two others"),
        ("1, ..", r"steps: '\.\.' stands for the numbers between two others"),
        ("3, 4, .., 2", r"steps: 3, 4, \.\., 2 leads away from 2"),
        ("2, 2, .., 5", r"steps: 2, 2, \.\., 5 never reaches 5"),
    ],
)
def test_what_is_no_list_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_numbers("steps", text, 1, 1000)


def test_a_list_that_would_never_end_is_refused() -> None:
    with pytest.raises(ValueError, match=f"more than {MAX_NUMBERS} numbers"):
        parse_numbers("seeds", "0..18446744073709551615", 0, 2**64 - 1)
