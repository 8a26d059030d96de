"""A MODEL is told apart from every other one that may draw something else."""

from __future__ import annotations

from pathlib import Path

import pytest
from host.inside import run_inside

SUPPORT = Path(__file__).parent.parent / "support"


@pytest.mark.host
def test_only_what_draws_the_same_has_the_same_key() -> None:
    script = SUPPORT / "model_keys.py"
    answers = run_inside(f"import runpy\nanswer(runpy.run_path({str(script)!r})['answers'])")
    assert len(answers) == 20
    assert answers == {what: not what.startswith("not: ") for what in answers}
