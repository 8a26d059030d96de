"""From images to a latent set.

python -m training.prepare --images photos --check    a page on the images, before hours of work
python -m training.prepare --images photos --output latents --image-size 256 --vae tiny
python -m training.prepare --images photos --output s3://bucket/latents ...    sent as it is made
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
from collections.abc import Sequence
from contextlib import ExitStack

from accelerate import PartialState

from comfyui_fitv2.config import PRECISIONS

from ..command_line import parse_options, run_command
from ..data.sources import open_images
from ..data.vae import open_vae
from ..folder_lock import folder_lock
from ..option_names import own_names
from ..processes import join_processes, on_main
from .check_page import write_page
from .encode import encode_shards
from .errors import errors_explained
from .finish import complete_set, finish_set, remove_stale
from .option_names import NAMES
from .options import PrepareOptions
from .plan import Plan, open_plan
from .planning import check_all, plan_images, say_if_changed
from .reconstruction import measure_reconstruction
from .remembered import forget
from .set_folder import SetFolder

__all__ = ["PrepareOptions", "main", "prepare"]


def prepare(options: PrepareOptions) -> None:
    """Make a latent set, or what is missing of it; with ``check``, only look at the images.

    Raises ``ValueError`` or ``OSError`` for what the user can put right.
    """
    if options.check:
        write_page(check_all(options), options)
        return
    state = join_processes(options.device)
    with ExitStack() as stack:
        output = SetFolder(options.place, options.cache)
        stack.callback(output.stop_sending)
        lock = folder_lock(output.folder, "prepares images here")
        on_main(state, lambda: stack.enter_context(lock))
        _prepare(options, output, state)


def _prepare(options: PrepareOptions, output: SetFolder, state: PartialState) -> None:
    source = open_images(options.images, options.metadata)
    listed = True

    def make_plan() -> None:
        nonlocal listed
        listed = plan_images(source, output, options)

    on_main(state, make_plan)
    _share_plan(output, state)
    plan = open_plan(output.folder)
    assert plan is not None
    if parts := complete_set(output, plan):
        if state.is_main_process:
            remove_stale(output, parts)
            forget(output.folder)  # where the last run was killed just before
            print(f"{output} is complete: {parts.examples} images.")
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
        finish_set(options, output, plan, vae, quality)
        forget(output.folder)
        if not listed:
            say_if_changed(source, output, plan)


def _share_plan(output: SetFolder, state: PartialState) -> None:
    """Bring the plan that the main process has sent to an address to the other machines."""
    if output.remote and state.num_processes > 1:
        if state.is_local_main_process and not state.is_main_process:
            output.pull()
        state.wait_for_everyone()
        if not state.is_local_main_process:
            output.look()


def _wait_for_shards(output: SetFolder, plan: Plan) -> None:
    place = output.remote or output.folder.resolve()

    def notice(missing: Sequence[int]) -> None:
        print(
            f"waiting for {len(missing)} of {len(plan.shards)} shards from other processes; "
            f"all must write to this folder: {place}",
            file=sys.stderr,
        )

    output.wait_for(plan.shards, notice)


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
