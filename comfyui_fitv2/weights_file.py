"""Files of weights: what they hold, or which of the things that people get instead they are.

The file type is detected from the content; the extension is ignored. Pickles are read without
running code. Every way in which a file can be wrong gets an error that names it.
"""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .metadata import METADATA_KEY
from .page_cache import read_ahead

_PREFIXES = ("module.", "_orig_mod.", "model.diffusion_model.", "diffusion_model.")
_CONTAINERS = ("model_ema", "ema", "state_dict", "model")
_AGAIN = "Download or copy it again, and compare its size with the source."


class CheckpointError(ValueError):
    """A file that is not a usable FiTv2 checkpoint.

    The message names the file, and says what it is and what to do.
    """

    def __init__(self, path: Path, what: str) -> None:
        super().__init__(f"{path}: {what}")


def read_weights(path: Path) -> tuple[dict[str, Tensor], str | None]:
    """The tensors of a safetensors file or torch pickle, and its metadata JSON, if it has any.

    Tensors stay mapped from the file where that is possible, and lose the prefixes that wrappers
    put before their keys. Raises ``CheckpointError`` for a file that holds no weights, or not all.
    """
    tensors, metadata_json = _read(path)
    while prefix := next((p for p in _PREFIXES if any(k.startswith(p) for k in tensors)), None):
        tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    return tensors, metadata_json


def _read(path: Path) -> tuple[dict[str, Tensor], str | None]:
    if path.is_dir():
        raise CheckpointError(path, "a folder, not a checkpoint file. Name the file in it.")
    with path.open("rb") as file:
        head = file.read(512)
    size = path.stat().st_size
    text = head.lstrip().lower()
    if not size:
        raise CheckpointError(path, f"an empty file. {_AGAIN}")
    if head.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            path,
            "a Git LFS pointer, not the weights it points to. Run `git lfs pull`, or download the "
            "file itself.",
        )
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        raise CheckpointError(
            path,
            "a web page (HTML), not weights. Use the page's download link to get the file.",
        )
    if head[8:9] == b"{":
        return _read_safetensors(path, size, header_size=int.from_bytes(head[:8], "little"))
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path, is_zip=head.startswith(b"PK")), None
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            path,
            "a GGUF file, which FiTv2 does not use. Expected safetensors or a torch pickle (.bin, "
            ".pt).",
        )
    raise CheckpointError(
        path,
        f"neither safetensors nor a torch pickle: {size} bytes that begin with {head[:16]!r}. "
        f"Expected a FiTv2 checkpoint. {_AGAIN}",
    )


def _read_safetensors(
    path: Path, size: int, header_size: int
) -> tuple[dict[str, Tensor], str | None]:
    try:
        with safe_open(path, framework="pt") as file:
            read_ahead(path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, (file.metadata() or {}).get(METADATA_KEY)
    except SafetensorError as error:
        needed = _safetensors_size(path, size, header_size)
        if needed > size:
            raise CheckpointError(
                path,
                f"a truncated safetensors file: it has {size} of its {needed} or more bytes. "
                f"{_AGAIN}",
            ) from None
        raise CheckpointError(path, f"a damaged safetensors file ({error}). {_AGAIN}") from None


def _safetensors_size(path: Path, size: int, header_size: int) -> int:
    """The size in bytes that the header tells, or the least it can be where it is not readable."""
    with path.open("rb") as file:
        file.seek(8)
        try:
            header = json.loads(file.read(min(header_size, size)))
            header.pop("__metadata__", None)
            data = max((tensor["data_offsets"][1] for tensor in header.values()), default=0)
        except (ValueError, TypeError, KeyError, IndexError, AttributeError):
            data = 0
    return 8 + header_size + data


def _read_pickle(path: Path, is_zip: bool) -> dict[str, Tensor]:
    # torch.load takes any *path* that ends in .safetensors for safetensors, whatever it holds. An
    # open file it reads as what it is, but it cannot map one into memory.
    by_path = is_zip and path.suffix != ".safetensors"
    if by_path:
        read_ahead(path)
    try:
        with path.open("rb") as file:
            content = torch.load(
                path if by_path else file, map_location="cpu", weights_only=True, mmap=by_path
            )
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        code = f" ({named[1]})" if named else ", or is damaged"
        raise CheckpointError(
            path,
            f"a pickle that holds more than weights{code}. Unpickling that can run code, so it was "
            "refused. Ask its author for a safetensors file.",
        ) from None
    except Exception as error:  # a pickle that is cut or overwritten fails in any way
        reason = str(error).partition(". ")[0] or type(error).__name__
        raise CheckpointError(
            path, f"a truncated or damaged torch pickle ({reason}). {_AGAIN}"
        ) from None
    return _unwrap(path, content)


def _unwrap(path: Path, content: object) -> dict[str, Tensor]:
    """The state dict of a pickle, which may hold it among other training state."""
    tensors: dict[str, Tensor] = {}
    if isinstance(content, Mapping):
        for key in _CONTAINERS:
            if isinstance(content.get(key), Mapping):
                return _unwrap(path, content[key])
        tensors = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not tensors:
        raise CheckpointError(
            path,
            f"a torch pickle of {type(content).__name__} without weights. Expected a state dict.",
        )
    return tensors
