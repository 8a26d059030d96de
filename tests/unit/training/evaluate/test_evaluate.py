"""Metrics of sets of pictures: what they tell apart, what they are measured on, and that nothing is measured twice."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models import inception_v3

from comfyui_fitv2 import Resolution
from training import sample
from training.data.decode import read_middle
from training.evaluate import main
from training.evaluate.extractors import BundledFeatures, feature_extractor
from training.evaluate.feature_set import FeatureSet, reference_features
from training.evaluate.metrics import METRICS, compare

CPU = torch.device("cpu")
SIZE = Resolution(48, 32)


def make_pictures(
    folder: Path, count: int = 24, size: tuple[int, int] = (60, 40), noise: float = 0.0
) -> Path:
    """Discs of random colours and places, half of them in a sub-folder."""
    random, grain = np.random.RandomState(0), np.random.RandomState(7)
    y, x = np.mgrid[: size[1], : size[0]]
    for i in range(count):
        back, front = random.rand(2, 3)
        disc = ((x / size[0] - random.rand()) ** 2 + (y / size[1] - random.rand()) ** 2 < 0.1)[
            ..., None
        ]
        picture = np.where(disc, front, back) + noise * grain.standard_normal((*x.shape, 3))
        path = folder / ("deeper" if i % 2 else ".") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((picture.clip(0, 1) * 255).astype(np.uint8)).save(path)
    return folder


def reference(folder: Path, cache: Path, most: int = 1000) -> FeatureSet:
    return reference_features(folder, SIZE, most, BundledFeatures(), CPU, cache)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_pictures(tmp_path_factory.mktemp("discs"))


def test_a_set_is_no_distance_from_itself(discs: Path, tmp_path: Path) -> None:
    features = reference(discs, tmp_path)
    measured = compare(features, features)
    assert tuple(measured) == METRICS
    assert abs(measured["FID"]) < 1e-5
    assert abs(measured["sFID"]) < 1e-4
    assert (measured["precision"], measured["recall"]) == (1.0, 1.0)
    assert 1.0 < measured["IS"] < BundledFeatures.CLASSES


def test_the_bundled_features_see_noise_and_the_more_the_worse(discs: Path, tmp_path: Path) -> None:
    real = reference(discs, tmp_path)
    sets = [
        reference(make_pictures(tmp_path / f"noise{noise}", noise=noise), tmp_path)
        for noise in (0.03, 0.1, 0.3)
    ]
    measured = [compare(features, real) for features in sets]
    distances = [m["FID"] for m in measured]
    assert distances == sorted(distances)
    assert distances[0] > 1e-3
    assert measured[-1]["recall"] < measured[0]["recall"]


def test_the_bundled_features_are_these_numbers_on_every_machine() -> None:
    ramp = (
        torch.arange(3 * 40 * 56, dtype=torch.float32)
        .reshape(1, 3, 40, 56)
        .mul(255 / (3 * 40 * 56))
        .to(torch.uint8)
    )
    pooled, spatial, logits = BundledFeatures()(ramp)
    assert (pooled.shape, spatial.shape, logits.shape) == ((1, 230), (1, 448), (1, 16))
    torch.testing.assert_close(
        torch.stack([pooled.sum(), spatial.sum(), logits[0, 3]]),
        torch.tensor([49.50757, 8.21431, -8.71251]),
        atol=1e-3,
        rtol=1e-4,
    )


def test_a_reference_is_the_middle_in_the_shape_of_the_size_upright_and_in_full_colour(
    tmp_path: Path,
) -> None:
    thirds = np.zeros((30, 90, 3), np.uint8)
    thirds[:, :30, 0] = thirds[:, 30:60, 1] = thirds[:, 60:, 2] = 255
    Image.fromarray(thirds).save(tmp_path / "thirds.png")
    middle, enlarged = read_middle(tmp_path / "thirds.png", 32, 32)
    assert middle.shape == (32, 32, 3)
    assert enlarged
    assert (middle[:, 4:-4] == [0, 255, 0]).all()
    whole, enlarged = read_middle(tmp_path / "thirds.png", 48, 16)
    assert not enlarged
    assert (whole[0, [0, 24, 47]] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]).all()
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first column is the top row
    Image.fromarray(thirds).save(tmp_path / "turned.png", exif=exif)
    upright, _ = read_middle(tmp_path / "turned.png", 16, 48)
    assert (upright[[0, 24, 47], 0] == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]).all()


@pytest.mark.parametrize("side", [48, 160, 208, 1000])
@pytest.mark.parametrize("width", [49, 333, 1023])
def test_no_rounding_cuts_beyond_a_picture(tmp_path: Path, side: int, width: int) -> None:
    Image.new("RGB", (width, 97)).save(tmp_path / "p.png")
    assert read_middle(tmp_path / "p.png", side, 16)[0].shape == (16, side, 3)


def test_reference_features_are_kept_until_the_folder_changes(tmp_path: Path) -> None:
    folder, cache = make_pictures(tmp_path / "few", count=6), tmp_path / "cache"
    first = reference(folder, cache)
    kept = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = reference(folder, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == kept
    assert torch.equal(first.pooled, again.pooled)
    assert np.array_equal(first.spatial_statistics["sigma"], again.spatial_statistics["sigma"])
    (folder / "000.png").unlink()
    assert len(reference(folder, cache)) == len(first) - 1


def test_a_broken_picture_is_named_and_left_out(tmp_path: Path) -> None:
    folder = make_pictures(tmp_path / "some", count=6)
    (folder / "broken.jpg").write_bytes(b"not a picture")
    features = reference(folder, tmp_path / "cache")
    assert len(features) == 6
    assert [Path(path).name for path in features.unreadable] == ["broken.jpg"]


def test_of_many_reference_pictures_so_many_are_taken_evenly(discs: Path, tmp_path: Path) -> None:
    assert len(reference(discs, tmp_path, most=7)) == 7


def test_too_few_pictures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 readable pictures"):
        reference(make_pictures(tmp_path / "three", count=3), tmp_path / "cache")


@pytest.fixture(scope="module")
def inception(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights under the keys and in the shapes of the published file."""
    path = tmp_path_factory.mktemp("inception") / "weights.pth"
    torch.save(
        inception_v3(
            weights=None, init_weights=False, aux_logits=False, num_classes=1008
        ).state_dict(),
        path,
    )
    return path


def test_an_inception_file_gives_the_features_of_published_metrics(inception: Path) -> None:
    extractor = feature_extractor(inception)
    pictures = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert [tuple(x.shape) for x in extractor(pictures)] == [(2, 2048), (2, 7 * 17 * 17), (2, 1008)]
    assert extractor.get_name().startswith("inception-")
    assert extractor.get_name() != BundledFeatures().get_name()


@pytest.mark.parametrize("content", ["code", "weights", "page"])
def test_another_file_than_inception_is_refused_and_runs_no_code(
    tmp_path: Path, content: str
) -> None:
    path, made_by_code = tmp_path / "file.pth", tmp_path / "made_by_code"
    if content == "code":
        torch.save({"fc.weight": Touch(made_by_code)}, path)
    elif content == "weights":
        torch.save({"fc.weight": torch.zeros(1)}, path)
    else:
        path.write_text("<html>")
    with pytest.raises(ValueError, match="torch-fidelity"):
        feature_extractor(path)
    assert not made_by_code.exists()


class Touch:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.fixture
def arguments(bundled_checkpoint: Path, discs: Path, tmp_path: Path) -> list[str]:
    what = [
        "--checkpoint",
        str(bundled_checkpoint),
        "--reference",
        str(discs),
        "--output",
        str(tmp_path / "results"),
    ]
    return [
        *what,
        "--classes",
        "0,1",
        "--count",
        "2",
        "--sizes",
        "32x32,48x16",
        "--steps",
        "1",
        "--solver",
        "euler",
        "--device",
        "cpu",
    ]


def test_every_size_and_method_gets_a_row_in_table_json_and_plot(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    assert main([*arguments, "--extrapolations", "none; NTK + pro2"]) == 0
    results = json.loads((tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8"))
    expected = [(size, method) for size in ("32x32", "48x16") for method in ("none", "ntk + pro2")]
    assert [(row["size"], row["extrapolation"]) for row in results["rows"]] == expected
    assert all(
        np.isfinite(list(row["metrics"].values())).all() and row["images"] == 4
        for row in results["rows"]
    )
    assert results["references"]["48x16"] == {"images": 24, "enlarged": 0, "unreadable": {}}
    table = (tmp_path / "results" / "evaluation.md").read_text(encoding="utf-8")
    assert table.strip() == capsys.readouterr().out.strip()
    assert table.count("| ntk + pro2 |") == 2
    assert "NOT comparable with published" in table
    with Image.open(tmp_path / "results" / "evaluation.png") as plot:
        assert np.asarray(plot.convert("RGB")).std() > 10


def test_the_same_command_again_draws_and_measures_nothing(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(arguments) == 0
    first = (tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8")

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("worked twice")

    monkeypatch.setattr(sample, "draw", refuse)
    monkeypatch.setattr(BundledFeatures, "forward", refuse)
    assert main(arguments) == 0
    assert (tmp_path / "results" / "evaluation.json").read_text(encoding="utf-8") == first


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (["--reference", "nowhere"], "--reference nowhere"),
        (["--extrapolations", "magic"], "magic"),
        (["--extrapolations", ";"], "--extrapolations"),
        (["--inception", "none.pth"], "none.pth"),
        (["--classes", "nowhere land"], "nowhere land"),
    ],
)
def test_a_mistake_is_one_line_before_anything_is_drawn(
    arguments: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    changed: list[str],
    message: str,
) -> None:
    assert main([*arguments, *changed]) == 1
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.startswith("error: ")
    assert printed.count("\n") == 1
    assert not (tmp_path / "results").exists()
