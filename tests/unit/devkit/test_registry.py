"""What the registry's tools would complain of is a failure."""

from __future__ import annotations

from pathlib import Path

import pytest

from devkit.registry import PLACE, problems


@pytest.mark.slow
def test_the_tools_complain_of_code_that_runs_text_and_of_shared_objects(tmp_path: Path) -> None:
    if not (PLACE / ".installed").exists():
        pytest.skip("`python dev.py test` installs the tools")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "a.js").write_text("window.ours = 1;\n")
    (tmp_path / "requirements.txt").touch()
    (tmp_path / "__init__.py").write_text("WEB_DIRECTORY = './web'\nexec('1')\n")
    project = "[project]\nname = 'a'\nversion = '0.1.0'\nlicense = {text = 'MIT'}\n"
    (tmp_path / "pyproject.toml").write_text(project)
    security, javascript = problems(tmp_path)
    assert "S102" in security
    assert "global-write" in javascript
