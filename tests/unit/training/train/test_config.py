"""Configurations: shipped ones are right, and a mistake is answered with what was meant."""

import ast
import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

from comfyui_fitv2 import FiTConfig
from training.train import config as config_module
from training.train import main
from training.train.config import ConfigError, ModelConfig, differences
from training.train.config_parser import config_from_dict, config_names, parse_config

PLACE = ["--data", "latents", "--output", "runs/mine"]


@pytest.mark.parametrize("name", [name for name in config_names() if name != "tiny"])
def test_a_published_configuration_is_the_published_model(name: str) -> None:
    config = parse_config(["--config", name, *PLACE])
    assert config.model is not None
    assert config.model.fit(1000, 4) == FiTConfig.preset(name)
    assert (
        config.optimizer.learning_rate,
        config.optimizer.betas,
        config.optimizer.weight_decay,
    ) == (1e-4, (0.9, 0.999), 0.0)
    assert (config.optimizer.warmup_steps, config.optimizer.gradient_clip) == (5000, 1.0)
    assert (config.flow.label_drop, config.flow.timesteps, config.flow.loss, config.ema_decays) == (
        0.1,
        "logit-normal",
        "image",
        [0.9999],
    )
    high_resolution = name.endswith("-hr")
    assert config.steps == {"fitv2-xl": 2_000_000, "fitv2-3b": 1_000_000}.get(name, 400_000)
    assert config.trainable == (
        ["biases", "adaln", "patch_embedder", "final_layer"] if high_resolution else "all"
    )


def test_all_sizes_are_shipped() -> None:
    assert {
        "tiny",
        *(name for name in ("fitv2-b", "fitv2-xl", "fitv2-3b", "fitv2-xl-hr", "fitv2-3b-hr")),
    } == set(config_names())


def test_the_model_is_configured_as_fit_is() -> None:
    decided_by_data = {"num_classes", "in_channels"}
    fields = {
        f.name: f.default for f in dataclasses.fields(FiTConfig) if f.name not in decided_by_data
    }
    assert {f.name: f.default for f in dataclasses.fields(ModelConfig)} == fields


def test_every_field_says_what_it_means() -> None:
    for node in ast.parse(inspect.getsource(config_module)).body:
        if isinstance(node, ast.ClassDef) and node.name.endswith("Config"):
            for field, after in zip(node.body, node.body[1:], strict=False):
                if isinstance(field, ast.AnnAssign):
                    assert isinstance(after, ast.Expr), (
                        f"{node.name}.{ast.unparse(field.target)} has no docstring"
                    )


def test_help_shows_what_fields_mean(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_config(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert (
        "Probability that an image is seen without its class, for guidance. (type: float, default: 0.1)"
        in shown
    )


def test_later_files_and_options_win(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text(
        "steps: 7\noptimizer: {learning_rate: 3.0e-4, multipliers: {y_embedder: 5}}\n",
        encoding="utf-8",
    )
    config = parse_config(
        [
            "--config",
            "tiny",
            f"--config={own}",
            *PLACE,
            "--optimizer.learning_rate",
            "2e-4",
            "--batch.packing=padded",
        ]
    )
    assert (
        config.steps,
        config.optimizer.learning_rate,
        config.optimizer.multipliers,
        config.batch.packing,
    ) == (7, 2e-4, {"y_embedder": 5.0}, "padded")
    assert config.batch.token_budget == 4096


@pytest.mark.parametrize("name", config_names())
def test_a_stored_configuration_is_read_back_the_same(name: str) -> None:
    config = parse_config(
        ["--config", name, *PLACE, "--optimizer.multipliers", r'{"blocks\\.0\\.": 2}']
    )
    assert config_from_dict(yaml.safe_load(yaml.safe_dump(config.to_dict()))) == config


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--step", "5"], "--step: there is no such option. Did you mean --steps?"),
        (["--learning_rate", "1"], "Did you mean --optimizer.learning_rate?"),
        (["--batch.tokens_budget=5"], "Did you mean --batch.token_budget?"),
        (
            ["--config", "fitv2_xl"],
            "neither a file nor a configuration of ours. Did you mean fitv2-xl?",
        ),
        (["--steps", "many"], '"steps": Expected a <class .int.>. Got value: many'),
        (["--steps", "1.5"], "Got value: 1.5"),
        (["--batch.packing", "packing"], r"Expected .*\['packed', 'padded'\]. Got value: packing"),
        (["--flow.label_drop", "10"], "flow.label_drop is a probability, from 0 to 1, not 10"),
        (["--optimizer.learning_rate", "0"], "optimizer.learning_rate must be above 0"),
        (["--checkpoints.keep", "0"], "checkpoints.keep must be 1 or more"),
        (["--ema_decays", "[1]"], "different numbers between 0 and 1"),
        (["--lora.rank", "4"], "name it by --init"),
        (["--lora.rank", "4", "--init", "x", "--trainable", "[biases]"], "exclude each other"),
        (["--config"], "--config needs a name or a file"),
        (["5"], "unrecognized arguments: 5"),
    ],
)
def test_mistakes_on_the_command_line_are_explained_in_one_line(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_config(["--config", "tiny", *PLACE, *options])
    assert main(["--config", "tiny", *PLACE, *options]) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stepz: 5", "there is no key stepz. Did you mean steps?"),
        ("optimizer: {lr: 5, learning_rat: 1}", r"no key optimizer.lr"),
        ("batch: {token_budjet: 5}", "Did you mean batch.token_budget?"),
        ("model: {hidden_sise: 5}", "Did you mean model.hidden_size?"),
        ("optimizer: {betas: [0.9]}", "betas"),
        ("steps: [1", "not YAML"),
        ("- 5", "holds list, not keys and values"),
    ],
)
def test_mistakes_in_a_file_are_explained(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "own.yaml"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        parse_config(["--config", "tiny", "--config", str(file), *PLACE])


def test_without_a_model_a_checkpoint_is_needed() -> None:
    with pytest.raises(ConfigError, match="There is nothing to train"):
        parse_config(PLACE)
    assert parse_config([*PLACE, "--init", "some.safetensors"]).model is None


def test_a_run_may_go_on_longer_and_be_watched_otherwise_but_not_be_another() -> None:
    before = parse_config(["--config", "tiny", *PLACE])
    same = dataclasses.replace(
        before,
        steps=9,
        resume="latest",
        data="/elsewhere",
        samples=dataclasses.replace(before.samples, every=0),
    )
    assert differences(before.to_dict(), same.to_dict()) == []
    other = dataclasses.replace(
        before, seed=1, optimizer=dataclasses.replace(before.optimizer, betas=(0.8, 0.9))
    )
    assert differences(before.to_dict(), other.to_dict()) == [
        "seed: 0 → 1",
        "optimizer.betas: [0.9, 0.99] → [0.8, 0.9]",
    ]
