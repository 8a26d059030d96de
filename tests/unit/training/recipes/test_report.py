"""Which flag a generated image shows."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from PIL import Image

from comfyui_fitv2.pixels import from_bytes, psnr, to_bytes
from comfyui_fitv2.resolution import Resolution
from training.data.vae import TINY, open_vae
from training.recipes.flags.flags import Flag
from training.recipes.flags.judging import Judge, Raggedness
from training.recipes.flags.report import ReportOptions


@pytest.fixture(scope="module")
def judge(flags: list[Flag]) -> Judge:
    return Judge(flags)


@pytest.mark.network
@pytest.mark.parametrize("size", [(304, 208), (256, 256), (160, 336)])
def test_a_flag_stretched_to_any_shape_is_its_own_nearest(
    flags: list[Flag], judge: Judge, size: tuple[int, int]
) -> None:
    for own in (3, 77, 200):
        nearest, distance = judge.judge(flags[own].image(Resolution(*size)), own)
        assert nearest == own
        assert distance < 0.02


@pytest.mark.network
def test_another_flag_is_wrong_and_another_name_of_the_same_is_right(
    flags: list[Flag], judge: Judge
) -> None:
    number = {flag.code: i for i, flag in enumerate(flags)}
    finland, united_states, outlying = (
        flags[number[code]].image(Resolution(304, 208)) for code in ("fi", "us", "um")
    )
    assert judge.judge(finland, number["se"])[0] == number["fi"]
    assert judge.judge(united_states, number["um"])[0] == number["um"]
    assert judge.judge(outlying, number["us"])[0] == number["us"]


@pytest.mark.network
def test_an_image_is_as_ragged_as_it_differs_from_what_the_vae_shows(
    flags: list[Flag], tmp_path: Path
) -> None:
    vae = open_vae(TINY, torch.device("cpu"))
    raggedness, size = Raggedness(flags[:2], vae, tmp_path / "references"), Resolution(160, 112)
    image = from_bytes(np.asarray(flags[1].image(size)))[None]
    shown = to_bytes(vae.decode(vae.moments(image)[:, 0])[0])
    assert raggedness.measure(Image.fromarray(shown), 1) == (0, 100)
    darker = Image.fromarray(shown - np.minimum(shown, 51))
    error, ratio = raggedness.measure(darker, 1)
    assert 0.05 < error <= 0.2
    assert 13 < ratio < 30
    assert raggedness.measure(Image.fromarray(shown), 0)[0] > 0.1
    assert raggedness.of_vae(flags[1], size) == pytest.approx(psnr(from_bytes(shown), image[0]))


@pytest.mark.network
def test_a_reference_is_reconstructed_once(flags: list[Flag], tmp_path: Path) -> None:
    vae, size = open_vae(TINY, torch.device("cpu")), Resolution(160, 112)
    first = Raggedness(flags[:1], vae, tmp_path).of_vae(flags[0], size)
    del vae.network  # pyright: ignore[reportAttributeAccessIssue]
    assert Raggedness(flags[:1], vae, tmp_path).of_vae(flags[0], size) == first


def test_the_lines_of_the_table_and_the_folders_of_their_images() -> None:
    options = ReportOptions(methods=("none; ntk", "ntk + pro2"))
    cells = list(options.cells())
    assert [cell.folder for cell in cells[:7]] == [
        "native_1x_auto_10",
        "native_1x_auto_20",
        "1-1_1x_auto_10",
        "2-1_1x_auto_10",
        "3-1_1x_auto_10",
        "1-2_1x_auto_10",
        "1-3_1x_auto_10",
    ]
    methods = ["none", "ntk", "ntk + pro2"]
    beyond = [(scale, method) for scale in (1.5, 2.0) for method in methods]
    assert [(cell.scale, cell.method) for cell in cells[7:]] == beyond
    assert cells[-1].folder == "native_2x_ntk+pro2_10"
    assert len(list(ReportOptions(beyond=0).cells())) == 7


@pytest.mark.parametrize(("precision", "name"), [("bf16", "bfloat16"), ("fp32", "float32")])
def test_folders_keep_the_names_of_precisions_of_earlier_versions(
    precision: Literal["bf16", "fp32"], name: str
) -> None:
    assert ReportOptions(precision=precision).dtype == name
