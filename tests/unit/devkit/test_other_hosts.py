"""Other versions of ComfyUI, fetched or by hand, and what is installed beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from devkit.environment import SetupError
from devkit.host import Host
from devkit.other_hosts import ARCHIVES, OLDER_HOST, differing, other_host


def test_what_is_no_version_and_no_comfyui_is_named_with_the_versions(own: Host) -> None:
    expected = r"0\.1\.0 is no version .* no folder .*0\.16\.3, .*0\.27\.0, 0\.30\.0"
    with pytest.raises(SetupError, match=expected):
        other_host("0.1.0")
    assert all(len(digest) == 64 for _, digest in ARCHIVES.values())


def test_a_folder_is_tested_as_the_version_that_it_says(
    own: Host, make_comfyui: Callable[[str], Path]
) -> None:
    newer = other_host(str(make_comfyui("0.33.0")))
    assert (newer.version, newer.host.python) == ("0.33.0", own.python)
    older = other_host(str(make_comfyui("0.16.4")))
    assert older.variables[OLDER_HOST] == "0.16.4"
    # Tests may leave out what an older ComfyUI lacks, and nothing on a newer one.
    assert OLDER_HOST not in newer.variables
    assert other_host("0.30.0").host == own
    with pytest.raises(SetupError, match=r"needs ComfyUI 0\.12\.0 or newer"):
        other_host(str(make_comfyui("0.3.76")))


def test_what_differs_from_our_environment_is_installed_beside_it() -> None:
    theirs = [
        "comfyui-frontend-package==1.39.19",
        "comfyui-workflow-templates==0.9.10",
        "comfy-kitchen>=0.2.7",
        "torch",
        "av>=14.2.0",
        "",
        "#non essential dependencies:",
        "PyOpenGL",
        "glfw",
    ]
    ours = ["comfyui-frontend-package==1.47.12", "torch", "comfy-kitchen==1", "av", "PyOpenGL>=3"]
    assert differing(theirs, ours) == ["comfyui-frontend-package==1.39.19", "glfw"]
