"""Pictures of a checkpoint, as many as a metric wants.

python -m training.sample --checkpoint mine.safetensors --classes 0,1 --sizes 256x256,160x320 --output pictures
accelerate launch -m training.sample ...                                  the same pictures, on all GPUs

A picture depends on the seed and its index (``training.drawing``). It appears whole under its name, so a run that was ended in any way
goes on by the same command, and one with other options is refused the folder.
"""

from __future__ import annotations

import argparse
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import PartialState
from PIL import Image
from tqdm.auto import tqdm

from comfyui_fitv2.checkpoint import LoadedModel, load_checkpoint
from comfyui_fitv2.extrapolation import Extrapolation
from comfyui_fitv2.guidance import Guidance
from comfyui_fitv2.labels import Label
from comfyui_fitv2.model import FiT
from comfyui_fitv2.resolution import Resolution, parse_size
from comfyui_fitv2.solvers import SOLVERS

from ..command_line import run_command
from ..data.latent_set import SD_SCALE
from ..data.vae import TINY, VAE, fingerprint, open_vae
from ..export import DTYPES
from ..processes import join_processes, on_main
from ..whole_files import TEMPORARY_SUFFIX, temporary_file, write_json
from .generate import Drawing, Picture, batches, draw, parse_classes, pictures_of, require_flow

SETTINGS_FILE = "sampling.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleOptions:
    checkpoint: Path
    """A FiTv2, of ours or official."""
    output: Path
    """Folder of the pictures."""
    sizes: str
    """As in ``resolution.parse_size``, with commas between."""
    classes: str = "all"
    """As in ``drawing.parse_classes``."""
    count: int = 1
    """Pictures of each class at each size."""
    solver: str = "heun"
    steps: int = 20
    guidance: float = 1.5
    guidance_power: float = 0.0
    extrapolation: str | None = None
    """As in ``Extrapolation.parse``; None is the model's own."""
    seed: int = 0
    vae: str = TINY
    """As in ``vaes.open_vae``."""
    dtype: str = "float32"
    """Of the model; the solver and the VAE compute in float32."""
    preset: str | None = None
    """Architecture, for official high-resolution releases."""
    tokens: int = 4096
    """Most tokens of a batch, unless one picture has more."""
    packed: bool = False
    """Whether a batch may hold several sizes."""
    npz: bool = False
    """Whether to write each size's pictures as one array too."""
    device: str | None = None
    """None leaves it to accelerate."""

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise ValueError(f"--batch-tokens must be 1 or more, not {self.tokens}.")

    def drawing(self, train_length: int) -> Drawing:
        extrapolation = (
            None
            if self.extrapolation is None
            else Extrapolation.parse(self.extrapolation, train_length)
        )
        return Drawing(
            self.solver,
            self.steps,
            Guidance(self.guidance, self.guidance_power),
            extrapolation,
            self.seed,
        )

    def parse_sizes(self, train_tokens: int) -> list[Resolution]:
        """Different sizes, in order. A ratio gets as many tokens as the model was trained on. Raises ``ValueError``."""
        sizes = list(
            dict.fromkeys(
                parse_size(text, train_tokens) for text in self.sizes.split(",") if text.strip()
            )
        )
        if not sizes:
            raise ValueError("--sizes names none. Write such as 256x256,160x320.")
        return sizes


def sample(options: SampleOptions) -> list[Picture]:
    """Draw what is not drawn yet; all pictures, once every process is done. Raises ``ValueError`` or ``OSError`` on what the person can put right."""
    state = join_processes(options.device)
    device = torch.device(options.device or str(state.device))
    loaded = load_checkpoint(options.checkpoint, preset=options.preset, dtype=DTYPES[options.dtype])
    config = loaded.config
    require_flow(config)
    drawing, sizes = options.drawing(config.train_length), options.parse_sizes(config.train_tokens)
    labels = parse_classes(options.classes, loaded.class_names, config.num_classes)
    pictures = pictures_of(labels, sizes, options.count)
    vae = open_vae(options.vae, device)
    check_vae(loaded, vae, options.vae)
    on_main(state, lambda: _claim(options, _settings(options, loaded, labels, sizes)))

    cut = batches(pictures, options.tokens, packed=options.packed, solver=drawing.solver)[
        state.process_index :: state.num_processes
    ]
    draw_missing(
        loaded.model.to(device),
        vae,
        cut,
        drawing,
        options.output,
        packed=options.packed,
        device=device,
        quiet=not state.is_local_main_process,
    )
    state.wait_for_everyone()
    on_main(state, lambda: _finish(options, pictures))
    return pictures


def draw_missing(
    model: FiT,
    vae: VAE,
    cut: Sequence[Sequence[Picture]],
    drawing: Drawing,
    folder: Path,
    *,
    packed: bool,
    device: torch.device,
    quiet: bool = False,
) -> None:
    """Draw those of the batches ``cut`` that are not whole in ``folder``, as PNGs."""
    left = [batch for batch in cut if not all((folder / p.file_name).is_file() for p in batch)]
    total = sum(map(len, cut))
    with tqdm(
        total=total,
        initial=total - sum(map(len, left)),
        desc="drawing",
        unit="image",
        disable=quiet,
    ) as progress:
        for batch in left:
            for picture, latents in zip(
                batch, draw(model, batch, drawing, packed=packed, device=device), strict=True
            ):
                # One at a time: no other picture has a part in it, and large ones fit.
                _write_png(folder / picture.file_name, vae.decode(latents[None])[0])
                progress.update()


def check_vae(loaded: LoadedModel, vae: VAE, name: str) -> None:
    """Raise ``ValueError`` where ``vae``, opened by ``name``, is not the one that the model's latents are of."""
    if vae.channels != loaded.config.in_channels:
        raise ValueError(
            f"--vae {name} decodes latents of {vae.channels} channels, the checkpoint draws {loaded.config.in_channels}."
        )
    scale = loaded.latent_format.scale_factor if loaded.latent_format else SD_SCALE
    if abs(vae.scale_factor / scale - 1) > 1e-3:
        raise ValueError(
            f"--vae {name} scales latents by {vae.scale_factor:g}, the checkpoint was trained on {scale:g}. Name the VAE it was made with."
        )


def _settings(
    options: SampleOptions,
    loaded: LoadedModel,
    labels: Sequence[Label],
    sizes: Sequence[Resolution],
) -> dict[str, Any]:
    """All that decides a picture."""
    drawing = options.drawing(loaded.config.train_length)
    return {
        "checkpoint": f"{options.checkpoint.name} {fingerprint(str(options.checkpoint))}",
        "vae": fingerprint(options.vae),
        "classes": [label.id for label in labels],
        "sizes": [f"{size.width}x{size.height}" for size in sizes],
        "count": options.count,
        "solver": drawing.solver,
        "steps": drawing.steps,
        "guidance": options.guidance,
        "guidance_power": options.guidance_power,
        "extrapolation": (drawing.extrapolation or loaded.config.default_extrapolation).label,
        "seed": drawing.seed,
        "dtype": options.dtype,
    }


def _claim(options: SampleOptions, settings: dict[str, Any]) -> None:
    """Take the folder for these settings, or refuse."""
    output, file = options.output, options.output / SETTINGS_FILE
    if output.exists() and not output.is_dir():
        raise ValueError(f"--output {output} is a file; name a folder.")
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if changed := [
            f"{key} {before.get(key)}, now {value}"
            for key, value in settings.items()
            if before.get(key) != value
        ]:
            raise ValueError(
                f"{output} holds pictures drawn otherwise ({'; '.join(changed)}). Name another --output."
            )
        return
    if output.is_dir() and any(not path.name.startswith(".") for path in output.iterdir()):
        raise ValueError(
            f"{output} is not empty, and holds no pictures of this command. Name another --output."
        )
    output.mkdir(parents=True, exist_ok=True)
    write_json(file, settings)


def _write_png(path: Path, image: torch.Tensor) -> None:
    pixels = (image * 255).round().to("cpu", torch.uint8).permute(1, 2, 0).numpy()
    with temporary_file(path) as file:
        Image.fromarray(pixels).save(file, "PNG")


def _finish(options: SampleOptions, pictures: Sequence[Picture]) -> None:
    for stale in options.output.glob(f".*{TEMPORARY_SUFFIX}"):  # of runs that were killed
        stale.unlink(missing_ok=True)
    if options.npz:
        for size in dict.fromkeys(p.size for p in pictures):
            path = options.output / f"{size.width}x{size.height}.npz"
            if not path.is_file():
                _write_npz(
                    path, [options.output / p.file_name for p in pictures if p.size == size], size
                )


def _write_npz(path: Path, files: Sequence[Path], size: Resolution) -> None:
    """``arr_0`` (pictures, height, width, 3) uint8, as ADM's evaluator reads it; written picture by picture, because 50,000 are 10 GB."""
    header = {
        "descr": "|u1",
        "fortran_order": False,
        "shape": (len(files), size.height, size.width, 3),
    }
    with (
        temporary_file(path) as file,
        zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
        archive.open("arr_0.npy", "w", force_zip64=True) as array,
    ):
        np.lib.format.write_array_header_1_0(array, header)
        for picture in tqdm(files, desc=path.name, unit="image", leave=False):
            with Image.open(picture) as image:
                array.write(np.asarray(image.convert("RGB")).tobytes())


def add_drawing_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of ``SampleOptions`` that say how to draw."""
    parser.add_argument(
        "--checkpoint",
        type=Path,
        required=True,
        help="a FiTv2, as training.export writes it or as officially released",
    )
    parser.add_argument(
        "--sizes",
        required=True,
        help='such as 256x256,160x320 (width x height in pixels) or ratios: "1:1, 3:2 @ 576" (within 576 tokens)',
    )
    parser.add_argument(
        "--classes",
        default="all",
        help='ids or names: 0,1 or "France, Finland", with semicolons where a name holds a comma (default: all)',
    )
    parser.add_argument("--solver", choices=SOLVERS, default="heun", help="(default: heun)")
    parser.add_argument("--steps", type=int, default=20, help="of the solver (default: 20)")
    parser.add_argument(
        "--guidance",
        type=float,
        default=1.5,
        help="scale of classifier-free guidance; 1 is none (default: 1.5)",
    )
    parser.add_argument(
        "--guidance-power",
        type=float,
        default=0.0,
        help="power of the power-cosine schedule; 0 keeps the scale (default: 0)",
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: 0)")
    parser.add_argument(
        "--vae",
        default=TINY,
        help='"tiny" (default), a file, or a diffusers folder: the one the latents were made with',
    )
    parser.add_argument(
        "--dtype", choices=DTYPES, default="float32", help="of the model (default: float32)"
    )
    parser.add_argument(
        "--preset",
        help="architecture, for official high-resolution releases: fitv2-xl-hr or fitv2-3b-hr",
    )
    parser.add_argument(
        "--batch-tokens",
        dest="tokens",
        type=int,
        default=4096,
        help="most tokens of a batch; 256 are 256 x 256 pixels (default: 4096)",
    )
    parser.add_argument(
        "--packed",
        action="store_true",
        help="draw pictures of several sizes in one batch, without padding",
    )
    parser.add_argument(
        "--npz",
        action="store_true",
        help="also write each size as one array, as ADM's evaluator reads it",
    )
    parser.add_argument("--device", help="such as cpu or cuda:1; default: what accelerate assigns")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m training.sample", description="Draw pictures of a checkpoint, as PNGs."
    )
    add_drawing_arguments(parser)
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="folder of the pictures; the same command goes on where it ended",
    )
    parser.add_argument(
        "--count", type=int, default=1, help="pictures of each class at each size (default: 1)"
    )
    parser.add_argument(
        "--extrapolation",
        help='RoPE method, such as "ntk" or "ntk + pro2"; default: the one the model was trained with',
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    options = vars(_parser().parse_args(argv))

    def command() -> None:
        sampled = SampleOptions(**options)
        pictures = sample(sampled)
        if PartialState().is_main_process:
            print(f"{sampled.output}: {len(pictures)} pictures")

    return run_command(command, "The same command goes on from here.")
