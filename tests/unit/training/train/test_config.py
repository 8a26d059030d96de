"""Configurations: what is shipped, how files and options combine, and how mistakes are answered."""

import ast
import dataclasses
import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from comfyui_fitv2 import FiTConfig
from training.command_line import OptionError
from training.train import config as config_module
from training.train import main
from training.train.config import (
    ConfigError,
    TrainingConfig,
    changed_hyperparameters,
    differences,
)
from training.train.config_parser import config_from_dict, config_names, parse_config

PLACE = ["--data", "latents", "--output", "runs/mine"]
PUBLISHED = [name for name in config_names() if name.startswith("fitv2")]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_configuration_is_the_published_recipe(name: str) -> None:
    config = parse_config(["--config", name, *PLACE])
    assert config.model is not None
    assert config.model.for_data(1000, 4) == FiTConfig.preset(name)
    optimizer, flow = config.optimizer, config.flow
    assert (optimizer.learning_rate, optimizer.betas) == (1e-4, (0.9, 0.999))
    assert (optimizer.weight_decay, optimizer.gradient_clip) == (0.0, 1.0)
    assert optimizer.warmup_steps == (0 if name.endswith("-hr") else 5000)
    assert (flow.label_drop, flow.timesteps, flow.loss) == (0.1, "logit-normal", "image")
    assert config.ema_decays == (0.9999,)
    steps = {"fitv2-xl": 2_000_000, "fitv2-3b": 1_000_000, "fitv2-3b-hr": 200_000}
    assert config.steps == steps.get(name, 400_000)
    trained = ("biases", "adaln", "patch_embedder", "final_layer")
    assert config.trainable == (trained if name.endswith("-hr") else "all")


def test_every_field_has_a_docstring() -> None:
    for node in ast.parse(inspect.getsource(config_module)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for field, after in zip(node.body, [*node.body[1:], None], strict=True):
                if isinstance(field, ast.AnnAssign) and "Suppress" not in ast.unparse(field):
                    name = f"{node.name}.{ast.unparse(field.target)}"
                    assert isinstance(after, ast.Expr), f"{name} has no docstring"


def test_help_shows_what_fields_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    shown = " ".join(capsys.readouterr().out.replace("│", "").split())
    for text in (
        "--flow.label-drop FLOAT Probability of training an image without its class",
        "--model.hidden-size INT Width of a token",
        "--model.preset STR A published size to start from",
        "--lora.rank INT Rank of each adapter",
        "--config",
    ):
        assert text in shown
    assert "num-classes" not in shown


def test_later_files_and_options_win(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    text = "steps: 7\noptimizer: {learning_rate: 3.0e-4, multipliers: {y_embedder: 5}}\n"
    own.write_text(text, encoding="utf-8")
    options = ["--optimizer.learning_rate", "2e-4", "--batch.packing=padded"]
    config = parse_config(["--config", "tiny", *options, f"--config={own}", *PLACE])
    assert (config.steps, config.optimizer.learning_rate) == (7, 2e-4)
    assert config.optimizer.multipliers == {"y_embedder": 5.0}
    assert (config.batch.packing, config.batch.token_budget) == ("padded", 4096)


def test_ratios_in_a_file_need_no_quotes(tmp_path: Path) -> None:
    """YAML 1.1 takes them for numbers to base 60: 3:2 is 182."""
    file = tmp_path / "own.yaml"
    file.write_text("steps: 1_000\nsamples:\n  sizes: [1:1, 3:2, 16:9, 1.5x]\n", encoding="utf-8")
    config = parse_config(["--config", "tiny", "--config", str(file), *PLACE])
    assert config.samples.sizes == ("1:1", "3:2", "16:9", "1.5x")
    assert config.steps == 1000


def test_a_preset_gives_what_is_not_given_itself(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("steps: 2\nmodel: {depth: 3, preset: fitv2-xl-hr}", encoding="utf-8")
    config = parse_config(["--config", str(own), *PLACE, "--model.train-length", "32"])
    assert config.model is not None
    expected = dataclasses.replace(FiTConfig.preset("fitv2-xl-hr"), depth=3, train_length=32)
    assert config.model.for_data(1000, 4) == expected


def test_options_as_they_were_spelt_before_are_read() -> None:
    words = ["--init_classes", "id", "--ema_decays", "0.5", "0.9", "--optimizer.warmup_steps=3"]
    config = parse_config([*PLACE, "--init", "base.safetensors", "--steps=2", *words])
    assert (config.init_classes, config.ema_decays) == ("id", (0.5, 0.9))
    assert (config.optimizer.warmup_steps, config.model) == (3, None)


@pytest.mark.parametrize("spelling", ["--print-config", "--print_config"])
def test_the_resolved_configuration_is_printed_as_yaml(
    spelling: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exit:
        parse_config(["--config", "tiny", spelling, "--steps=7"])
    assert exit.value.code == 0
    printed = yaml.safe_load(capsys.readouterr().out)
    assert (printed["steps"], printed["model"]["hidden_size"]) == (7, 256)


@pytest.mark.parametrize("name", config_names())
def test_a_stored_configuration_is_read_back_the_same(name: str) -> None:
    more = ["--optimizer.multipliers", r"blocks\.0\.", "2", "y", "3", "--flow.mean=-0.5"]
    more += ["--logging.no-utilisation", "--checkpoints.milestones", "--flow.mean", "-1"]
    init = ["--init=base.safetensors"] if name in ("fine-tune", "lora") else []
    config = parse_config(["--config", name, *PLACE, *init, *more])
    stored = yaml.safe_load(yaml.safe_dump(config.to_dict()))
    assert config_from_dict(stored, "it") == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "5"], r"options: --step, 5 .*Perhaps you meant: .*--steps INT"),
        (["--batch.tokens_budget", "5"], r"--batch.token-budget INT"),
        (["--steps", "many"], r"--steps: invalid literal for int.*'many'"),
        (["--steps", "1.5"], r"invalid literal for int.*'1.5'"),
        (["--batch.packing", "packing"], r"invalid choice 'packing' .*--batch.packing"),
        (["--trainable", "bias"], r"invalid choice 'bias' .*--trainable"),
        (["5"], "Unrecognized options: 5"),
        (["--config"], "argument --config: expected one argument"),
        (["--model.preset"], "argument --model.preset: expected one argument"),
    ],
)
def test_options_that_cannot_be_read_are_answered_with_what_was_meant(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "tiny", *PLACE, *options]) == 2
    error = capsys.readouterr().err
    assert re.match(rf"error: .*{message}", error), error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--config", "fitv2_xl"], "no configuration with that name. Did you mean fitv2-xl?"),
        (["--flow.label_drop", "10"], "flow.label_drop must be from 0 to 1, not 10"),
        (["--optimizer.learning_rate", "0"], "optimizer.learning_rate must be above 0, not 0"),
        (["--optimizer.multipliers", "y", "-1"], "multipliers: 'y' must be above 0, not -1"),
        (["--optimizer.multipliers", "*bias*", "2"], "'*bias*' is no regular expression (nothing"),
        (["--optimizer.betas", "0.9", "1"], "betas must be two numbers from 0 to below 1, not 0.9"),
        (["--samples.seed", "-1"], "samples.seed must be 0 or more, not -1"),
        (["--checkpoints.keep", "0"], "checkpoints.keep must be 1 or more, not 0"),
        (["--ema_decays", "1"], "different numbers between 0 and 1"),
        (["--ema_decays"], "different numbers between 0 and 1"),
        (["--lora.rank", "4"], "name it with --init"),
        (["--lora.alpha", "4"], "lora is off while its rank is 0"),
        (["--lora.rank", "4", "--init", "x", "--trainable", "biases"], "exclude each other"),
        (
            ["--lora.rank", "4", "--init", "x", "--lora.targets", "(attn"],
            "lora.targets: '(attn' is no",
        ),
        (["--lora.rank", "4", "--init", "x", "--init-classes", "new"], "learns no new classes"),
        (["--init-pairs", "a", "b"], "use it with --init"),
        (["--init", "x", "--init-classes", "id", "--init-pairs", "a", "b"], "--init-classes."),
        (["--model.num_heads=3"], "256 is not divisible by num_heads 3"),
        (["--model.patch_size=4"], "model: FiTConfig.patch_size"),
        (["--model.extrapolation=tnk"], "'tnk'"),
        (["--model.preset", "fitv2-l"], "Unknown preset 'fitv2-l'"),
    ],
)
def test_values_that_cannot_be_used_are_explained_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--config", "tiny", *PLACE, *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 5", r"own.yaml: .*options: --stepz, 5 .*Perhaps you meant: .*--steps INT"),
        ("optimizer: {rat: 5, betas: [0.8, 0.9]}", r"own.yaml: .*options: --optimizer.rat, 5"),
        ("batch_size: 16", r"own.yaml: --batch-size: .*--batch.token-budget 4096"),
        ("optimzer: {eps: 5}", r"own.yaml: .*options: --optimzer.eps, 5 .*--optimizer.eps FLOAT"),
        ("model: {hidden_sise: 5}", r"own.yaml: .*--model.hidden-size INT"),
        ("optimizer: {betas: [0.9]}", r"own.yaml: .*--optimizer.betas"),
        ("resume: no", r"own.yaml: .*options: --no-resume"),
    ],
)
def test_mistakes_in_a_file_name_the_file(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(OptionError, match=message) as error:
        parse_config(["--config", "tiny", "--config", str(file), *PLACE])
    assert "tiny.yaml" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [("steps: [1", "own.yaml: not YAML"), ("- 5", "own.yaml: holds list, not keys and values")],
)
def test_a_file_that_is_no_configuration_is_refused(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        parse_config(["--config", str(file), *PLACE])


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    file = tmp_path / "own.yaml"
    file.write_bytes("samples: {vae: Côte}".encode("cp1252"))
    with pytest.raises(ConfigError, match=r"own.yaml: not UTF-8 \(.*Save it as UTF-8"):
        parse_config(["--config", str(file), *PLACE])


def test_a_dictionary_that_is_no_configuration_is_refused_by_its_origin() -> None:
    place = {"data": "x", "output": "y", "init": "z"}
    with pytest.raises(ConfigError, match=r"study: .*--stepz, 5 .*--steps INT"):
        config_from_dict({**place, "stepz": 5}, "study")
    with pytest.raises(ConfigError, match=r"study: steps must be 1 or more, not 0"):
        config_from_dict({**place, "steps": 0}, "study")


def test_without_a_model_a_checkpoint_is_needed() -> None:
    with pytest.raises(ConfigError, match="There is nothing to train"):
        parse_config(PLACE)
    assert parse_config([*PLACE, "--init", "some.safetensors", "--steps=2"]).model is None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--init", "x"], "--init does not say how long to train.*--config fine-tune"),
        (["--init", "x", "--lora.rank", "4"], "--lora.rank 16 does not say.*--config lora"),
        (["--model.preset", "fitv2-b"], "How long to train is not given: set --steps"),
    ],
)
def test_a_run_without_a_number_of_steps_is_refused(options: list[str], message: str) -> None:
    """Nobody who adds a checkpoint means the two million steps of the published recipe."""
    with pytest.raises(ConfigError, match=message):
        parse_config([*PLACE, *options])
    assert parse_config([*PLACE, *options, "--steps=7"]).steps == 7


@pytest.mark.parametrize(("name", "rank"), [("fine-tune", 0), ("lora", 16)])
def test_the_recipes_for_a_checkpoint_need_one_and_train_for_minutes(name: str, rank: int) -> None:
    with pytest.raises(ConfigError, match="--init"):
        parse_config(["--config", name, *PLACE])
    config = parse_config(["--config", name, *PLACE, "--init", "x"])
    assert (config.model, config.lora.rank) == (None, rank)
    assert config.steps <= 2000
    assert config.optimizer.warmup_steps < config.steps / 5
    assert config.checkpoints.every < config.steps
    assert config.samples.every < config.steps
    # An average that is as old as half the run would be of the checkpoint that it starts from.
    assert all(1 / (1 - decay) < config.steps / 2 for decay in config.ema_decays)


def test_an_earlier_run_of_the_default_length_resumes_with_the_same_command() -> None:
    """It stored train_length 16, which was the default; now the latent set decides it."""
    stored = config_of_tiny().to_dict()
    stored["model"]["train_length"] = 16
    before = config_from_dict(stored, "it")
    assert differences(before, config_of_tiny()) == []
    assert before.model is not None
    assert config_of_tiny().model is not None
    longer = dataclasses.replace(before.model, train_length=32)
    assert differences(before, config_of_tiny(model=longer)) == ["model.train_length: 16 → 32"]


def config_of_tiny(**changes: Any) -> TrainingConfig:
    return dataclasses.replace(parse_config(["--config", "tiny", *PLACE]), **changes)


def test_a_run_may_be_resumed_for_longer_and_watched_in_another_way() -> None:
    before = config_of_tiny()
    samples = dataclasses.replace(before.samples, every=0)
    same = config_of_tiny(steps=9, resume="latest", data="/elsewhere", samples=samples)
    assert differences(before, same) == []


def test_a_run_may_not_be_resumed_as_another() -> None:
    before = config_of_tiny()
    flow = dataclasses.replace(before.flow, shift=2.0)
    optimizer = dataclasses.replace(before.optimizer, betas=(0.8, 0.9))
    now = config_of_tiny(seed=1, flow=flow, optimizer=optimizer)
    assert differences(before, now) == ["seed: 0 → 1", "flow.shift: 1.0 → 2.0"]
    changed = ["optimizer.betas: [0.9, 0.99] → [0.8, 0.9]"]
    assert changed_hyperparameters(before.to_dict(), now) == changed
    assert not changed_hyperparameters({"from": {"an": "earlier version"}}, now)
