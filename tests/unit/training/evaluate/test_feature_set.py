"""Feature sets: what their metrics tell apart, what is measured, and that it is measured once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from support.discs import make_discs

from comfyui_fitv2 import Resolution
from training.data.sources import open_unsorted
from training.evaluate.extractors import RandomFeatures
from training.evaluate.feature_set import FeatureSet, reference_features
from training.evaluate.metrics import feature_statistics, frechet_distance


def reference(folder: Path, cache: Path, max_count: int = 1000) -> FeatureSet:
    size, cpu = Resolution(48, 32), torch.device("cpu")
    source = open_unsorted(folder, "--reference")
    listing = source.listing()
    return reference_features(source, listing, size, max_count, RandomFeatures(), cpu, cache)


@pytest.fixture(scope="module")
def discs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_discs(tmp_path_factory.mktemp("discs"))


def test_a_set_has_no_distance_from_itself(discs: Path, tmp_path: Path) -> None:
    features = reference(discs, tmp_path)
    distance, spatial_distance, score, precision, recall = features.metrics(features)
    assert 0 <= distance < 1e-5
    assert 0 <= spatial_distance < 1e-4
    assert (precision, recall) == (1.0, 1.0)
    assert 1.0 < score < RandomFeatures.CLASSES


def test_rounding_makes_no_distance_negative() -> None:
    statistics = [feature_statistics(torch.randn(6, 230)) for _ in range(8)]
    assert all(frechet_distance(one, one) >= 0 for one in statistics)


def test_real_images_measured_against_each_other_are_the_floor(discs: Path, tmp_path: Path) -> None:
    real = reference(discs, tmp_path)
    others = reference(make_discs(tmp_path / "others", noise=3.0), tmp_path)
    floor = real.floor(1000)
    assert floor is not None
    count, (distance, _, recall) = floor
    assert count == len(real) // 2
    assert 0 < distance < others.metrics(real)[0]
    assert recall > others.metrics(real)[4]
    assert real.floor(3) is None


def test_the_more_noise_the_greater_the_distance(discs: Path, tmp_path: Path) -> None:
    real = reference(discs, tmp_path)
    metrics = []
    for noise in (0.03, 0.1, 0.3):
        folder = make_discs(tmp_path / f"noise{noise}", noise=noise)
        metrics.append(reference(folder, tmp_path).metrics(real))
    distances, recalls = [m[0] for m in metrics], [m[4] for m in metrics]
    assert distances == sorted(distances)
    assert distances[0] > 1e-3
    assert recalls[-1] < recalls[0]


def test_reference_features_are_cached_until_the_folder_changes(tmp_path: Path) -> None:
    folder, cache = make_discs(tmp_path / "few", count=6), tmp_path / "cache"
    first = reference(folder, cache)
    cached = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    again = reference(folder, cache)
    assert {path: path.stat().st_mtime_ns for path in cache.iterdir()} == cached
    assert torch.equal(first.pooled, again.pooled)
    assert np.array_equal(first.spatial_statistics["sigma"], again.spatial_statistics["sigma"])
    (folder / "000.png").unlink()
    assert len(reference(folder, cache)) == len(first) - 1


def test_a_broken_image_is_named_and_left_out(tmp_path: Path) -> None:
    folder = make_discs(tmp_path / "some", count=6)
    (folder / "broken.jpg").write_bytes(b"not an image")
    features = reference(folder, tmp_path / "cache")
    assert len(features) == 6
    assert [Path(path).name for path in features.unreadable] == ["broken.jpg"]


def test_at_most_so_many_reference_images_are_used(discs: Path, tmp_path: Path) -> None:
    assert len(reference(discs, tmp_path, max_count=7)) == 7


def test_too_few_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="3 readable images"):
        reference(make_discs(tmp_path / "three", count=3), tmp_path / "cache")
