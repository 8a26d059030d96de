"""From images to a latent set.

python -m training.prepare --images photos --output latents --image-size 256 --vae tiny
accelerate launch -m training.prepare ...    on all GPUs, or machines that share the output folder
torchrun --nproc_per_node 4 -m training.prepare ... --device cpu    on CPUs

Every image is encoded resized and, where both sides are longer than the image size, cropped to its
middle square too; each also mirrored. The images are cut into shards in a fixed order, and process
i of n encodes every n-th shard from i on. A shard is written atomically, so a run that was ended in
any way resumes with the same command. A batch holds images of one size and one shard: which process
encodes it, and when, changes nothing. (On a CPU not one bit; a Stable Diffusion VAE needs the same
number of threads for that.)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from comfyui_fitv2.config import PRECISIONS
from comfyui_fitv2.metadata import LatentFormat

from ..command_line import parse_options, run_command
from ..data.arrow_set import count_examples, finish, shard_failures, shard_path
from ..data.latent_set import INFO_FILE, LatentSetInfo
from ..data.sources import ImageSource, open_images
from ..data.vae import TINY, VAE, open_vae, vae_digest
from ..option_names import own_names
from ..processes import join_processes, on_main
from ..whole_files import TEMPORARY_SUFFIX, write_json
from .encode import encode_shards
from .option_names import NAMES
from .plan import Plan, make_plan, open_plan
from .preview_colours import PreviewColoursError, fit_preview_colours

REPORT_FILE = "report.json"
_LISTED = 10
_WAITING_NOTICE_SECONDS = 60


@dataclass(frozen=True, kw_only=True, slots=True)
class PrepareOptions:
    """Raises ``ValueError`` for a value out of range."""

    images: Path
    """Folder with a sub-folder of images for each class, or a folder that `datasets` saved."""
    output: Path
    """Folder of the latent set. The same command resumes an unfinished set."""
    image_size: Annotated[int, tyro.conf.arg(aliases=["--resolution"])] = 256
    """S in pixels, a multiple of 16: a resized image has at most S² pixels, a crop is S × S."""
    vae: str = TINY
    """"tiny", a file in TAESD layout, a diffusers AutoencoderKL folder, or a single file of Stable
    Diffusion's VAE."""
    metadata: Path | None = None
    """JSONL or CSV file with a file (in the images folder) and a label per line, instead of
    sub-folders."""
    scale_factor: float | None = None
    """Scale of a VAE file that does not store its own, such as 0.13025 for SDXL's."""
    flip: bool = True
    """Encode mirrored images too; not for text or flags."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Precision of the VAE."""
    batch_size: int = 16
    """Maximum number of images that are encoded together."""
    shard_size: int | None = None
    """Images per file of the set; by default chosen from their number, at most 1024."""
    workers: int | None = None
    """Processes that decode images, for each process that encodes; by default one per core, at most
    8."""
    device: str | None = None
    """Device of the VAE, such as cpu or cuda:1; by default the one that accelerate assigns."""

    def __post_init__(self) -> None:
        if self.image_size < 16 or self.image_size % 16:
            raise ValueError(
                f"--image-size must be a multiple of 16, such as 256, not {self.image_size}."
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
        """What decides the latents, besides the images."""
        return {
            "image-size": self.image_size,
            "vae": vae_digest(self.vae),
            "scale-factor": self.scale_factor,
            "flip": self.flip,
            "precision": self.precision,
            "batch-size": self.batch_size,
        }


def prepare(options: PrepareOptions) -> None:
    """Make a latent set, or what is missing of it.

    Raises ``ValueError`` or ``OSError`` for what the user can put right.
    """
    state = join_processes(options.device)
    source = open_images(options.images, options.metadata)
    on_main(state, lambda: _make_plan(options, source))
    output, plan = options.output, open_plan(options.output)
    if (output / INFO_FILE).is_file():
        if state.is_main_process:
            print(f"{output} is complete: {count_examples(output, plan.shards)} images.")
        return
    device = options.device or str(state.device)
    vae = open_vae(options.vae, device, PRECISIONS[options.precision], options.scale_factor)
    encode_shards(
        source,
        plan,
        output,
        vae,
        state,
        image_size=options.image_size,
        batch_size=options.batch_size,
        flip=options.flip,
        workers=options.workers,
    )
    if state.is_main_process:
        _wait_for_shards(output, plan)
        _finish(options, plan, vae)


def _make_plan(options: PrepareOptions, source: ImageSource) -> None:
    listing = source.listing()
    _print_listed(f"left out of {options.images}", listing.left_out)
    if not listing.files:
        raise ValueError(
            f"{options.images}: no images with a class. Put them in a sub-folder for each class, "
            "or name a --metadata file."
        )
    make_plan(options.output, listing, options.settings, options.shard_size)


def _wait_for_shards(output: Path, plan: Plan) -> None:
    noticed = time.monotonic()
    while missing := [n for n in range(plan.shards) if not shard_path(output, n).exists()]:
        if time.monotonic() - noticed > _WAITING_NOTICE_SECONDS:
            noticed = time.monotonic()
            print(
                f"waiting for {len(missing)} of {plan.shards} shards from other processes; all "
                f"must write to this folder: {output.resolve()}",
                file=sys.stderr,
            )
        time.sleep(0.2)


def _finish(options: PrepareOptions, plan: Plan, vae: VAE) -> None:
    output = options.output
    failures: dict[str, str] = {}
    for number in range(plan.shards):
        failures |= shard_failures(output, number)
    count = count_examples(output, plan.shards)
    report = {"images": count, "failed": failures, "left_out": plan.left_out}
    write_json(output / REPORT_FILE, report)
    _print_listed(f"could not be used; {output / REPORT_FILE} lists all", failures)
    if not count:
        raise ValueError(
            f"none of the {len(failures)} images could be used. Remove {output} before you try "
            "again."
        )
    info = LatentSetInfo(
        class_names=plan.class_names,
        channels=vae.channels,
        image_size=options.image_size,
        latent_format=_latent_format(output, plan, vae),
        vae=options.vae if options.vae == TINY else Path(options.vae).name,
        flips=options.flip,
        posterior=vae.posterior,
    )
    finish(output, info, plan.shards)
    for stale in output.glob(f".*{TEMPORARY_SUFFIX}"):
        stale.unlink(missing_ok=True)
    print(f"{output}: {count} images of {len(plan.class_names)} classes.")


def _latent_format(output: Path, plan: Plan, vae: VAE) -> LatentFormat:
    try:
        return fit_preview_colours(output, plan.shards, vae.channels, vae.scale_factor)
    except PreviewColoursError as error:
        print(f"{output} gets no preview colours: {error}", file=sys.stderr)
        return LatentFormat(vae.scale_factor)


def _print_listed(what: str, reasons: dict[str, str]) -> None:
    if reasons:
        print(f"{len(reasons)} {what}:", file=sys.stderr)
        for file, reason in list(reasons.items())[:_LISTED]:
            print(f"  {file}: {reason}", file=sys.stderr)
        if len(reasons) > _LISTED:
            print(f"  and {len(reasons) - _LISTED} more", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    def command() -> None:
        prepare(
            parse_options(
                PrepareOptions,
                own_names(argv, NAMES),
                prog="python -m training.prepare",
                description="Encode images to a latent set for training.",
            )
        )

    return run_command(command, "The same command resumes.")
