"""Resuming: bit for bit where an undisturbed run goes, or refused with the reason."""

import os
import random
import shutil
import signal
import sys
import threading
from pathlib import Path

import pytest
from kill_nine import training_survives
from support.latent_sets import make_latent_set
from support.training_runs import (
    arguments,
    finish,
    identical,
    small_config,
    start_training,
    weights,
)

from training.train import main, train
from training.train.checkpoints.reader import checkpoints, latest, read_summary
from training.train.checkpoints.run_folder import RunError, step_of
from training.train.config import ConfigError
from training.train.guard import StepGuard
from training.train.run import TrainingRun

FILES = ("model", "ema-0.99", "ema-0.9", "state")


@pytest.fixture(scope="module")
def whole_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 steps, over more than two epochs, undisturbed."""
    run = tmp_path_factory.mktemp("whole") / "run"
    train(small_config(data, run, "--steps=30"))
    assert read_summary(latest(run)).epoch >= 2
    return run


def same_end(a: Path, b: Path) -> bool:
    return latest(a).name == latest(b).name and all(
        identical(weights(a, name), weights(b, name)) for name in FILES
    )


def test_a_resumed_run_ends_bit_for_bit_where_an_undisturbed_one_does(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    for steps in (2, 7, 30):  # the first within the warm-up
        train(small_config(data, tmp_path, f"--steps={steps}", "--resume=latest"))
    assert same_end(whole_run, tmp_path)
    first, second = (vars(read_summary(latest(run))) for run in (whole_run, tmp_path))
    del first["config"], second["config"]
    assert first == second


def test_a_run_with_muon_resumes_bit_for_bit(data: Path, tmp_path: Path) -> None:
    muon = "--optimizer.kind=muon"
    train(small_config(data, tmp_path / "whole", muon))
    for steps in (2, 6):
        train(small_config(data, tmp_path / "parts", muon, f"--steps={steps}", "--resume=latest"))
    assert same_end(tmp_path / "whole", tmp_path / "parts")
    state = weights(tmp_path / "parts", "state")
    assert any(key.startswith("momentum_buffer/blocks.") for key in state)


def test_a_run_that_has_taken_no_step_resumes_without_optimizer_state(
    data: Path, tmp_path: Path
) -> None:
    """Its optimizer has no state yet, and asking for the state would take a step."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(StepGuard, "accepts", lambda guard, norm: False)
        train(small_config(data, tmp_path, "--steps=2"))
    assert read_summary(latest(tmp_path)).ema_updates == 0
    assert set(weights(tmp_path, "state")) == {"guard/norms"}
    run = TrainingRun(small_config(data, tmp_path, "--steps=4", "--resume=latest"))
    assert not run.optimizers[0].state


@pytest.mark.processes
@pytest.mark.slow
def test_a_kill_at_a_random_moment_changes_nothing(data: Path, tmp_path: Path) -> None:
    training_survives(data, tmp_path, kills=1, chance=random.Random(0), say=lambda text: None)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no signals to send to one process")
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_saves_and_exits(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    status: int,
) -> None:
    ended = threading.Event()

    def send() -> None:
        while not checkpoints(tmp_path):
            if ended.wait(0.05):
                return
        os.kill(os.getpid(), number)

    # A process in the background of a script ignores Ctrl-C from its start on.
    before = signal.signal(number, signal.default_int_handler)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        ended_with = main(arguments(data, tmp_path, "--steps=3000", "--checkpoints.every=5"))
    finally:
        ended.set()
        sender.join()
        signal.signal(number, before)
    assert ended_with == status
    step = step_of(latest(tmp_path))
    stopped = f"stopped by {number.name} at step {step}, and saved. Resume with --resume latest."
    assert stopped in capsys.readouterr().out
    assert read_summary(latest(tmp_path)).step == step


@pytest.mark.processes
@pytest.mark.slow
def test_a_second_process_resumes_where_the_first_has_ended(data: Path, tmp_path: Path) -> None:
    options = ["--steps=15", "--checkpoints.every=4", "--checkpoints.keep=9"]
    run, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    finish(start_training(arguments(data, run, *options)))
    shutil.copytree(run, undisturbed)
    for checkpoint in checkpoints(run)[1:]:
        shutil.rmtree(checkpoint)
    resume = ["--resume=latest", "--batch.workers=1"]
    assert "resumes at step 4" in finish(start_training(arguments(data, run, *options, *resume)))
    assert same_end(undisturbed, run)


def test_a_run_is_not_touched_without_resume(data: Path, whole_run: Path) -> None:
    message = r"holds a run already, at step-00000030. Resume it with --resume latest"
    with pytest.raises(ConfigError, match=message):
        train(small_config(data, whole_run, "--steps=30"))


def test_another_configuration_is_refused_with_the_differences(data: Path, whole_run: Path) -> None:
    before = (whole_run / "config.yaml").read_bytes()
    other = ["--resume=latest", "--seed=1", "--flow.shift=2", "--optimizer.learning_rate=0.002"]
    message = (
        r"another configuration: seed: 0 → 1; flow.shift: 1.0 → 2.0. Resume with that run's own, "
        r".*config.yaml, .*--init .*step-00000030/ema-0.9.safetensors"
    )
    with pytest.raises(ConfigError, match=message):
        train(small_config(data, whole_run, *other))
    assert (whole_run / "config.yaml").read_bytes() == before


def test_hyperparameters_may_change_and_are_said_in_one_line(
    data: Path, whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    changed = [
        "--optimizer.learning_rate=0.0005",
        "--optimizer.warmup_steps=100",
        "--optimizer.gradient_clip=0.5",
        "--precision=bf16",
        "--activation_checkpointing",
    ]
    assert main(arguments(data, run, "--steps=33", "--resume=latest", *changed)) == 0
    assert (
        "resumes at step 30, with precision: fp32 → bf16; activation_checkpointing: False → True; "
        "optimizer.learning_rate: 0.001 → 0.0005; optimizer.warmup_steps: 3 → 100; "
        "optimizer.gradient_clip: 1.0 → 0.5\n"
    ) in capsys.readouterr().out
    again = [*changed, "--steps=34", "--resume=latest"]
    assert main(arguments(data, run, *again)) == 0
    assert "resumes at step 33\n" in capsys.readouterr().out


def test_smaller_packs_begin_with_the_next_round(
    data: Path, whole_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As where memory ran out. A second start before the first save begins there, too."""
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    smaller = small_config(data, run, "--steps=31", "--resume=latest", "--batch.token_budget=32")
    for _ in range(2):
        before = read_summary(latest(run)).position
        resumed = TrainingRun(smaller)
        assert resumed.changed == ["batch.token_budget: 64 → 32"]
        assert (before.round, before.pack) == (0, 30)
        assert (resumed.state.position.round, resumed.state.position.pack) == (2, 0)
    assert train(smaller) == 0
    position = read_summary(latest(run)).position
    assert (position.round, position.pack) == (2, 1)


def test_a_damaged_configuration_is_refused(data: Path, whole_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    for content, message in (("steps: [1", "is damaged"), ("- 5", "holds no configuration")):
        (run / "config.yaml").write_text(content, encoding="utf-8")
        with pytest.raises(RunError, match=message):
            train(small_config(data, run, "--steps=31", "--resume=latest"))
    (run / "config.yaml").write_text("{data: x, output: y, stepz: 5}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"config.yaml: .*--stepz.*--steps"):
        train(small_config(data, run, "--steps=31", "--resume=latest"))


def test_other_data_and_other_batches_are_refused(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    resume = ["--steps=31", "--resume=latest"]
    other = make_latent_set(tmp_path / "other", ((4, 4),), classes=3, per_class=9)
    with pytest.raises(ConfigError, match=r"another latent set, of 48 images \(now: 27\)"):
        train(small_config(other, whole_run, *resume))
    message = r"1 packs per step; now the number of processes times batch.accumulation is 2"
    with pytest.raises(ConfigError, match=message):
        train(small_config(data, whole_run, *resume, "--batch.accumulation=2"))


def test_a_finished_run_has_nothing_left_to_do(data: Path, whole_run: Path) -> None:
    assert train(small_config(data, whole_run, "--steps=30", "--resume=latest")) == 0
    assert [step_of(checkpoint) for checkpoint in checkpoints(whole_run)] == [30]


@pytest.mark.parametrize("name", [f"{file}.safetensors" for file in FILES] + ["summary.json"])
def test_a_damaged_checkpoint_stops_with_the_reason_and_nothing_is_removed(
    data: Path, whole_run: Path, tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    shutil.copytree(whole_run, run)
    damaged = latest(run) / name
    damaged.write_bytes(damaged.read_bytes()[:-100])
    files = {p: p.read_bytes() for p in run.rglob("*") if p.is_file() and p.suffix != ".yaml"}
    assert main(arguments(data, run, "--steps=31", "--resume=latest")) == 1
    error = capsys.readouterr().err
    assert f"error: {damaged} cannot be read" in error
    assert "Nothing was changed or removed. To resume from the checkpoint before, move" in error
    assert {path: path.read_bytes() for path in files} == files
