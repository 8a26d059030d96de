"""Held-out images: which ones, that they are never trained on, and what is said of their loss."""

import json
from itertools import islice
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import pytest
from support.latent_sets import make_latent_set
from support.training_runs import identical, small_config, weights

from training.data import open_latent_set
from training.data.latent_set import LatentSet
from training.train import train
from training.train.checkpoints.reader import checkpoints
from training.train.checkpoints.run_folder import step_of
from training.train.config import ConfigError, HeldOutConfig
from training.train.held_out import HELD_OUT, HeldOut, choose, name_hashes
from training.train.history import HISTORY
from training.train.run import TrainingRun

SOME = ["--held_out.share=0.2", "--held_out.every=2"]


def names(count: int, start: int = 0) -> list[str]:
    return [f"cat/{number}.jpg" for number in range(start, start + count)]


def test_about_the_share_is_held_out_and_another_seed_holds_out_others() -> None:
    hashes = name_hashes(names(4000), seed=0)
    held_out = choose(hashes, np.zeros(4000, int), 0.05)
    assert 150 < held_out.sum() < 250
    other = choose(name_hashes(names(4000), seed=1), np.zeros(4000, int), 0.05)
    assert (held_out & other).sum() < 30


def test_every_class_that_can_spare_an_image_has_one_and_none_is_held_out_altogether() -> None:
    classes = np.repeat(np.arange(40), [1, 2, 3, 5] * 10)
    held_out = choose(name_hashes(names(len(classes)), 0), classes, 0.4)
    for class_id in range(40):
        of_class = held_out[classes == class_id]
        assert of_class.any() == (len(of_class) > 1)
        assert not of_class.all()


def test_the_place_of_an_image_in_the_set_does_not_matter() -> None:
    order = np.random.default_rng(0).permutation(200)
    hashes, classes = name_hashes(names(200), 0), np.arange(200) % 7
    there = choose(hashes[order], classes[order], 0.1)
    assert (choose(hashes, classes, 0.1)[order] == there).all()


class Images(NamedTuple):
    """What ``HeldOut.of`` asks of a latent set."""

    by_name: dict[str, int]

    def names(self) -> list[str]:
        return list(self.by_name)

    @property
    def class_ids(self) -> np.ndarray:
        return np.array(list(self.by_name.values()))


def held_out_of(images: dict[str, int], run: Path | None = None) -> HeldOut:
    config = HeldOutConfig(share=0.1)
    found = HeldOut.of(cast(LatentSet, Images(images)), config, 0, run)
    assert found is not None
    return found


def test_images_stay_what_they_were_when_a_set_changes(tmp_path: Path) -> None:
    images = {name: i % 20 for i, name in enumerate(names(60))}
    before = held_out_of(images)
    before.store(tmp_path)
    removed = {before.names[0], *names(60)[:7]}
    kept = {name: class_id for name, class_id in images.items() if name not in removed}
    added = {name: i % 25 for i, name in enumerate(names(300)[60:])}
    # A replaced image comes last, and a class may be another one.
    moved = {before.names[-1]: 24}
    after = held_out_of({**added, **kept, **moved}, tmp_path)
    assert {*after.names} & {*images} == {*before.names} - removed
    assert 10 < len({*after.names} & {*added}) < 40


def test_an_image_that_was_trained_on_is_never_held_out_later(tmp_path: Path) -> None:
    low, high = sorted(names(999), key=lambda name: name_hashes([name], 0)[0])[:2]
    alone = {**dict.fromkeys(names(60), 1), low: 0}
    run = held_out_of(alone)
    assert low not in run.names, "a class of one image is trained on"
    run.store(tmp_path)
    assert low not in held_out_of({**alone, high: 0}, tmp_path).names


def test_the_cost_of_measuring_is_bounded(data: Path, tmp_path: Path) -> None:
    config = HeldOutConfig(share=0.4, images=3)
    held_out = HeldOut.of(open_latent_set(data), config, 0)
    assert held_out is not None
    assert len(held_out.measured) == 3 < len(held_out.indices)
    assert set(held_out.measured) < set(held_out.indices)


def test_held_out_images_are_in_no_batch_and_are_named_in_the_folder(
    data: Path, tmp_path: Path
) -> None:
    run = TrainingRun(small_config(data, tmp_path, *SOME))
    assert run.held_out is not None
    packs = islice(run.examples.draws.epoch(0, 0, 0.5), 1000)
    seen = {example[1] for example, _ in packs}
    assert seen == {*range(48)} - {*run.held_out.indices.tolist()}
    assert json.loads((tmp_path / HELD_OUT).read_text("utf-8")) == {
        "held_out": list(run.held_out.names),
        "trained": [],
    }
    assert len(run.held_out.indices) >= 3


def test_measuring_changes_nothing_in_the_run_and_is_the_same_after_resuming(
    data: Path, tmp_path: Path
) -> None:
    often = small_config(data, tmp_path / "often", *SOME, "--checkpoints.every=3")
    rarely = small_config(data, tmp_path / "rarely", *SOME, "--held_out.every=100")
    resumed = small_config(data, tmp_path / "resumed", *SOME, "--steps=3")
    for config in (often, rarely, resumed):
        assert train(config) == 0
    more = [*SOME, "--resume=latest"]
    assert train(small_config(data, tmp_path / "resumed", *more)) == 0
    for name in ("often", "resumed"):
        assert identical(weights(tmp_path / name), weights(tmp_path / "rarely"))
    losses = [
        [
            line["held_out_loss"]
            for line in map(json.loads, (tmp_path / name / HISTORY).read_text().splitlines())
            if "held_out_loss" in line
        ]
        for name in ("often", "resumed")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 3


def test_a_set_that_can_spare_no_image_trains_on_all_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    single = make_latent_set(tmp_path / "latents", per_class=1)
    assert train(small_config(single, tmp_path / "run", *SOME)) == 0
    said = capsys.readouterr().out
    assert "3 images of 3 classes, 1 pack per step" in said
    assert "no image is held out: no class can spare one" in said


def test_another_share_is_refused_on_resume_and_another_rhythm_is_not(
    data: Path, tmp_path: Path
) -> None:
    train(small_config(data, tmp_path, "--steps=2"))
    with pytest.raises(ConfigError, match=r"held_out\.share: 0\.0 → 0\.2"):
        train(small_config(data, tmp_path, *SOME, "--resume=latest"))
    options = ["--held_out.every=7", "--resume=latest", "--steps=3"]
    assert train(small_config(data, tmp_path, *options)) == 0


def test_a_run_says_once_that_it_overfits_and_keeps_its_best_checkpoint(
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    losses = iter([1.5, 1.2, 1.3, 1.31, 1.32, 1.33, 1.34])
    monkeypatch.setattr(HeldOut, "loss", lambda *_: next(losses))
    options = ["--steps=70", "--held_out.share=0.2", "--held_out.every=10"]
    options += ["--checkpoints.every=10", "--checkpoints.keep=1"]
    assert train(small_config(data, tmp_path, *options)) == 0
    said = capsys.readouterr().out
    assert said.count("overfits since step 20: the held-out loss was 1.2000 there and is") == 1
    assert "--step 20" in said
    assert "held-out loss 1.3400, lowest 1.2000 at step 20" in said
    assert [step_of(path) for path in checkpoints(tmp_path)] == [20, 70]
    assert "Overfits since step 20" in (tmp_path / "index.html").read_text("utf-8")
