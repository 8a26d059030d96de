"""A MODEL is told apart from every other one that may draw something else."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent


@pytest.mark.host
def test_only_what_draws_the_same_has_the_same_key() -> None:
    if "FITV2_HOST" not in os.environ:
        pytest.skip("needs a ComfyUI: run `python dev.py test`, which fetches one")
    host = os.environ["FITV2_HOST"]
    ran = subprocess.run(
        [os.environ["FITV2_HOST_PYTHON"], TESTS / "support" / "model_keys.py", TESTS.parent],
        cwd=host,
        env={**os.environ, "PYTHONPATH": host},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr
    answers = json.loads(ran.stdout.splitlines()[-1])
    assert len(answers) == 20
    assert answers == {what: not what.startswith("not: ") for what in answers}
