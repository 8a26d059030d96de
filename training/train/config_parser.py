"""From YAML files and the command line to a ``TrainingConfig``.

A key of a YAML file is an option: a file is turned into command-line words, and ``command_line``
reads them all. So there is one set of names, types and error messages, with closest matches.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from difflib import get_close_matches
from itertools import chain
from pathlib import Path
from typing import Any, get_args, get_type_hints

import yaml

from ..command_line import OptionError, parse_options
from ..option_names import own_names
from .config import ConfigError, FiTConfig, ModelConfig, TrainingConfig
from .option_names import NAMES

CONFIGS = Path(__file__).parents[1] / "configs"
PROG = "python -m training.train"

_RENAMED = {"samples.cfg_scale": "guidance_scale"}
"""Keys in files of earlier versions, and their present names within the same group."""


@dataclass(frozen=True, kw_only=True)
class _CommandLine(TrainingConfig):
    """Train a FiT on a latent set."""

    config: tuple[str, ...] = ()
    """YAML files, or names of training/configs such as tiny. A later --config wins over an earlier
    one, and options win over both. Repeat the option for several files."""
    print_config: bool = False
    """Print the resolved configuration as YAML, and exit."""
    plan: bool = False
    """Measure some steps and print what the run would take: memory, time, epochs, disk. Nothing is
    written."""
    price_per_hour: float | None = None
    """With --plan: the price of an hour on this machine, for the cost of the run."""

    def __post_init__(self) -> None:
        """Nothing: the values are checked when they are all together, by ``TrainingConfig``."""


@dataclass(frozen=True, kw_only=True)
class _CommandLineWithModel(_CommandLine):
    """Train a FiT on a latent set."""

    model: ModelConfig = field()


def parse_config(argv: Sequence[str], defaults: Sequence[str] = ()) -> TrainingConfig:
    """The configuration that a command line describes, such as ["--config", "tiny", …].

    ``defaults`` are options that files and command line win over.

    Raises ``SystemExit`` with status 0 after ``--help`` and ``--print-config``, ``OptionError`` on
    options that cannot be read, and ``ConfigError`` on a ``--config`` that is no readable YAML file
    and on values that cannot be used. Options may have the names that other trainers give them.
    """
    argv = own_names(argv, NAMES)
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--config", action="append", default=[])
    own.add_argument("--print-config", "--print_config", action="store_true")
    try:
        options, argv = own.parse_known_args(argv)
    except argparse.ArgumentError as error:
        raise OptionError(str(error)) from None
    files = {path: _file_words(path) for path in map(_file, options.config)}
    # The folders do not matter where the configuration is only printed.
    folders = ["--data=", "--output="] if options.print_config else []
    try:
        config = _parse([*defaults, *folders, *chain.from_iterable(files.values()), *argv])
    except OptionError as error:
        origins = [f"{path}: " for path in _blamed(str(error), files, argv)]
        raise OptionError(f"{''.join(origins)}{error}") from None
    if options.print_config:
        print(yaml.safe_dump(config.to_dict(), sort_keys=False, allow_unicode=True), end="")
        raise SystemExit(0)
    if not any(_option(word) == "--steps" for word in chain(*files.values(), argv)):
        raise ConfigError(_no_steps(config))
    return config


def config_from_dict(values: Mapping[str, Any], origin: str) -> TrainingConfig:
    """The reverse of ``TrainingConfig.to_dict``; reads what earlier versions wrote, too.

    Raises ``ConfigError``, which names ``origin``, on unknown keys and unusable values.
    """
    try:
        return _parse(_words(values, TrainingConfig))
    except (OptionError, ConfigError) as error:
        raise ConfigError(f"{origin}: {error}") from None


def config_names() -> list[str]:
    return sorted(path.stem for path in CONFIGS.glob("*.yaml"))


def _no_steps(config: TrainingConfig) -> str:
    if not config.init:
        return "How long to train is not given: set --steps, such as 2000."
    lora = " --lora.rank 16" if config.lora.rank else ""
    return (
        f"--init{lora} does not say how long to train, and how fast: add --config fine-tune, "
        "--config lora or a file of your own, or set --steps, such as 1000."
    )


def _parse(words: Sequence[str]) -> TrainingConfig:
    words = _with_preset(words)
    model = any(word.startswith("--model.") or word in ("-h", "--help") for word in words)
    options = parse_options(_CommandLineWithModel if model else _CommandLine, words, prog=PROG)
    return TrainingConfig(**{f.name: getattr(options, f.name) for f in fields(TrainingConfig)})


def _blamed(message: str, files: dict[Path, list[str]], argv: Sequence[str]) -> Iterator[Path]:
    """The files with an option that ``message`` complains of, and that nothing later replaces."""
    complaint = message.partition("Perhaps you meant")[0]
    replaced = {_option(word) for word in argv}
    for path, words in reversed(files.items()):
        own = {word for word in words if word.startswith("--")}
        if any(re.search(rf"{re.escape(word)}\b", complaint) for word in own - replaced):
            yield path
        replaced |= own


def _option(word: str) -> str:
    return word.partition("=")[0].replace("_", "-")


def _with_preset(words: Sequence[str]) -> list[str]:
    """``words`` after those that the fields of the last ``--model.preset`` stand for."""
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--model.preset", dest="preset", default="")
    try:
        preset = own.parse_known_args(words)[0].preset
    except argparse.ArgumentError as error:
        raise OptionError(str(error)) from None
    if not preset:
        return list(words)
    values = {f.name: getattr(FiTConfig.preset(preset), f.name) for f in fields(FiTConfig)}
    del values["num_classes"], values["in_channels"]
    if values["extrapolation"] == "none":  # then it decides no weights, and the latent set says it
        del values["train_length"]
    return [*_words({"model": values}, TrainingConfig), *words]


def _file(name: str) -> Path:
    names = config_names()
    path = CONFIGS / f"{name}.yaml" if name in names else Path(name)
    if not path.is_file():
        nearest = get_close_matches(name, names, n=1)
        meant = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ConfigError(
            f"--config {name}: no such file, and no configuration with that name.{meant} "
            f"There are: {', '.join(names)}."
        )
    return path


def _file_words(path: Path) -> list[str]:
    words = _words(read_yaml(path), TrainingConfig)
    try:
        return own_names(words, NAMES)
    except OptionError as error:
        raise OptionError(f"{path}: {error}") from None


class _Loader(yaml.SafeLoader):
    """Reads 3:2 as a text. YAML 1.1 takes it for a number to base 60, which is 182."""

    def resolve(self, kind: type[yaml.Node], value: str, implicit: tuple[bool, bool]) -> str:
        tag = super().resolve(kind, value, implicit)
        is_number = tag in ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")
        return self.DEFAULT_SCALAR_TAG if is_number and ":" in value else tag


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The keys and values of a YAML file. Raises ``ConfigError``, which names it, for any other."""
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 ({error.reason}). Save it as UTF-8.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}).") from None
    if not isinstance(content, Mapping):
        raise ConfigError(f"{path}: holds {type(content).__name__}, not keys and values.")
    return content


def _words(values: Mapping[str, Any], group: Any, prefix: str = "") -> list[str]:
    """The command-line words that stand for ``values`` of the dataclass ``group``."""
    hints = get_type_hints(group) if group else {}
    words: list[str] = []
    for key, value in values.items():
        name = _RENAMED.get(f"{prefix}{key}", str(key))
        hint = hints.get(name)
        inner = next((t for t in (hint, *get_args(hint)) if is_dataclass(t)), None)
        option = f"--{prefix}{name}".replace("_", "-")
        if isinstance(value, Mapping) and (inner or name not in hints):
            words += _words(value, inner, f"{prefix}{name}.")
        elif isinstance(value, bool):
            words.append(option if value else f"--{prefix}no-{name}".replace("_", "-"))
        elif isinstance(value, Mapping):
            words += [option, *(str(word) for pair in value.items() for word in pair)]
        elif isinstance(value, list | tuple):
            words += [option, *map(str, value)]
        elif value is not None:
            words += [option, str(value)]
    return words
