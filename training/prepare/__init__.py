"""From a folder of pictures to a latent set (``training.latents``).

python -m training.prepare --images photos --output latents --resolution 256 --vae tiny
accelerate launch -m training.prepare ...                                 on all GPUs, or machines that share the output folder
torchrun --nproc_per_node 4 -m training.prepare ... --device cpu          on CPUs

Every picture is encoded resized and, where both sides are longer than the resolution, as its middle square too; each also flipped.
Work is cut into shards of pictures in a fixed order, and each process takes every n-th. A shard is one file that appears whole, so a run
that was ended in any way goes on where it was, by the same command. Pictures of a size share a batch within their shard
only: which process encodes it, and when, changes nothing. (On the CPU not one bit; a Stable Diffusion VAE needs the same number of
threads for that.)
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm.auto import tqdm

from ..command_line import run_command
from ..data.decode import read_versions
from ..data.latent_set import (
    INFO_FILE,
    EncodedPicture,
    LatentSetInfo,
    count_pictures,
    finish,
    shard_failures,
    shard_path,
    write_shard,
)
from ..data.sources import Pictures, open_pictures
from ..data.vae import DTYPES, TINY, VAE, fingerprint, open_vae
from ..processes import exit_with_parent, join_processes, on_main
from ..whole_files import TEMPORARY_SUFFIX, write_json
from .plan import Plan, make_plan, open_plan
from .preview_colours import fit_preview_colours

REPORT_FILE = "report.json"
_MOST_WORKERS = 8
_LISTED = 10

Versions = tuple[np.ndarray, "np.ndarray | None"]


@dataclass(frozen=True, slots=True)
class PrepareOptions:
    images: Path
    """Folder of pictures."""
    output: Path
    """Folder of the latent set."""
    resolution: int = 256
    """S: at most S² pixels a picture; a multiple of 16."""
    vae: str = TINY
    """As in ``vaes.open_vae``."""
    metadata: Path | None = None
    """JSONL or CSV of files and labels; without it sub-folders are classes."""
    scale_factor: float | None = None
    """As in ``vaes.open_vae``."""
    flip: bool = True
    """Whether to encode the flipped pictures too; not for text."""
    precision: str = "fp32"
    """Of the VAE."""
    batch_size: int = 16
    """Most pictures of one size that are encoded together."""
    shard_size: int | None = None
    """Pictures a shard; None chooses by how many there are."""
    workers: int | None = None
    """Processes that read pictures, beside each that encodes; None chooses."""
    device: str | None = None
    """Where the VAE runs; None leaves it to accelerate."""

    def __post_init__(self) -> None:
        if self.resolution < 16 or self.resolution % 16:
            raise ValueError(
                f"--resolution must be a multiple of 16, such as 256, not {self.resolution}."
            )
        for name, value, least in (
            ("batch-size", self.batch_size, 1),
            ("shard-size", self.shard_size, 1),
            ("workers", self.workers, 0),
        ):
            if value is not None and value < least:
                raise ValueError(f"--{name} must be {least} or more, not {value}.")

    @property
    def settings(self) -> dict[str, Any]:
        """What decides the latents, beside the pictures."""
        return {
            "resolution": self.resolution,
            "vae": fingerprint(self.vae),
            "scale-factor": self.scale_factor,
            "flip": self.flip,
            "precision": self.precision,
            "batch-size": self.batch_size,
        }


def prepare(options: PrepareOptions) -> None:
    """Make a latent set, or what is left of it. Raises ``ValueError`` or ``OSError`` on what the person can put right."""
    state = join_processes(options.device)
    pictures = open_pictures(options.images, options.metadata)
    on_main(state, lambda: _make_plan(options, pictures))
    plan = open_plan(options.output)
    if (options.output / INFO_FILE).is_file():
        if state.is_main_process:
            print(
                f"{options.output} is complete: {count_pictures(options.output, plan.shards)} pictures."
            )
        return
    vae = open_vae(
        options.vae,
        options.device or str(state.device),
        DTYPES[options.precision],
        options.scale_factor,
    )
    with _shortage_explained():
        _encode_shards(options, pictures, plan, vae, state)
    if state.is_main_process:
        _await_shards(options.output, plan)
        _finish(options, pictures, plan, vae)


def _make_plan(options: PrepareOptions, pictures: Pictures) -> None:
    listing = pictures.listing()
    _print_listed(f"left out of {options.images}", listing.left_out)
    if not listing.files:
        raise ValueError(
            f"{options.images}: no pictures with a class. Put them in a sub-folder for each class, or name a --metadata file."
        )
    make_plan(options.output, listing, options.settings, options.shard_size)


def _encode_shards(
    options: PrepareOptions, pictures: Pictures, plan: Plan, vae: VAE, state: PartialState
) -> None:
    own = range(state.process_index, plan.shards, state.num_processes)
    left = [number for number in own if not shard_path(options.output, number).exists()]
    order = [index for number in left for index in plan.shard(number)]
    total = sum(len(plan.shard(number)) for number in own)
    workers = (
        min(_MOST_WORKERS, max((os.cpu_count() or 1) // max(state.num_processes, 1), 1))
        if options.workers is None
        else options.workers
    )
    # Arrays and not tensors come from the workers: tensors would pass through /dev/shm, which is small in containers.
    pictures_in_order = _Decoded(pictures, plan, options.resolution)
    loader = DataLoader(
        pictures_in_order,
        batch_size=None,
        sampler=order,
        num_workers=workers,
        collate_fn=_as_it_is,
        worker_init_fn=exit_with_parent,
    )
    who = (
        f"encoding {state.process_index + 1}/{state.num_processes}"
        if state.num_processes > 1
        else "encoding"
    )
    with tqdm(
        total=total,
        initial=total - len(order),
        desc=who,
        unit="image",
        disable=not state.is_local_main_process,
        smoothing=0.05,
    ) as progress:
        decoded = iter(loader)
        for number in left:
            encoded, failures = encode_shard(
                plan, number, decoded, vae, options.batch_size, options.flip, progress
            )
            write_shard(options.output, number, encoded, failures)


def encode_shard(
    plan: Plan,
    number: int,
    decoded: Iterator[Versions | str],
    vae: VAE,
    batch_size: int,
    flip: bool,
    progress: tqdm,
) -> tuple[list[EncodedPicture], dict[str, str]]:
    """The pictures of a shard, from the next of ``decoded``, and why others failed, by file."""
    files = {index: str(plan.files[index]) for index in plan.shard(number)}
    failures: dict[str, str] = {}
    latents: dict[tuple[int, int], Tensor] = {}  # by picture and version
    waiting: dict[tuple[int, ...], dict[tuple[int, int], np.ndarray]] = {}  # by size

    def fail(index: int, why: str) -> None:
        failures[files[index]] = why
        progress.write(f"cannot use {files[index]}: {why}", file=sys.stderr)

    def encode(batch: dict[tuple[int, int], np.ndarray]) -> None:
        images = torch.from_numpy(np.stack(list(batch.values()))).permute(0, 3, 1, 2).float() / 255
        views = [images, images.flip(-1)] if flip else [images]
        moments = torch.stack([vae.moments(view) for view in views], dim=1).to("cpu", torch.float16)
        for (index, version), moment in zip(batch, moments, strict=True):
            if not moment.isfinite().all():
                fail(index, "the VAE gave infinite or undefined numbers; --precision fp32 may help")
            latents[index, version] = moment
        progress.update(sum(version == 0 for _, version in batch))
        batch.clear()

    for index in files:
        item = next(decoded)
        if isinstance(item, str):
            fail(index, item)
            progress.update()
            continue
        for version, image in enumerate(item):
            if image is not None:
                batch = waiting.setdefault(image.shape, {})
                batch[index, version] = image
                if len(batch) == batch_size:
                    encode(batch)
    for batch in waiting.values():
        if batch:
            encode(batch)
    whole = [index for index, file in files.items() if file not in failures]
    return [
        EncodedPicture(files[i], int(plan.labels[i]), latents[i, 0], latents.get((i, 1)))
        for i in whole
    ], failures


class _Decoded(Dataset[Versions | str]):
    """Pictures by index in the plan at the sizes of training, or why there is none."""

    def __init__(self, pictures: Pictures, plan: Plan, resolution: int) -> None:
        self.pictures, self.files, self.resolution = pictures, plan.files, resolution

    def __getitem__(self, index: int) -> Versions | str:
        try:
            return read_versions(self.pictures.source(str(self.files[index])), self.resolution)
        except Exception as error:  # broken pictures fail in any way
            return f"{error}" or type(error).__name__


def _as_it_is(item: Any) -> Any:
    return item


@contextmanager
def _shortage_explained() -> Iterator[None]:
    try:
        yield
    except torch.OutOfMemoryError:
        raise OSError(
            "a batch of pictures does not fit in the memory of the device. Begin anew with a smaller --batch-size."
        ) from None
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise OSError(
            "a process that reads pictures was ended from outside, most often for want of memory. Go on with fewer --workers."
        ) from None


def _await_shards(output: Path, plan: Plan) -> None:
    said = time.monotonic()
    while missing := [
        number for number in range(plan.shards) if not shard_path(output, number).exists()
    ]:
        if time.monotonic() - said > 60:
            said = time.monotonic()
            print(
                f"waiting for {len(missing)} of {plan.shards} shards from other processes; all must write to this folder: {output.resolve()}",
                file=sys.stderr,
            )
        time.sleep(0.2)


def _finish(options: PrepareOptions, pictures: Pictures, plan: Plan, vae: VAE) -> None:
    output = options.output
    failures = {
        file: why
        for number in range(plan.shards)
        for file, why in shard_failures(output, number).items()
    }
    count = count_pictures(output, plan.shards)
    write_json(
        output / REPORT_FILE, {"pictures": count, "failed": failures, "left_out": plan.left_out}
    )
    _print_listed(f"could not be used; {output / REPORT_FILE} lists all", failures)
    if not count:
        raise ValueError(
            f"none of the {len(failures)} pictures could be used. Remove {output} before you try again."
        )
    latent_format = fit_preview_colours(
        output, plan.shards, pictures, options.resolution, vae.channels, vae.scale_factor
    )
    name = options.vae if options.vae == TINY else Path(options.vae).name
    finish(
        output,
        LatentSetInfo(
            plan.class_names,
            vae.channels,
            options.resolution,
            latent_format,
            name,
            options.flip,
            vae.posterior,
        ),
        plan.shards,
    )
    for stale in output.glob(f".*{TEMPORARY_SUFFIX}"):
        stale.unlink(missing_ok=True)
    print(f"{output}: {count} pictures of {len(plan.class_names)} classes.")


def _print_listed(what: str, reasons: dict[str, str]) -> None:
    if reasons:
        print(
            f"{len(reasons)} {what}:",
            *(f"  {file}: {why}" for file, why in list(reasons.items())[:_LISTED]),
            sep="\n",
            file=sys.stderr,
        )
        if len(reasons) > _LISTED:
            print(f"  and {len(reasons) - _LISTED} more", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.prepare",
        description="Encode pictures to a latent set for training.",
    )
    parser.add_argument(
        "--images",
        type=Path,
        required=True,
        help="folder with a sub-folder for each class, or one that `datasets` saved",
    )
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder of the latent set; the same command goes on with a set that was begun",
    )
    parser.add_argument(
        "--resolution",
        type=int,
        default=256,
        help="S: a picture has at most S² pixels (default: 256)",
    )
    parser.add_argument(
        "--vae",
        default=TINY,
        help='"tiny" (default), a file in TAESD layout, a diffusers AutoencoderKL folder, or a Stable Diffusion VAE file',
    )
    parser.add_argument(
        "--metadata",
        type=Path,
        help="JSONL or CSV file with a file (in --images) and a label a row, instead of sub-folders",
    )
    parser.add_argument(
        "--scale-factor",
        type=float,
        help="of a VAE that cannot tell its own, such as 0.13025 for the file of SDXL's",
    )
    parser.add_argument(
        "--flip",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="encode mirrored pictures too (default); not for text or flags",
    )
    parser.add_argument(
        "--precision", choices=DTYPES, default="fp32", help="of the VAE (default: fp32)"
    )
    parser.add_argument(
        "--batch-size",
        type=int,
        default=16,
        help="pictures that are encoded together (default: 16)",
    )
    parser.add_argument(
        "--shard-size",
        type=int,
        help="pictures a file of the set; default: by how many there are, at most 1024",
    )
    parser.add_argument(
        "--workers",
        type=int,
        help=f"processes that read pictures (default: one a core, at most {_MOST_WORKERS})",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1; default: what accelerate assigns")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))
    return run_command(
        lambda: prepare(PrepareOptions(**options)), "The same command goes on from here."
    )
