"""One file of weights: what it holds, or which of the things that people get instead it is.

The file type is detected from the content; the extension is ignored. Pickles are read without
running code. Every way in which a file can be wrong gets an error that names it.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

from .checkpoint_error import DOWNLOAD_AGAIN, CheckpointError
from .metadata import METADATA_KEY, METADATA_TENSOR
from .page_cache import read_ahead
from .safetensors_file import read_safetensors, read_safetensors_header

_SETTINGS = ("argparse.Namespace", "omegaconf.", "easydict.", "ml_collections.", "yacs.", "pathlib")
_TRAINED_CODE = ("torch.nn.", "torch.optim.")


def read_file(path: Path) -> tuple[object, str | None]:
    """The content of a safetensors file or torch pickle, and the metadata JSON, if it has any.

    The content of a pickle may be anything that can be read without running code. Tensors stay
    mapped from the file where that is possible. Raises ``CheckpointError`` for any other file.
    """
    if not path.is_file() and path.exists():
        raise CheckpointError(path, "neither a file nor a folder, but a device or a pipe.")
    with path.open("rb") as file:
        head = file.read(512)
    size = path.stat().st_size
    text = head.lstrip().lower()
    if not size:
        raise CheckpointError(path, f"an empty file. {DOWNLOAD_AGAIN}")
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
        tensors, metadata = read_safetensors(path)
        return tensors, metadata.get(METADATA_KEY)
    if path.suffix == ".distcp":
        raise CheckpointError(path, f"one part of {distributed_checkpoint(path.parent)}")
    if head.startswith((b"PK\x03\x04", b"\x80")):
        return _read_pickle(path, is_zip=head.startswith(b"PK")), None
    if head.startswith(b"GGUF"):
        raise CheckpointError(
            path,
            "a GGUF file, which holds quantised weights that FiTv2 does not use. Use the model's "
            "safetensors file in bf16, fp16, fp32 or fp8.",
        )
    raise CheckpointError(
        path,
        f"neither safetensors nor a torch pickle: {size} bytes that begin with {head[:16]!r}. "
        f"Expected a FiTv2 checkpoint. {DOWNLOAD_AGAIN}",
    )


def read_header(path: Path) -> tuple[object, str | None]:
    """As ``read_file`` for a safetensors file, with tensors on the meta device: only its header is
    read, and the tensor of our metadata. Raises ``CheckpointError`` for any other file.
    """
    if not path.is_file() and path.exists():
        raise CheckpointError(path, "neither a file nor a folder, but a device or a pipe.")
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] != b"{":
        raise CheckpointError(
            path, "not a safetensors file, so it cannot be told what it is without loading it."
        )
    tensors, metadata = read_safetensors_header(path, with_values_of=METADATA_TENSOR)
    return tensors, metadata.get(METADATA_KEY)


def distributed_checkpoint(folder: Path) -> str:
    """What a folder of torch.distributed.checkpoint is, and how it becomes a file."""
    return (
        "a distributed checkpoint (DCP) of several processes. Make one file of it: `python -m "
        f"torch.distributed.checkpoint.format_utils dcp_to_torch {folder} model.pt`."
    )


def _read_pickle(path: Path, is_zip: bool) -> object:
    # torch.load takes any *path* that ends in .safetensors for safetensors, whatever it holds. An
    # open file it reads as what it is, but it cannot map one into memory.
    if is_zip and path.suffix != ".safetensors":
        read_ahead(path)
        try:
            return torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except Exception:
            # The file system may be unable to map files. If it is the file that is damaged, reading
            # it says so.
            pass
    try:
        with path.open("rb") as file:
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # a pickle that is cut or overwritten fails in any way
        if type(error).__name__ == "UnpicklingError":  # by name: no package here imports pickle
            named = re.search(r"GLOBAL ([\w.]+)", str(error))
            raise CheckpointError(path, _refused(path, named[1] if named else None)) from None
        reason = str(error).partition(". ")[0] or type(error).__name__
        raise CheckpointError(
            path, f"a truncated or damaged torch pickle ({reason}). {DOWNLOAD_AGAIN}"
        ) from None


def _refused(path: Path, name: str | None) -> str:
    """What a pickle with the class or function ``name`` is, and how to get its weights out."""
    if name is None:
        what = "a pickle that holds more than weights, or is damaged"
    elif name.startswith(_SETTINGS):
        what = f"a pickle that holds more than weights: its training settings ({name})"
    elif name.startswith("numpy."):
        what = f"a pickle that holds more than weights: a NumPy number or array ({name})"
    elif name.startswith(_TRAINED_CODE):
        what = f"a pickle that holds more than weights: a whole Python object ({name})"
    else:
        what = f"a pickle that holds more than weights ({name})"
    return (
        f"{what}. Unpickling that can run code, so it was refused. Ask its author for a "
        "safetensors file. If you trust whoever made it, save its weights alone: "
        f"python -c \"import torch; c = torch.load({str(path)!r}, map_location='cpu', "
        "weights_only=False); torch.save({k: v for k, v in c.items() if isinstance(v, dict) or "
        "torch.is_tensor(v)}, 'weights.pt')\""
    )
