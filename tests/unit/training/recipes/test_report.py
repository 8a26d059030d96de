"""Which flag a generated image shows."""

from typing import Literal

import pytest

from comfyui_fitv2.resolution import Resolution
from training.recipes.flags.flags import Flag
from training.recipes.flags.report import Judge, ReportOptions


@pytest.mark.network
@pytest.mark.parametrize("size", [(304, 208), (256, 256), (160, 336)])
def test_a_flag_stretched_to_any_shape_is_its_own_nearest(
    flags: list[Flag], size: tuple[int, int]
) -> None:
    judge = Judge(flags)
    for own in (3, 77, 200):
        nearest, distance = judge.judge(flags[own].image(Resolution(*size)), own)
        assert nearest == own
        assert distance < 0.02


@pytest.mark.network
def test_another_flag_is_wrong_and_another_name_of_the_same_is_right(flags: list[Flag]) -> None:
    judge = Judge(flags)
    number = {flag.code: i for i, flag in enumerate(flags)}
    finland, united_states, outlying = (
        flags[number[code]].image(Resolution(304, 208)) for code in ("fi", "us", "um")
    )
    assert judge.judge(finland, number["se"])[0] == number["fi"]
    assert judge.judge(united_states, number["um"])[0] == number["um"]
    assert judge.judge(outlying, number["us"])[0] == number["us"]


def test_the_lines_of_the_table_and_the_folders_of_their_images() -> None:
    options = ReportOptions(methods=("none; ntk", "ntk + pro2"))
    cells = list(options.cells())
    assert [cell.folder for cell in cells[:6]] == [
        "native_1x_none_10",
        "native_1x_none_20",
        "native_1x_none_50",
        "1-1_1x_none_20",
        "2-1_1x_none_20",
        "1-2_1x_none_20",
    ]
    methods = ["none", "ntk", "ntk + pro2"]
    beyond = [(scale, method) for scale in (1.5, 2.0) for method in methods]
    assert [(cell.scale, cell.method) for cell in cells[6:]] == beyond
    assert cells[-1].folder == "native_2x_ntk+pro2_20"
    assert len(list(ReportOptions(beyond=0).cells())) == 6


@pytest.mark.parametrize(("precision", "name"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_folders_keep_the_names_of_precisions_of_earlier_versions(
    precision: Literal["bf16", "fp32"], name: str
) -> None:
    assert ReportOptions(precision=precision).dtype == name
