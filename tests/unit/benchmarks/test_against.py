"""Two checkouts' tables become one of ratios."""

from __future__ import annotations

from benchmarks.against import compared, numbers

HERE = [
    "XL on cpu, 2 threads\ndtype     batch     eager s  ratio\nfloat32   2 × 256     1.500   1.05",
    "XL on cpu, 2 threads\ndtype     batch     eager s  ratio\nfloat32   2 × 256     1.200   1.20",
    "XL on cpu, 2 threads\ndtype     batch     eager s  ratio\nfloat32   2 × 256     9.000   1.05",
]
THERE = [
    "XL, 2 threads\ndtype  batch  eager s  ratio\nfloat32  2 × 256  1.000  1.05",
    "XL, 2 threads\ndtype  batch  eager s  ratio\nfloat32  2 × 256  1.000  1.00",
    "XL, 2 threads\ndtype  batch  eager s  ratio\nfloat32  2 × 256  1.000  1.20",
]


def test_what_is_measured_becomes_the_median_ratio_and_counts_stay() -> None:
    table = compared(HERE[-1], [numbers(text) for text in HERE], [numbers(text) for text in THERE])
    assert table.splitlines() == [
        "dtype     batch     eager s  ratio",
        "float32   2 × 256     1.500   1.000",
    ]


def test_lines_with_the_same_text_are_told_apart_by_their_order() -> None:
    texts = ["a 1 2.0\na 2 4.0", "a 1 1.0\na 2 1.0"]
    here, there = ([numbers(text)] for text in texts)
    assert compared(texts[0], here, there).splitlines() == ["a 1 2.000", "a 2 4.000"]


def test_numbers_in_names_are_part_of_the_name() -> None:
    assert numbers("fitv2-3b bf16 2.5e-03 fit_256 7") == {
        ("fitv2-3bbf16#fit_256#", 0): ["2.5e-03", "7"]
    }
