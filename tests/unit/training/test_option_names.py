"""Options as other trainers call them: taken, or explained in one line."""

import dataclasses
from typing import Any

import pytest

from training.command_line import OptionError
from training.evaluate import EvaluateOptions
from training.evaluate import main as evaluate
from training.option_names import OptionNames, own_names
from training.prepare import PrepareOptions
from training.prepare import main as prepare
from training.prepare.option_names import NAMES as PREPARE_NAMES
from training.sample.option_names import NAMES as SAMPLE_NAMES
from training.train import main
from training.train.config_parser import parse_config
from training.train.option_names import NAMES

PLACE = ["--data", "latents", "--output", "runs/mine"]
OTHER = OptionNames(
    same={"lr": "rate", "bf16": "precision=bf16"},
    values={"lr": {"auto": "1"}},
    hints={"epochs": "count steps."},
)


@pytest.mark.parametrize(
    ("words", "own"),
    [
        (["--lr", "2", "x"], ["--rate", "2", "x"]),
        (["--LR=2", "--other=lr"], ["--rate=2", "--other=lr"]),
        (["--lr", "auto", "auto"], ["--rate", "1", "auto"]),
        (["--lr=auto", "--other", "auto"], ["--rate=1", "--other", "auto"]),
        (["--bf16", "lr", "-1"], ["--precision=bf16", "lr", "-1"]),
    ],
)
def test_only_names_of_options_and_their_own_values_change(
    words: list[str], own: list[str]
) -> None:
    assert own_names(words, OTHER) == own


def test_an_option_that_works_in_another_way_is_explained() -> None:
    for word in ("--epochs", "--epochs=3"):
        with pytest.raises(OptionError, match=r"^--epochs: count steps\.$"):
            own_names([word], OTHER)


def test_a_training_is_described_with_the_words_of_other_trainers() -> None:
    words = "--pretrained_model_name_or_path base.safetensors --output_dir=runs/other --lr 2e-4 "
    words += "--max_train_steps 70 --gradient_accumulation_steps 2 --mixed_precision no "
    words += "--lr_scheduler constant_with_warmup --lr-warmup-steps 5 --rank 4 --seed 3 "
    words += "--checkpointing_steps 10 --gradient_checkpointing --max_grad_norm 2"
    config = parse_config(["--data", "latents", *words.split()])
    assert (config.init, config.output, config.steps) == ("base.safetensors", "runs/other", 70)
    assert (config.optimizer.learning_rate, config.optimizer.warmup_steps) == (2e-4, 5)
    assert (config.optimizer.schedule, config.optimizer.gradient_clip) == ("constant", 2)
    assert (config.batch.accumulation, config.precision, config.seed) == (2, "fp32", 3)
    assert (config.lora.rank, config.checkpoints.every) == (4, 10)
    assert config.activation_checkpointing


@pytest.mark.parametrize("name", sorted(NAMES.same))
def test_every_other_name_stands_for_an_option(name: str) -> None:
    """Its value is of no kind that any option takes, so the message must name the option."""
    own, _, value = NAMES.same[name].partition("=")
    assert name not in NAMES.hints
    if own in ("init", "output", "config", "logging.tracker", "activation-checkpointing") or value:
        return
    with pytest.raises(OptionError, match=f"--{own}"):
        parse_config(["--config=tiny", *PLACE, f"--{name}", "\N{SNOWMAN}"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch_size", "16"], "--batch_size: a step takes --batch.token-budget tokens"),
        (["--train_batch_size=16"], "16 images of 256 x 256 are --batch.token-budget 4096"),
        (["--epochs", "10"], "--epochs: training is counted in steps: --steps N"),
        (["--num_train_epochs", "10"], "--steps N"),
        (["--resolution", "512"], "python -m training.prepare --resolution S"),
        (["--instance_data_dir", "x"], "python -m training.prepare --images FOLDER"),
        (["--mixed_precision", "fp16"], "invalid choice 'fp16'"),
        (["--fp16"], "--precision bf16 or fp32"),
        (["--resume_from_checkpoint", "latest"], "--resume latest resumes the run in --output"),
        (["--learning-rate", "fast"], "--optimizer.learning-rate: could not convert"),
    ],
)
def test_what_works_in_another_way_is_explained_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "tiny", *PLACE, *options]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "names"), [(PrepareOptions, PREPARE_NAMES), (EvaluateOptions, SAMPLE_NAMES)]
)
def test_other_names_for_the_other_commands_stand_for_their_options(
    options: Any, names: OptionNames
) -> None:
    own = {field.name.replace("_", "-") for field in dataclasses.fields(options)}
    assert set(names.same.values()) <= own
    assert not own & {*names.same, *names.hints}


def test_the_other_commands_take_and_explain_other_names(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert prepare(["--train_data_dir", "nowhere", "--output_dir", "x", "--center-crop"]) == 2
    assert "--center-crop: images keep their aspect ratio" in capsys.readouterr().err
    words = ["--ckpt", "nowhere", "--size", "256x256", "--output", "x", "--reference", "y"]
    assert evaluate([*words, "--cfg-scale", "much"]) == 2
    assert "--guidance-scale" in capsys.readouterr().err
    assert evaluate([*words, "--prompt", "a cat"]) == 2
    assert "--prompt: a FiT draws classes" in capsys.readouterr().err
