"""Every file of ``support.nasty_images`` is used, or left out with its reason; none stops a run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support.nasty_images import Expected, make_nasty_images

from training.data.decode import probe, read_middle, read_versions, trained_size
from training.data.sources import Listing, open_images, open_unsorted


@pytest.fixture(scope="module")
def nasty(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Expected]]:
    root = tmp_path_factory.mktemp("nasty") / "images"
    return root, make_nasty_images(root)


@pytest.fixture(scope="module")
def listing(nasty: tuple[Path, dict[str, Expected]]) -> Listing:
    return open_images(nasty[0], None).listing()


@pytest.mark.cases("D6", "D7", "D10")
def test_each_is_listed_with_its_class_or_left_out_with_its_reason(
    nasty: tuple[Path, dict[str, Expected]], listing: Listing
) -> None:
    _, expected = nasty
    assert listing.problems == []
    found = {
        file: listing.class_names[class_id]
        for file, class_id in zip(listing.files, listing.class_ids, strict=True)
    }
    assert found == {file: e.class_name for file, e in expected.items() if e.class_name}
    left_out = {file: e.reason for file, e in expected.items() if not e.class_name}
    assert listing.left_out.keys() == left_out.keys()
    for file, reason in left_out.items():
        assert re.search(reason, listing.left_out[file]), (file, listing.left_out[file])


@pytest.mark.cases("D9")
def test_each_has_the_size_and_colour_that_it_should_or_is_refused(
    nasty: tuple[Path, dict[str, Expected]], listing: Listing
) -> None:
    root, expected = nasty
    for file in listing.files:
        want, facts = expected[file], probe(root / file)
        if want.size is None:
            assert re.search(want.reason, facts.reason or ""), (file, facts.reason)
            with pytest.raises((OSError, ValueError, SyntaxError), match=want.reason):
                read_versions(root / file, 64)
            continue
        assert (facts.reason, facts.width, facts.height) == (None, *want.size), file
        resized, _ = read_versions(root / file, 64)
        size = trained_size(*want.size, 64)
        assert resized.shape == (size.height, size.width, 3), file
        if want.colour is not None:
            middle = resized[resized.shape[0] // 2, resized.shape[1] // 2]
            assert middle.tolist() == pytest.approx(want.colour, abs=6), file


def test_references_are_the_same_images_with_those_outside_of_classes(
    nasty: tuple[Path, dict[str, Expected]], listing: Listing
) -> None:
    root, _ = nasty
    reference = open_unsorted(root, "--reference").listing()
    assert reference.problems == []
    assert set(reference.files) == {*listing.files, "loose.png"}
    assert reference.left_out.items() <= listing.left_out.items()
    assert read_middle(root / "colours" / "p3.png", 16, 16)[0][8, 8].tolist() == [255, 0, 0]
