"""The latent set of the trainer's tests."""

from pathlib import Path

import pytest
from support.micro_batches import make_examples


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """48 examples of four sizes and three classes; every second one has a crop."""
    return make_examples(tmp_path_factory.mktemp("data") / "latents")
