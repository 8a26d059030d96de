"""The package of flags, fetched once."""

from pathlib import Path

import pytest

from training.recipes.flags.flags import Flag, fetch, read_flags


@pytest.fixture(scope="session")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Needs the network."""
    parent = tmp_path_factory.mktemp("flags")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(parent)
        fetch(Path("package"))  # as the recipe does by default
    return parent / "package"


@pytest.fixture(scope="session")
def flags(package: Path) -> list[Flag]:
    """Needs the network."""
    return read_flags(package)
