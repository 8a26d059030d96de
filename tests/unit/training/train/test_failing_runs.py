"""A failure ends every process within seconds, with one line: cause, remedy, last good state."""

import re
import sys
import time
from pathlib import Path

import pytest
from support.training_runs import ROOT, arguments, start_training, survivors, torchrun

from training.train.checkpoints.reader import latest
from training.train.checkpoints.run_folder import step_of

SCRIPT = [str(ROOT / "tests" / "support" / "failing_run.py")]
CAUSES = {
    "memory": "error: the memory of the device ran out. Lower batch.token_budget",
    "worker": "error: a process that prepares data was killed, most often because memory ran out.",
    "process": "error: another process of this command has ended without a word",
    "disk": "is full. Make room there.",
    "sheet": "ZeroDivisionError: a bug",
    "sharded-process": "error: another process of this command has ended without a word",
    "sharded-writing": "error: another process of this command has ended without a word",
    "sharded-disk": "is full. Make room there.",
}
SECONDS = 60
"""Generous: tests run on busy machines. Without our doing it takes forever."""

pytestmark = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform == "win32", reason="it limits files as POSIX systems do"),
]


@pytest.mark.cases("P6")
@pytest.mark.parametrize(
    ("failure", "processes"),
    [
        ("worker", 1),
        ("disk", 1),
        ("memory", 2),
        ("process", 2),
        ("sheet", 2),
        ("sharded-process", 2),
        ("sharded-writing", 2),
        ("sharded-disk", 2),
    ],
)
def test_a_failure_ends_all_processes(
    data: Path, tmp_path: Path, failure: str, processes: int
) -> None:
    options = ["--steps=1000", "--checkpoints.every=1", "--batch.workers=1"]
    if failure == "sheet":
        options += ["--samples.every=1", "--samples.steps=1", "--samples.classes=1"]
    process = start_training(
        [failure, *arguments(data, tmp_path, *options)],
        *(torchrun(processes) if processes > 1 else []),
        script=SCRIPT,
    )
    output, _ = process.communicate(timeout=300)
    ended = time.time()
    assert process.returncode == 1, output
    failed = re.search(r"failing at ([\d.]+)", output)
    assert failed, output
    assert ended - float(failed[1]) < SECONDS
    assert output.count(CAUSES[failure]) == 1, output
    if failure != "sheet":
        assert output.count("error: ") == 1, output
        assert "training/train/run.py" not in output  # no traceback of ours
        good = f"The last good checkpoint is {latest(tmp_path)}; resume with --resume latest."
        assert good in output
    # Where each process saves its own in the background, the checkpoint before may be lost too.
    is_lost = failure.startswith("sharded-") and step_of(latest(tmp_path)) == 3
    assert is_lost or step_of(latest(tmp_path)) == 4
    assert not survivors(tmp_path)
