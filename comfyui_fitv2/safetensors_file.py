"""Safetensors files, mapped into memory where the file system can do that, else read."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from .checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from .page_cache import read_ahead
from .untrusted_json import parse_json

_LONGEST_HEADER = 100_000_000
"""In bytes; the limit of the safetensors library."""
_DTYPES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "I32": torch.int32,
    "I64": torch.int64,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors and the metadata of a safetensors file.

    Tensors stay mapped from the file; where its file system cannot map files, they are read.
    Raises ``CheckpointError`` for a file that is truncated or damaged.
    """
    try:
        with safe_open(path, framework="pt") as file:
            read_ahead(path)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(path, _what_is_wrong(path, str(error))) from None
    except (OSError, RuntimeError):
        # The file is there: only mapping can have failed, as on some network and FUSE drives.
        return _read_unmapped(path)


def read_safetensors_header(
    path: Path, with_values_of: str
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """As ``read_safetensors``, from the header alone: tensors are on the meta device.

    Only tensors whose name ends in ``with_values_of`` have values. Raises ``CheckpointError`` for a
    file that is truncated, damaged, or on a drive whose files cannot be mapped.
    """
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {}
            for key in file.keys():  # noqa: SIM118
                if key.endswith(with_values_of):
                    tensors[key] = file.get_tensor(key)
                else:
                    header = file.get_slice(key)
                    dtype = _DTYPES.get(header.get_dtype(), torch.float32)
                    tensors[key] = torch.empty(header.get_shape(), dtype=dtype, device="meta")
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise CheckpointError(path, _what_is_wrong(path, str(error))) from None
    except (OSError, RuntimeError) as error:
        raise CheckpointError(path, f"a file whose header cannot be read ({error}).") from None


def _read_unmapped(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """``read_safetensors`` with one copy of the file in memory, which the tensors share."""
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if header_size > min(_LONGEST_HEADER, path.stat().st_size - 8):
            raise CheckpointError(path, _what_is_wrong(path, "its header is too long"))
        header_text = file.read(header_size)
        data = bytearray(path.stat().st_size - 8 - header_size)
        if file.readinto(data) != len(data):
            raise CheckpointError(path, f"a truncated safetensors file. {DOWNLOAD_AGAIN}")
    try:
        header = parse_json(header_text)
        metadata = header.pop("__metadata__", None) or {}
        if not all(isinstance(text, str) for text in metadata.values()):
            raise ValueError("its metadata is not all text")
        return {name: _tensor(data, entry) for name, entry in header.items()}, metadata
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError) as error:
        raise CheckpointError(path, _what_is_wrong(path, str(error))) from None


def _tensor(data: bytearray, entry: dict[str, Any]) -> Tensor:
    """The tensor of one entry of a header. Raises ``ValueError`` where the two do not fit."""
    dtype, shape, (start, end) = _DTYPES[entry["dtype"]], entry["shape"], entry["data_offsets"]
    count = math.prod(shape)
    if min(start, end, *shape, 0) < 0 or end > len(data) or end - start != count * dtype.itemsize:
        raise ValueError("its header does not fit its data")
    if not count:
        return torch.empty(shape, dtype=dtype)
    return torch.frombuffer(data, dtype=dtype, count=count, offset=start).view(shape)


def _what_is_wrong(path: Path, reason: str) -> str:
    size = path.stat().st_size
    with path.open("rb") as file:
        header_size = int.from_bytes(file.read(8), "little")
        if header_size > _LONGEST_HEADER:
            return (
                f"a damaged safetensors file: its header claims {header_size} bytes. "
                f"{DOWNLOAD_AGAIN}"
            )
        header = file.read(header_size)
    needed = 8 + header_size + _data_size(header)
    if needed > size:
        return (
            f"a truncated safetensors file: it has {size} of its {needed} or more bytes. "
            f"{DOWNLOAD_AGAIN}"
        )
    return f"a damaged safetensors file ({reason}). {DOWNLOAD_AGAIN}"


def _data_size(header: bytes) -> int:
    """The size in bytes of the data after a header; 0 where the header cannot be read."""
    try:
        tensors = parse_json(header)
        tensors.pop("__metadata__", None)
        return max((int(tensor["data_offsets"][1]) for tensor in tensors.values()), default=0)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError):
        return 0
