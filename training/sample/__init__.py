"""Generate images with a checkpoint, as many as a metric needs.

python -m training.sample --checkpoint mine.safetensors --classes 0,1 --sizes 256x256,160x320 \\
    --output images
accelerate launch -m training.sample ...          the same images, generated on all GPUs

An image depends on the seed and its index (``generate``). Each file is written atomically, so the
same command resumes a run that was stopped in any way. A folder of images with other settings is
refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from accelerate import PartialState

from comfyui_fitv2.checkpoint import LoadedModel
from comfyui_fitv2.config import FiTConfig
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Blend, Label, parse_classes
from comfyui_fitv2.resolution import Resolution, parse_sizes
from comfyui_fitv2.solvers import DEFAULT_SOLVER, SOLVERS

from ..command_line import parse_options, run_command
from ..failures import explained
from ..option_names import own_names
from ..processes import join_processes, on_main
from ..whole_files import TEMPORARY_SUFFIX, check_output_folder
from .generate import Request, SamplingSettings, batches, requests_for
from .option_names import NAMES
from .sampler import Sampler, write_npz

SETTINGS_FILE = "sampling.json"
LESS_MEMORY = "Lower --batch-tokens, or use --precision bf16 in another --output."
RESUMES = "The images that were written stay; the same command resumes."
_DECIDING = (
    "count",
    "solver",
    "steps",
    "guidance_scale",
    "guidance_power",
    "seed",
    "precision",
)


@dataclass(frozen=True, kw_only=True)
class GenerationOptions:
    """What to generate, and how: the options that ``sample`` and ``evaluate`` share."""

    checkpoint: Path
    """A FiTv2 checkpoint, written by training.export or officially released."""
    sizes: tuple[str, ...]
    """Pixels, such as 256x256 160x320 (width x height), or ratios: "1:1", "3:2 @ 576" (tokens)."""
    classes: tuple[str, ...] = ("all",)
    """Ids or names, such as 0 1 or "France, Finland", separated by ; if a name has a comma. Blends:
    "France + Italy" or "0.7*France + 0.3*Italy"."""
    count: int = 1
    """Number of images per class and size."""
    solver: Annotated[str, tyro.conf.arg(metavar="|".join(SOLVERS))] = DEFAULT_SOLVER
    """ODE or SDE solver."""
    steps: int = 20
    """Number of solver steps."""
    guidance_scale: Annotated[float, tyro.conf.arg(aliases=("--guidance",))] = 1.5
    """Scale of classifier-free guidance; 1 is none."""
    guidance_power: float = 0.0
    """Power of the power-cosine guidance schedule; 0 keeps the scale constant."""
    seed: int = 0
    """Seed of the noise."""
    vae: str | None = None
    """The VAE that the latents were made with: "tiny", a file, or a diffusers folder; by default
    tiny, unless the checkpoint says another."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Precision of the model; the solver and the VAE compute in fp32."""
    preset: str | None = None
    """Architecture of an official high-resolution release: fitv2-xl-hr or fitv2-3b-hr."""
    batch_tokens: int = 4096
    """Maximum number of tokens in a batch; 256 tokens are 256 x 256 pixels."""
    packed: bool = False
    """Generate images of several sizes in one batch, without padding."""
    npz: bool = False
    """Also write the images of each size as one array, as ADM's evaluator reads it."""
    device: str | None = None
    """Such as cpu or cuda:1; by default the one that accelerate assigns."""

    def settings(self, extrapolation: Extrapolation | None) -> SamplingSettings:
        """The settings of sampling. Raises ``ValueError`` on values out of range."""
        guidance = Guidance(self.guidance_scale, self.guidance_power)
        return SamplingSettings(self.solver, self.steps, guidance, extrapolation, self.seed)

    def settings_by_name(self) -> dict[str, Any]:
        """Those options, besides classes, sizes and files, that decide an image."""
        return {name: getattr(self, name) for name in _DECIDING}

    def labels(self, loaded: LoadedModel) -> list[Label | Blend]:
        """The classes of the model that ``classes`` names. Raises ``LabelError``."""
        known = loaded.class_names, loaded.config.num_classes, loaded.class_synonyms
        texts = self.classes or ("",)
        return [label for text in texts for label in parse_classes(text, *known)]

    def resolutions(self, config: FiTConfig) -> list[Resolution]:
        """The different sizes, in order. Raises ``ValueError``."""
        return list(dict.fromkeys(parse_sizes(";".join(self.sizes), config.train_tokens).values()))

    def open_sampler(self, state: PartialState) -> Sampler:
        """The checkpoint and the VAE, on this process' device; see ``Sampler.open``."""
        return Sampler.open(
            self.checkpoint,
            self.vae,
            precision=self.precision,
            preset=self.preset,
            device=torch.device(self.device or str(state.device)),
        )


@dataclass(frozen=True, kw_only=True)
class SampleOptions(GenerationOptions):
    """Options of the command."""

    output: Path
    """Folder for the images. The same command resumes where it stopped."""
    extrapolation: str | None = None
    """RoPE extrapolation, such as "ntk + pro2", or "auto", as the checkpoint recommends; by default
    as the model was trained."""


def sample(options: SampleOptions) -> list[Request]:
    """Generate the images that are missing; all requests, once every process is done.

    Raises ``ValueError`` or ``OSError`` on a user's error.
    """
    state = join_processes(options.device)
    text = options.extrapolation
    extrapolation = None if text is None else Extrapolation.parse(text)
    with explained(LESS_MEMORY, last_state=lambda: RESUMES):
        sampler = options.open_sampler(state)
        return write_images(sampler, options, extrapolation, options.output, state)


def write_images(
    sampler: Sampler,
    options: GenerationOptions,
    extrapolation: Extrapolation | None,
    folder: Path,
    state: PartialState,
) -> list[Request]:
    """Write this process' share of the missing images to ``folder``; wait for the other processes.

    Returns the requests of all images. Raises ``OutputFolderError`` on a folder of images with
    other settings, and ``ValueError`` on options that the model cannot satisfy.
    """
    loaded, settings = sampler.loaded, options.settings(extrapolation)
    labels, sizes = options.labels(loaded), options.resolutions(loaded.config)
    requests = requests_for(labels, sizes, options.count)
    cut = batches(requests, options.batch_tokens, packed=options.packed, solver=options.solver)
    identity = {
        "checkpoint": f"{options.checkpoint.name} {sampler.checkpoint_digest}",
        "vae": sampler.vae_digest,
        "classes": [label.id if isinstance(label, Label) else str(label) for label in labels],
        "sizes": [f"{size.width}x{size.height}" for size in sizes],
        "extrapolation": (extrapolation or loaded.config.default_extrapolation).label,
        **options.settings_by_name(),
    }
    on_main(
        state, lambda: check_output_folder(folder, identity, name=SETTINGS_FILE, holds="images")
    )
    own = cut[state.process_index :: state.num_processes]
    quiet = not state.is_local_main_process
    sampler.write_missing(own, settings, folder, packed=options.packed, quiet=quiet)
    state.wait_for_everyone()
    on_main(state, lambda: _finish(folder, requests, npz=options.npz))
    return requests


def _finish(folder: Path, requests: Sequence[Request], *, npz: bool) -> None:
    for stale in folder.glob(f".*{TEMPORARY_SUFFIX}"):  # left by processes that were killed
        stale.unlink(missing_ok=True)
    for size in dict.fromkeys(request.size for request in requests) if npz else ():
        path = folder / f"{size.width}x{size.height}.npz"
        if not path.is_file():
            write_npz(path, [folder / r.file_name for r in requests if r.size == size], size)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command ``python -m training.sample``; returns the exit status."""

    def command() -> None:
        options = parse_options(
            SampleOptions,
            own_names(argv, NAMES),
            prog="python -m training.sample",
            description="Generate images with a checkpoint, as PNG files.",
        )
        requests = sample(options)
        if PartialState().is_main_process:
            print(f"{options.output}: {len(requests)} images")

    return run_command(command, "The same command resumes from here.")
