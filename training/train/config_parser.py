"""From YAML files and the command line to a ``TrainingConfig``, or to one line that says which key is wrong and which is meant."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml
from jsonargparse import ArgumentError, ArgumentParser, set_parsing_settings

from .config import ConfigError, TrainingConfig

CONFIGS = Path(__file__).parents[1] / "configs"
_OWN_OPTIONS = ("config", "help", "print_config")

set_parsing_settings(docstring_parse_attribute_docstrings=True)


def parse_config(arguments: Sequence[str]) -> TrainingConfig:
    """The configuration of a command line, such as ``["--config", "tiny", "--data", "latents", "--output", "runs/mine"]``.

    Raises ``ConfigError``; ``--help`` and ``--print_config`` print and exit.
    """
    arguments = _with_paths(list(arguments))
    _refuse_unknown_options(arguments)
    parser = _parser()
    try:
        values = parser.parse_args(arguments)
        return TrainingConfig(
            **{
                key: value
                for key, value in vars(parser.instantiate(values)).items()
                if key != "config"
            }
        )
    except (ArgumentError, TypeError) as error:
        raise ConfigError(_one_line(error)) from None


def config_from_dict(values: Mapping[str, Any]) -> TrainingConfig:
    """The reverse of ``TrainingConfig.to_dict``. Raises ``ConfigError``."""
    _refuse_unknown_keys(values, "The configuration")
    parser = _parser()
    try:
        return TrainingConfig(
            **{
                k: v
                for k, v in vars(parser.instantiate(parser.parse_object(dict(values)))).items()
                if k != "config"
            }
        )
    except (ArgumentError, TypeError) as error:
        raise ConfigError(_one_line(error)) from None


def config_names() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="python -m training.train",
        description="Train a FiT on a latent set.",
        exit_on_error=False,
    )
    parser.add_argument(
        "--config", action="config", help=f"A YAML file, or one of {', '.join(config_names())}."
    )
    parser.add_class_arguments(TrainingConfig)
    return parser


def _with_paths(arguments: list[str]) -> list[str]:
    """``arguments`` with the files that ``--config`` names, their keys checked."""
    for i, argument in enumerate(arguments):
        option, equals, value = argument.partition("=")
        if option != "--config":
            continue
        if not equals and i + 1 == len(arguments):
            raise ConfigError(
                f"--config needs a name or a file. Names: {', '.join(config_names())}."
            )
        path = _config_file(value if equals else arguments[i + 1])
        _refuse_unknown_keys(_read_yaml(path), str(path))
        arguments[i + (not equals)] = f"--config={path}" if equals else str(path)
    return arguments


def _config_file(name: str) -> Path:
    named = CONFIGS / f"{name}.yaml"
    path = named if name in config_names() else Path(name)
    if not path.is_file():
        ours = ", ".join(config_names())
        raise ConfigError(
            f"--config {name}: neither a file nor a configuration of ours.{_nearest(name, config_names())} There are: {ours}."
        )
    return path


def _read_yaml(path: Path) -> Mapping[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({_one_line(error)}).") from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: holds {type(content).__name__}, not keys and values.")
    return content


def _refuse_unknown_options(arguments: Sequence[str]) -> None:
    known = set(_names(TrainingConfig))
    for argument in arguments:
        option = argument.partition("=")[0]
        name = option.removeprefix("--").removesuffix("+")
        if option.startswith("--") and name not in _OWN_OPTIONS and not _is_known(name, known):
            raise ConfigError(f"{option}: there is no such option.{_nearest(name, known, '--')}")


def _refuse_unknown_keys(values: Mapping[str, Any], where: str, prefix: str = "") -> None:
    known = set(_names(TrainingConfig))
    for key, value in values.items():
        name = f"{prefix}{key}"
        if not _is_known(name, known):
            raise ConfigError(f"{where}: there is no key {name}.{_nearest(name, known)}")
        if isinstance(value, Mapping) and any(other.startswith(f"{name}.") for other in known):
            _refuse_unknown_keys(value, where, f"{name}.")


def _names(config: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all fields and groups."""
    for name, hint in get_type_hints(config).items():
        yield f"{prefix}{name}"
        for inner in (hint, *get_args(hint)):
            if dataclasses.is_dataclass(inner) and isinstance(inner, type):
                yield from _names(inner, f"{prefix}{name}.")


def _is_known(name: str, known: set[str]) -> bool:
    # Below a dictionary any key goes, and what follows a class's .help is help.
    return (
        name in known
        or name.startswith("optimizer.multipliers.")
        or (name.endswith(".help") and name.removesuffix(".help") in known)
    )


def _nearest(name: str, known: Sequence[str] | set[str], prefix: str = "") -> str:
    """A sentence that offers the nearest name, by its whole or by its last part, or nothing."""
    by_last_part = {other.rpartition(".")[2]: other for other in sorted(known)}
    whole = get_close_matches(name, sorted(known), n=1, cutoff=0.7)
    last = get_close_matches(name.rpartition(".")[2], by_last_part, n=1)
    found = whole or [by_last_part[part] for part in last]
    return f" Did you mean {prefix}{found[0]}?" if found else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
