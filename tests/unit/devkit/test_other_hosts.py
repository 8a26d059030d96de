"""``dev.py test --hosts``: which versions there are, and the table of what works on them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from devkit.environment import SetupError
from devkit.host import Host, version_of
from devkit.other_hosts import ARCHIVES, Count, _count, compare_hosts, matrix


def test_an_unknown_version_is_named_with_those_there_are() -> None:
    with pytest.raises(SetupError, match=r"0\.1\.0: there are 0\.16\.3, .*0\.27\.0"):
        compare_hosts({}, ["0.1.0", "0.16.3"])
    assert all(len(digest) == 64 for _, digest in ARCHIVES.values())


def test_a_version_is_read_from_its_folder(tmp_path: Path) -> None:
    (tmp_path / "comfyui_version.py").write_text('# made\n__version__ = "0.18.2"\n')
    assert version_of(tmp_path) == "0.18.2"


def test_tests_are_counted_by_their_ends(tmp_path: Path) -> None:
    file = tmp_path / "test_ends.py"
    file.write_text(
        "import pytest\n"
        "def test_passes(): pass\n"
        "def test_fails(): assert False\n"
        "@pytest.mark.skip\ndef test_is_left_out(): pass\n"
        "def test_has_no_fixture(nothing): pass\n"
    )
    host = Host(tmp_path, Path(sys.executable), ours=False)
    assert _count(host, {}, [str(file)]) == Count(1, 2)
    assert _count(host, {}, [str(tmp_path / "nothing.py")]).passed == 0


def test_the_table_says_what_passed() -> None:
    table = matrix({"0.16.3": {"loads": Count(7, 0), "browser": Count(3, 1)}})
    assert table.splitlines()[-1] == "| 0.16.3 | all 7 | 3 of 4 |"
