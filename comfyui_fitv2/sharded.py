"""Where the weights of a checkpoint are: in one file, in several with an index, in a folder."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from .checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from .untrusted_json import parse_json
from .weights_file import distributed_checkpoint

_INDEX = ".index.json"
_PART = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.\w+)")
_LONGEST_NAME = 255
_LONGEST_JSON = 64 * 2**20
_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_NAMES = ("diffusion_pytorch_model", "model", "pytorch_model")
"""Names that diffusers and transformers give to weights, the first found wins."""
_AVERAGES = "*ema[-_.]*"
_SLICES = ".parts"
"""Ending of a folder in which each of several processes has saved its slices of all tensors."""
_COMPONENTS = ("transformer_ema", "unet_ema", "transformer", "unet")
"""Folders of the network in a diffusers pipeline, averages first."""
_CONFIG = "config.json"


@dataclass(frozen=True, slots=True)
class Source:
    """The files that a checkpoint consists of."""

    path: Path
    """The file to name in messages: the only one, or the index."""
    files: tuple[Path, ...]
    weight_map: Mapping[str, Path] = field(default_factory=dict)
    """The file of each key, where an index tells."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """The metadata of an index."""
    config: Mapping[str, Any] = field(default_factory=dict)
    """The config.json beside the files."""
    note: str | None = None
    """What was chosen, where a folder has more than one checkpoint."""


def find_source(path: Path) -> Source:
    """The files behind ``path``: a file of weights, a part or the index of several, or a folder.

    Raises ``CheckpointError`` where there is no checkpoint or a part is missing, and
    ``FileNotFoundError`` where there is nothing.
    """
    if path.is_dir():
        return _in_folder(path)
    if (part := _PART.fullmatch(path.name)) and int(part["count"]) > 1:
        path.stat()  # raises for a file that is not there
        return _of_part(path, part)
    if _is_json(path):
        return _of_index(path)
    return Source(path, (path,), config=_config_beside(path))


def _is_json(path: Path) -> bool:
    if not path.is_file():
        path.stat()
        return False
    with path.open("rb") as file:
        head = file.read(64)
    # A safetensors file may begin with "{" as well, which is then the size of its header.
    fits = 8 + int.from_bytes(head[:8], "little") <= path.stat().st_size
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and not fits


def _of_part(path: Path, part: re.Match[str]) -> Source:
    """The whole that a part belongs to."""
    index = path.with_name(f"{part['stem']}{part['suffix']}{_INDEX}")
    if index.is_file():
        return _of_index(index)
    count = int(part["count"])
    names = [f"{part['stem']}-{n + 1:05d}-of-{part['count']}{part['suffix']}" for n in range(count)]
    missing = [name for name in names if not path.with_name(name).is_file()]
    if missing:
        raise CheckpointError(
            path,
            f"part {int(part['number'])} of the {count} parts of a checkpoint, and {missing[0]} "
            f"({len(missing)} in total) is not beside it. Put all parts into one folder.",
        )
    files = tuple(path.with_name(name) for name in names)
    return Source(path, files, config=_config_beside(path))


def _of_index(path: Path) -> Source:
    index = _read_json(path)
    weight_map = index.get("weight_map")
    if weight_map is None:
        raise CheckpointError(
            path,
            "a JSON file without weights. Name the file of the weights, or the folder that both "
            "are in.",
        )
    if not isinstance(weight_map, Mapping) or not weight_map:
        raise CheckpointError(path, "an index whose weight_map is not an object of file names.")
    for key, name in weight_map.items():
        if not _is_plain_name(name):
            raise CheckpointError(
                path,
                f"refused: {key} is said to be in {name!r}, which is no file of its own folder.",
            )
    places = {key: path.parent / name for key, name in weight_map.items()}
    files = tuple(dict.fromkeys(places.values()))
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise CheckpointError(
            path,
            f"the index of a checkpoint in {len(files)} files, of which {len(missing)} are missing "
            f"({', '.join(missing[:4])}). {DOWNLOAD_AGAIN}",
        )
    metadata = index.get("metadata")
    return Source(
        path,
        files,
        places,
        metadata if isinstance(metadata, Mapping) else {},
        _config_beside(path),
    )


def _is_plain_name(name: object) -> bool:
    """Whether this is the name of a file in the same folder or in one below, on any system."""
    if not isinstance(name, str) or not 0 < len(name) <= _LONGEST_NAME or "\0" in name:
        return False
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    escapes = ".." in posix.parts or ".." in windows.parts
    return not (escapes or posix.is_absolute() or windows.drive or windows.root)


def _in_folder(folder: Path) -> Source:
    """The checkpoint in a folder, as diffusers, transformers and accelerate save them."""
    if _is_distributed(folder):
        raise CheckpointError(folder, distributed_checkpoint(folder))
    if (folder / "zero_to_fp32.py").is_file():
        raise CheckpointError(
            folder,
            "a DeepSpeed checkpoint of several processes. Make one file of it: `python "
            f"{folder / 'zero_to_fp32.py'} {folder} {folder / 'weights'} --safe_serialization`.",
        )
    averages = [path for path in sorted(folder.glob(_AVERAGES)) if _holds_weights(path)]
    if len(averages) == 1:
        source = find_source(averages[0])
        return replace(source, note=f"used the moving average, {averages[0].name}")
    for name in () if averages else _NAMES:
        for suffix in _SUFFIXES:
            if (index := folder / f"{name}{suffix}{_INDEX}").is_file():
                return _of_index(index)
            if (file := folder / f"{name}{suffix}").is_file():
                return Source(file, (file,), config=_config_beside(file))
        if (parts := folder / f"{name}{_SLICES}").is_dir():
            return find_source(parts)
    for component in _COMPONENTS:
        if (folder / component).is_dir():
            return _in_folder(folder / component)
    return _only_one(folder)


def _holds_weights(path: Path) -> bool:
    return path.suffix in _SUFFIXES or (path.suffix == _SLICES and path.is_dir())


def _only_one(folder: Path) -> Source:
    """The one checkpoint of a folder, whatever its name."""
    files = sorted(file for file in folder.iterdir() if file.is_file())
    whole = [file for file in files if file.suffix in _SUFFIXES and not _PART.fullmatch(file.name)]
    indices = [file for file in files if file.name.endswith(_INDEX)]
    parts = [file for file in files if file.suffix in _SUFFIXES and file not in whole]
    if len(whole) + len(indices) == 1:
        return find_source((whole + indices)[0])
    if not whole and not indices and parts:
        return find_source(parts[0])
    if part := next((f for f in sorted(folder.iterdir()) if _is_distributed(f)), None):
        raise CheckpointError(part, distributed_checkpoint(part))
    slices = [path for path in sorted(folder.glob(f"*{_SLICES}")) if path.is_dir()]
    names = ", ".join(path.name for path in (whole + indices + slices)[:4])
    what = f"Name one of those in it: {names}." if names else "There are no weights in it."
    raise CheckpointError(folder, f"a folder, not a checkpoint file. {what}")


def _is_distributed(folder: Path) -> bool:
    """Whether torch.distributed.checkpoint wrote this folder."""
    return (folder / ".metadata").is_file() and any(folder.glob("*.distcp"))


def _config_beside(path: Path) -> Mapping[str, Any]:
    """The config.json in the folder of a file; without one, or with a broken one, nothing."""
    config = path.with_name(_CONFIG)
    try:
        return _read_json(config) if config.is_file() else {}
    except CheckpointError:  # it may belong to anything
        return {}


def _read_json(path: Path) -> Mapping[str, Any]:
    if path.stat().st_size > _LONGEST_JSON:
        raise CheckpointError(path, "a JSON file of more than 64 MB, which is no index of weights.")
    try:
        content = parse_json(path.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except ValueError as error:
        raise CheckpointError(path, f"a damaged JSON file ({error}). {DOWNLOAD_AGAIN}") from None
    if not isinstance(content, Mapping):
        raise CheckpointError(path, "a JSON file that is not an object. Expected an index.")
    return content
