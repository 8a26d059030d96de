"""From images to a latent set.

python -m training.prepare --images photos --check    a page on the images, before hours of work
python -m training.prepare --images photos --output latents --image-size 256 --vae tiny
accelerate launch -m training.prepare ...    on all GPUs, or machines that share the output folder
torchrun --nproc_per_node 4 -m training.prepare ... --device cpu    on CPUs

Every image is encoded resized and, where both sides are longer than the image size, cropped to its
middle square too; each also mirrored. The images are cut into shards in a fixed order, and process
i of n encodes every n-th shard from i on. A shard is written atomically, so a run that was ended in
any way resumes with the same command. If the images have changed, that command encodes the new
ones, keeps the others and drops those that are gone (``changed_images.py``).

A batch holds images of one size and one shard: which process encodes it, and when, changes nothing.
(On a CPU not one bit; a Stable Diffusion VAE needs the same number of threads for that.)
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from accelerate import PartialState

from comfyui_fitv2.config import PRECISIONS

from ..command_line import parse_options, run_command
from ..data.arrow_set import count_examples, shard_path
from ..data.sources import open_images
from ..data.vae import open_vae
from ..folder_lock import folder_lock
from ..option_names import own_names
from ..processes import join_processes, on_main
from .check_page import write_page
from .encode import encode_shards
from .errors import errors_explained
from .finish import finish_set, is_complete, remove_stale
from .option_names import NAMES
from .options import PrepareOptions
from .plan import Plan, open_plan
from .planning import check_all, plan_images
from .reconstruction import measure_reconstruction

__all__ = ["PrepareOptions", "main", "prepare"]

_WAITING_NOTICE_SECONDS = 60


def prepare(options: PrepareOptions) -> None:
    """Make a latent set, or what is missing of it; with ``check``, only look at the images.

    Raises ``ValueError`` or ``OSError`` for what the user can put right.
    """
    if options.check:
        write_page(check_all(options), options)
        return
    state = join_processes(options.device)
    with ExitStack() as stack:
        lock = folder_lock(options.folder, "prepares images here")
        on_main(state, lambda: stack.enter_context(lock))
        _prepare(options, state)


def _prepare(options: PrepareOptions, state: PartialState) -> None:
    output, source = options.folder, open_images(options.images, options.metadata)
    on_main(state, lambda: plan_images(source, options))
    plan = open_plan(output)
    assert plan is not None
    if is_complete(output, plan):
        if state.is_main_process:
            remove_stale(output, plan)
            print(f"{output} is complete: {count_examples(output, plan.shards)} images.")
        return
    device = options.device or str(state.device)
    vae = open_vae(options.vae, device, PRECISIONS[options.precision], options.scale_factor)
    quality = None
    with errors_explained(output, plan):
        if state.is_main_process:
            quality = measure_reconstruction(source, plan, vae, options)
        if quality:
            quality.say(options.vae)
        encode_shards(
            source,
            plan,
            output,
            vae,
            state,
            image_size=options.image_size,
            batch_size=options.batch_size,
            flip=options.flip,
            enlarge=options.enlarge,
            workers=options.workers,
        )
    if state.is_main_process:
        _wait_for_shards(output, plan)
        finish_set(options, plan, vae, quality)


def _wait_for_shards(output: Path, plan: Plan) -> None:
    noticed = time.monotonic()
    while missing := [n for n in plan.shards if not shard_path(output, n).exists()]:
        if time.monotonic() - noticed > _WAITING_NOTICE_SECONDS:
            noticed = time.monotonic()
            print(
                f"waiting for {len(missing)} of {len(plan.shards)} shards from other processes; "
                f"all must write to this folder: {output.resolve()}",
                file=sys.stderr,
            )
        time.sleep(0.2)


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
