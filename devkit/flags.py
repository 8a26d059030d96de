"""ComfyUI's start flags, and whether the pack still draws the same images with each.

python -m devkit.flags [WORD …]    try all rows, or those whose flags contain one of these words

Each row starts our own ComfyUI once and runs the first shared workflow with few steps, and a sweep
of two sizes, both twice. The reference is a run without the row's flags. A Markdown table is
printed: flags, result, seconds, and what the pack wrote into the log.
"""

from __future__ import annotations

import io
import json
import math
import re
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageChops, ImageStat

from .client import Client, PromptError
from .environment import ROOT, SetupError, say
from .host import PACK_NAME, Host, newest_frontend, own_host
from .server import Server
from .workflow import read_workflow, to_prompt

WORKFLOW = ROOT / "workflows" / "1 One flag, any shape.json"
BUNDLED = "fitv2_flags256.safetensors"
ELSEWHERE = "elsewhere.safetensors"
"""A copy of the bundled checkpoint in the folder that ``PATHS`` names."""
PATHS = "paths.yaml"
SEEDS = (9, 10)
STEPS = 4
CLOSE_ENOUGH = 45.0
"""PSNR in dB from which on two images look the same."""


@dataclass(frozen=True)
class Row:
    """Flags that ComfyUI is started with. ``{base}`` stands for its data folder."""

    arguments: Sequence[str]
    checkpoint: str = BUNDLED
    folder: str = "base"
    """Name of the data folder."""

    @property
    def name(self) -> str:
        """The flags as people type them, without the paths of one run."""
        own = f" in {self.folder}/" if self.folder != "base" else ""
        shown = ("…" if "{" in argument else argument for argument in self.arguments)
        return f"{' '.join(shown) or '(none)'}{own}"


def _each(*flags: str) -> list[Row]:
    return [Row(flag.split()) for flag in flags]


REFERENCE = Row(())
ROWS = [
    *_each("--force-fp32", "--force-fp16", "--fp32-unet", "--fp64-unet", "--bf16-unet"),
    *_each("--fp16-unet", "--fp8_e4m3fn-unet", "--fp8_e5m2-unet", "--fp8_e8m0fnu-unet"),
    *_each("--fp8_e4m3fn-unet --supports-fp8-compute --fast fp8_matrix_mult"),
    *_each("--fp32-vae --cpu-vae", "--bf16-vae", "--fp16-vae", "--fp16-intermediates"),
    *_each("--preview-method latent2rgb --preview-size 64", "--preview-method taesd"),
    *_each("--preview-method none"),
    # Flags that should change no image share a row, to save starts.
    *_each("--cache-classic --deterministic --force-channels-last --fast"),
    *_each("--cache-lru 3 --mmap-torch-files --disable-mmap --fast-disk --disable-pinned-memory"),
    *_each("--cache-none --async-offload --disable-dynamic-vram --disable-smart-memory"),
    *_each("--cache-ram 2 --reserve-vram 1 --vram-headroom 1 --disable-nvml-pressure"),
    *_each("--high-ram --force-non-blocking --disable-async-offload --disable-triton-backend"),
    *_each("--enable-triton-backend"),
    *_each("--use-split-cross-attention --force-upcast-attention"),
    *_each("--use-quad-cross-attention --dont-upcast-attention"),
    *_each("--use-pytorch-cross-attention --disable-xformers"),
    *_each("--multi-user --disable-metadata --enable-compress-response-body --enable-assets"),
    *_each("--enable-assets --enable-asset-hashing --verbose --log-stdout --dont-print-server"),
    Row(("--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK_NAME)),
    Row((), folder="two words, é 旗"),
    Row(
        (
            *("--output-directory", "{base}/an output", "--temp-directory", "{base}/a temp"),
            *("--input-directory", "{base}/an input", "--user-directory", "{base}/a user"),
            *("--models-directory", "{base}/some models"),
        )
    ),
    Row(
        ("--extra-model-paths-config", f"{{base}}/{PATHS}", "--front-end-root", "{frontend}"),
        checkpoint=ELSEWHERE,
    ),
]

_GIVEN = "every run has it"
_NO_GPU = "needs a device other than the CPU"
_NO_TEXT = "the pack has no text encoder"
_WEB = "is about the web server or the browser alone"
LEFT_OUT = {
    "--base-directory": _GIVEN,
    "--cpu": _GIVEN + " where there is no GPU",
    "--database-url": _GIVEN,
    "--disable-api-nodes": _GIVEN,
    "--disable-auto-launch": _GIVEN,
    "--port": _GIVEN,
    "--cuda-device": _NO_GPU,
    "--cuda-malloc": _NO_GPU,
    "--default-device": _NO_GPU,
    "--directml": _NO_GPU,
    "--disable-cuda-malloc": _NO_GPU,
    "--enable-dynamic-vram": _NO_GPU + ": ComfyUI does not start",
    "--gpu-only": _NO_GPU,
    "--highvram": _NO_GPU,
    "--lowvram": _NO_GPU,
    "--novram": _NO_GPU,
    "--oneapi-device-selector": _NO_GPU,
    "--use-flash-attention": _NO_GPU + ", and a package",
    "--use-sage-attention": _NO_GPU + ", and a package",
    "--bf16-text-enc": _NO_TEXT,
    "--fp16-text-enc": _NO_TEXT,
    "--fp32-text-enc": _NO_TEXT,
    "--fp8_e4m3fn-text-enc": _NO_TEXT,
    "--fp8_e5m2-text-enc": _NO_TEXT,
    "--auto-launch": _WEB,
    "--comfy-api-base": _WEB,
    "--enable-cors-header": _WEB,
    "--feature-flag": _WEB,
    "--front-end-version": _WEB + ", and downloads a frontend",
    "--listen": _WEB,
    "--max-upload-size": _WEB,
    "--tls-certfile": _WEB + ", and needs a certificate",
    "--tls-keyfile": _WEB + ", and needs a certificate",
    "--windows-standalone-build": _WEB,
    "--default-hashing-function": "is about uploads alone",
    "--disable-manager-ui": "needs the package of ComfyUI-Manager",
    "--enable-manager": "needs the package of ComfyUI-Manager",
    "--enable-manager-legacy-ui": "needs the package of ComfyUI-Manager",
    "--debug-hang": "acts on Ctrl+C alone",
    "--list-feature-flags": "ends at once",
    "--quick-test-for-ci": "ends at once",
}
"""Flags that are not tried, and why."""


@dataclass(frozen=True)
class Outcome:
    """What came of a row: its images, or why there are none."""

    seconds: float
    images: Sequence[Image.Image] = ()
    error: str = ""
    said: Sequence[str] = ()
    """What the pack wrote into the log."""


def unknown_flags(cli_args: str) -> list[str]:
    """The flags in the text of ComfyUI's ``cli_args.py`` that are neither tried nor left out."""
    flags = re.findall(r'add_argument\(\s*"(--[\w-]+)"', cli_args)
    tried = {argument for row in ROWS for argument in row.arguments}
    return sorted(set(flags) - tried - LEFT_OUT.keys())


def prompt_of(object_info: Mapping[str, Any], checkpoint: str, seed: int) -> dict[str, Any]:
    """The workflow with few steps, and a sweep of two sizes beside it."""
    prompt = to_prompt(read_workflow(WORKFLOW), dict(object_info))
    ids = {node["class_type"]: id_ for id_, node in prompt.items()}
    loader, sampler = prompt[ids["FiTLoader"]], prompt[ids["FiTSampler"]]
    loader["inputs"]["checkpoint"] = checkpoint
    sampler["inputs"] |= {"seed": seed, "steps": STEPS}
    model, vae = [ids["FiTLoader"], 0], [ids["VAELoader"], 0]
    sweep = {"model": model, "classes": "France", "sizes": "1:1; 2:1", "tokens": 128}
    swept = {"model": model, "sweep": ["sweep", 0], "seed": seed, "steps": STEPS}
    added = {
        "sweep": ("FiTResolutionSweep", sweep | {"methods": "default"}),
        "swept": (
            "FiTSweepSampler",
            swept | {"solver": "ab2", "guidance": 1.5, "tokens_per_pass": 16384},
        ),
        "decoded": ("FiTSweepDecoder", {"latents": ["swept", 0], "vae": vae}),
        "saved": ("SaveImage", {"images": ["decoded", 0], "filename_prefix": "sweep"}),
    }
    return prompt | {
        id_: {"class_type": kind, "inputs": inputs} for id_, (kind, inputs) in added.items()
    }


def try_row(host: Host, row: Row, scratch: Path) -> Outcome:
    """Start ComfyUI with the flags of a row, and draw."""
    base = scratch / row.folder
    arguments = _prepared(row, base)
    images, error, started = [], "", time.monotonic()
    log_path = base / "comfyui.log"
    try:
        with Server(host, base, *arguments) as server:
            client = Client(server.url)
            object_info = client.get("/object_info")
            started = time.monotonic()
            for seed in SEEDS:
                run = client.wait(client.queue(prompt_of(object_info, row.checkpoint, seed)))
                files = [file for file in run.files() if file["type"] == "output"]
                files.sort(key=lambda file: file["filename"])
                images += [_opened(client.fetch(file)) for file in files]
    except (PromptError, SetupError, ConnectionError) as failure:
        error = str(failure).strip().replace("\n", " ")
    log = log_path.read_text(encoding="utf-8", errors="replace") if log_path.exists() else ""
    return Outcome(time.monotonic() - started, images, error[-300:], list(_said(log)))


def _prepared(row: Row, base: Path) -> list[str]:
    """The arguments with paths of this run; what they name is made."""
    models = base / "models elsewhere" / "fit"
    models.mkdir(parents=True)
    shutil.copy(ROOT / "models" / "fit" / BUNDLED, models / ELSEWHERE)
    (base / PATHS).write_text(
        f"elsewhere:\n  base_path: {json.dumps(str(models.parent))}\n  fit: fit\n", encoding="utf-8"
    )
    arguments = []
    for argument in row.arguments:
        if argument == "{frontend}":
            argument = str(newest_frontend())
        elif argument.startswith("{base}"):
            argument = argument.replace("{base}", str(base))
            if not Path(argument).suffix:
                Path(argument).mkdir(parents=True)
        arguments.append(argument)
    return arguments


def _opened(content: bytes) -> Image.Image:
    return Image.open(io.BytesIO(content)).convert("RGB")


def _said(log: str) -> Iterator[str]:
    """The pack's own lines of a log, each once."""
    plain = re.sub(r"\x1b\[[\d;]*m", "", log)  # without colours
    lines = re.findall(r"^(?:\[[^\]]*\] )*FiT: (.+)$", plain, re.MULTILINE)
    yield from dict.fromkeys(line.strip() for line in lines)


def psnr(a: Image.Image, b: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB of two images of one size; infinite where they are equal."""
    squares = ImageStat.Stat(ImageChops.difference(a, b)).sum2
    error = sum(squares) / (3 * a.width * a.height)
    return 10 * math.log10(255**2 / error) if error else math.inf


def result(outcome: Outcome, reference: Outcome) -> str:
    """One cell: "same", the lowest PSNR of all images, or why there are none."""
    if outcome.error:
        return outcome.error
    pairs = list(zip(outcome.images, reference.images, strict=False))
    sizes_differ = any(a.size != b.size for a, b in pairs)
    if len(outcome.images) != len(reference.images) or sizes_differ or not pairs:
        return f"{len(outcome.images)} images, expected {len(reference.images)} of the same sizes"
    lowest = min(psnr(a, b) for a, b in pairs)
    return "same" if math.isinf(lowest) else f"{lowest:.0f} dB"


def is_good(outcome: Outcome, reference: Outcome) -> bool:
    """Whether a row draws the same images, or the pack says why it cannot."""
    cell = result(outcome, reference)
    close = cell == "same" or (cell.endswith(" dB") and float(cell[:-3]) >= CLOSE_ENOUGH)
    return close or bool(_new(outcome, reference))


def _new(outcome: Outcome, reference: Outcome) -> list[str]:
    """What the pack says because of the flags of a row."""
    return [line for line in outcome.said if line not in reference.said]


def table(outcomes: Mapping[str, Outcome], reference: Outcome) -> str:
    """The table in Markdown."""
    lines = ["| flags | images | seconds | the pack says |", "|---|---|---|---|"]
    for name, outcome in outcomes.items():
        said = " ".join(_new(outcome, reference))
        cells = (f"`{name}`", result(outcome, reference), f"{outcome.seconds:.0f}", said)
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return "\n".join(lines)


def main(words: Sequence[str]) -> int:
    host = own_host()
    if unknown := unknown_flags((host.folder / "comfy" / "cli_args.py").read_text("utf-8")):
        say(f"neither tried nor left out: {', '.join(unknown)}")
    rows = [row for row in ROWS if not words or any(word in row.name for word in words)]
    outcomes = {}
    for row in (REFERENCE, *rows):
        with tempfile.TemporaryDirectory() as scratch:
            outcomes[row.name] = try_row(host, row, Path(scratch))
        cell = result(outcomes[row.name], outcomes[REFERENCE.name])
        say(f"{row.name}: {cell}, {outcomes[row.name].seconds:.0f} s")
    reference = outcomes[REFERENCE.name]
    print(table(outcomes, reference), flush=True)
    bad = [name for name, outcome in outcomes.items() if not is_good(outcome, reference)]
    if bad:
        say(f"failed: {', '.join(bad)}")
    return 1 if bad or unknown else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
