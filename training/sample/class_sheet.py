"""Draw every class of a checkpoint with the model itself, small, on one sheet beside its file."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from comfyui_fitv2.labels import Label
from comfyui_fitv2.resolution import Resolution
from sheets.class_sheet import SheetMaker, layout_for, sheet_path

from ..whole_files import check_output_folder, write_whole
from .generate import Request, SamplingSettings, batches
from .sampler import Sampler

_SETTINGS_FILE = "class_sheet.json"
_BATCH_TOKENS = 4096


def draw_class_sheet(
    sampler: Sampler,
    checkpoint: Path,
    sizes: Sequence[Resolution],
    settings: SamplingSettings | None = None,
    *,
    overwrite: bool = False,
) -> Path:
    """Draw all classes of ``checkpoint``, which ``sampler`` has open; returns the sheet's file.

    ``sizes`` has the size of each class's image before it is made small. Until the sheet is
    finished, its images are in a folder beside it, and the next call with the same settings
    continues there. Raises ``FileExistsError`` where there is a sheet, ``OutputFolderError`` on a
    folder of images with other settings, and ``ValueError`` where WebP cannot hold all classes.
    """
    path = sheet_path(checkpoint)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists already. Add --overwrite to replace it.")
    settings = settings or SamplingSettings()
    maker = SheetMaker(layout_for([(size.width, size.height) for size in sizes]))
    names = sampler.loaded.class_names or [None] * len(sizes)
    requests = [
        Request(i, Label(i, name), size)
        for i, (name, size) in enumerate(zip(names, sizes, strict=True))
    ]
    folder = path.with_suffix("")
    identity = {
        "checkpoint": sampler.checkpoint_digest,
        "vae": sampler.vae_digest,
        "sizes": sorted({f"{size.width}x{size.height}" for size in sizes}),
        "settings": repr(settings),
    }
    check_output_folder(folder, identity, name=_SETTINGS_FILE, holds="images of classes")
    # Sorted, so that images of one size share a batch.
    ordered = sorted(requests, key=lambda request: (request.size.width, request.size.height))
    sampler.write_missing(
        batches(ordered, _BATCH_TOKENS, packed=False, solver=settings.solver), settings, folder
    )
    for request in requests:
        with Image.open(folder / request.file_name) as image:
            maker.put(request.index, image)
    with write_whole(path) as temporary:
        temporary.write_bytes(maker.encode())
    shutil.rmtree(folder)
    return path
