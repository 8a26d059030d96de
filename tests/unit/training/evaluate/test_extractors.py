"""Random features are the same everywhere; Inception's file is read without running code."""

from pathlib import Path

import pytest
import torch
from torchvision.models import inception_v3

from training.evaluate.extractors import RandomFeatures, feature_extractor


def test_the_random_features_are_these_numbers_on_every_machine() -> None:
    ramp = (
        torch.arange(3 * 40 * 56, dtype=torch.float32)
        .reshape(1, 3, 40, 56)
        .mul(255 / (3 * 40 * 56))
        .to(torch.uint8)
    )
    pooled, spatial, logits = RandomFeatures()(ramp)
    assert (pooled.shape, spatial.shape, logits.shape) == ((1, 230), (1, 448), (1, 16))
    torch.testing.assert_close(
        torch.stack([pooled.sum(), spatial.sum(), logits[0, 3]]),
        torch.tensor([49.50757, 8.21431, -8.71251]),
        atol=1e-3,
        rtol=1e-4,
    )


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


@pytest.mark.slow
def test_an_inception_file_gives_the_features_of_published_metrics(inception: Path) -> None:
    extractor = feature_extractor(inception)
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    assert [tuple(x.shape) for x in extractor(images)] == [(2, 2048), (2, 7 * 17 * 17), (2, 1008)]
    assert extractor.get_name().startswith("inception-")
    assert extractor.get_name() != RandomFeatures().get_name()


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
