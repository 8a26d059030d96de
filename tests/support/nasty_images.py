"""About 70 files such as people have in a folder of images, and what is to become of each.

Every format, damage and name that was met or thought of. Links, pipes and names that a system
refuses are left out there.
"""

from __future__ import annotations

import io
import os
import struct
import unicodedata
import zlib
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms

from training.data.colour import matrix_profile

RED, WHITE = (255, 0, 0), (255, 255, 255)
_ORIENTATION = 0x0112


@dataclass(frozen=True)
class Expected:
    """What is to become of a file."""

    size: tuple[int, int] | None = None
    """Width and height in pixels, upright; None where it cannot be used."""
    class_name: str = ""
    """The class it gets; "" where the listing leaves it out already."""
    reason: str = ""
    """A regular expression that fits the reason why it cannot be used."""
    colour: tuple[int, int, int] | None = None
    """The colour of its middle in sRGB, where it has one."""


class _Folder:
    """Writes files, and keeps what is to be expected of them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.expected: dict[str, Expected] = {}

    def used(
        self,
        file: str,
        content: bytes | Image.Image,
        size: tuple[int, int] = (48, 32),
        colour: tuple[int, int, int] | None = None,
        **options: Any,
    ) -> None:
        """A file that can be used."""
        self._write(file, content, options)
        name = unicodedata.normalize("NFC", file.split("/")[0])
        self.expected[file] = Expected(size, name, colour=colour)

    def listed(self, file: str, content: bytes, reason: str) -> None:
        """A file that is in the listing and turns out to be unusable."""
        self._write(file, content, {})
        self.expected[file] = Expected(None, file.split("/")[0], reason)

    def left_out(self, file: str, content: bytes | Image.Image, reason: str) -> None:
        """A file that the listing leaves out."""
        self._write(file, content, {})
        self.expected[file] = Expected(reason=reason)

    def reported(self, line: str, reason: str) -> None:
        """A line of the report on something that ``place`` or others have made."""
        self.expected[line] = Expected(reason=reason)

    def silent(self, file: str, content: bytes | Image.Image) -> None:
        """A file that another line of the report stands for."""
        self._write(file, content, {})

    def _write(self, file: str, content: bytes | Image.Image, options: dict[str, Any]) -> None:
        path = self.root / file
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, Image.Image):
            content = encoded(content, options.pop("kind", "PNG"), **options)
        path.write_bytes(content)


def make_nasty_images(root: Path) -> dict[str, Expected]:
    """Fill the folder ``root``; what is to be expected, by file or line of the report."""
    folder = _Folder(root)
    _formats(folder)
    _colours(folder)
    _sizes(folder)
    _damage(folder)
    _names(folder)
    _junk(folder)
    _unsupported(folder)
    with suppress(OSError, AttributeError, NotImplementedError):  # no links or pipes here
        _links(folder)
        _no_files(folder)
    return folder.expected


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    """The bytes of an image file."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def plain(mode: str = "RGB", colour: Any = RED, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """An image of one colour."""
    return Image.new(mode, size, colour)


def display_p3() -> bytes:
    """An ICC profile of Display P3."""

    def curve(x: np.ndarray) -> np.ndarray:
        return np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4)

    return matrix_profile((0.3127, 0.3290, 0.680, 0.320, 0.265, 0.690, 0.150, 0.060), curve)


def png_with_chunks(image: Image.Image, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG with chunks, each a name and its data, before the pixels."""
    content = encoded(image)
    data = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    return content[:33] + data + content[33:]  # the signature and IHDR have 33 bytes


def huge_png(width: int, height: int) -> bytes:
    """A small file that claims to be a huge image."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )


def _formats(folder: _Folder) -> None:
    for suffix, kind in {
        "jpg": "JPEG",
        "JPEG": "JPEG",
        "jfif": "JPEG",
        "png": "PNG",
        "gif": "GIF",
        "bmp": "BMP",
        "tif": "TIFF",
        "webp": "WEBP",
        "jp2": "JPEG2000",
        "ppm": "PPM",
        "tga": "TGA",
        "mpo": "MPO",
    }.items():
        folder.used(f"formats/a.{suffix}", plain(), kind=kind)
    folder.used("formats/icon.ico", plain(size=(32, 32)), (32, 32), kind="ICO")
    frames = [plain(colour="blue"), plain(colour="green")]
    for suffix, kind in (("gif", "GIF"), ("apng", "PNG"), ("webp", "WEBP")):
        file = f"formats/moving.{suffix}"
        folder.used(file, plain(), kind=kind, save_all=True, append_images=frames)
    folder.used("formats/png inside.jpg", plain())
    folder.used("formats/jpeg inside.png", encoded(plain(), "JPEG"))
    folder.used("formats/no suffix", encoded(plain(), "JPEG"))
    folder.used("formats/a.jpg_large", encoded(plain(), "JPEG"))
    folder.used("formats/motion photo.jpg", encoded(plain(), "JPEG") + bytes(9000))


def _colours(folder: _Folder) -> None:
    p3 = display_p3()
    near_red = plain(colour=(234, 51, 35))
    folder.used("colours/p3.png", near_red, colour=RED, icc_profile=p3)
    folder.used("colours/p3.jpg", near_red, colour=RED, kind="JPEG", icc_profile=p3, quality=100)
    folder.used(
        "colours/p3 cicp.png", png_with_chunks(near_red, (b"cICP", b"\x0c\x0d\0\1")), colour=RED
    )
    folder.used("colours/p3 palette.png", near_red.quantize(4), colour=RED, icc_profile=p3)
    folder.used("colours/p3 alpha.png", near_red.convert("RGBA"), colour=RED, icc_profile=p3)
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    folder.used("colours/srgb.png", near_red, colour=(234, 51, 35), icc_profile=srgb)
    for name, profile in (("damaged", p3[:150]), ("no", b"no profile" * 20)):
        file = f"colours/{name} profile.png"
        folder.used(file, near_red, colour=(234, 51, 35), icc_profile=profile)
    folder.used("colours/grey with p3.png", plain("L", 51), colour=(51, 51, 51), icc_profile=p3)
    folder.used(
        "colours/linear.png",
        png_with_chunks(plain(colour=(55, 55, 55)), (b"gAMA", struct.pack(">I", 100_000))),
        colour=(128, 128, 128),
    )
    folder.used("colours/cmyk.jpg", plain("CMYK", (0, 255, 255, 0)), colour=RED, kind="JPEG")
    lab = Image.merge("LAB", [Image.new("L", (48, 32), v) for v in (138, 209, 198)])
    folder.used("colours/lab.tif", lab, colour=RED, kind="TIFF")
    sixteen = Image.fromarray(np.full((32, 48), 13107, np.uint16))
    folder.used("colours/16 bit.png", sixteen, colour=(51, 51, 51))
    folder.used("colours/1 bit.png", plain("1", 1), colour=WHITE)
    folder.used("colours/grey alpha.png", plain("LA", (0, 0)), colour=WHITE)
    palette = plain().quantize(4)
    folder.used(
        "colours/clear palette.png", palette, colour=WHITE, transparency=palette.getpixel((0, 0))
    )
    folder.used(
        "colours/clear.webp",
        plain("RGBA", (255, 0, 0, 0)),
        colour=WHITE,
        kind="WEBP",
        lossless=True,
    )


def _sizes(folder: _Folder) -> None:
    folder.used("sizes/dot.png", plain(size=(1, 1)), (1, 1))
    folder.used("sizes/digit.png", plain("L", 9, (28, 28)), (28, 28))
    folder.used("sizes/panorama.png", plain(size=(20000, 50)), (20000, 50))
    folder.listed("sizes/bomb.png", huge_png(60_000, 60_000), "60000 × 60000 pixels")
    for code in range(2, 9):
        exif = Image.Exif()
        exif[_ORIENTATION] = code
        size = (32, 48) if code >= 5 else (48, 32)
        folder.used(f"sizes/turned {code}.jpg", plain(), size, kind="JPEG", exif=exif)
    folder.used("sizes/bad exif.jpg", plain(), kind="JPEG", exif=b"Exif\0\0no TIFF header")


def _damage(folder: _Folder) -> None:
    folder.used("damaged/intact.png", plain())
    noise = Image.effect_noise((200, 200), 90).convert("RGB")
    for suffix, kind in (("jpg", "JPEG"), ("png", "PNG"), ("tif", "TIFF"), ("webp", "WEBP")):
        content = encoded(noise, kind)
        folder.listed(f"damaged/cut.{suffix}", content[: len(content) // 2], ".")
    folder.listed("damaged/page.jpg", b"<!DOCTYPE html>\n<html>" + b" " * 500, "a web page")
    folder.listed("damaged/zeros.jpg", bytes(5000), "only zero bytes")
    folder.listed("damaged/text.png", b"These are words, not pixels. " * 20, "not an image by")
    folder.left_out("damaged/empty.png", b"", "0 bytes")
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 132735\n"
    folder.left_out("damaged/pointer.jpg", pointer, "Git LFS")
    folder.left_out("damaged/photo.jpg.part", encoded(noise), "unfinished download")


def _names(folder: _Folder) -> None:
    for name in (
        "фото",
        "写真",
        "사진",
        "صورة",
        "तस्वीर",
        "φωτο",
        "🎉",
        "-rf",
        "a b  c",
        "it's",
        "x" * 200,
        "100%",
        "#1",
        "a;b,c",
    ):
        folder.used(f"{name[:40]}/{name}.png", plain())
    folder.used(unicodedata.normalize("NFD", "café/été.png"), plain())
    folder.used("deep/2021-05/part1/a.png", plain())


def _junk(folder: _Folder) -> None:
    other = "another program"
    for name in (
        "@eaDir/a.jpg",
        "#recycle",
        "$RECYCLE.BIN",
        "System Volume Information",
        "__MACOSX",
        "Catalog Previews.lrdata",
    ):
        folder.silent(f"formats/{name}/SYNOPHOTO_THUMB_M.jpg", plain())
        folder.reported(f"formats/{name.split('/')[0]}", other)
    folder.silent("lost+found/a.png", plain())
    folder.reported("lost+found", other)
    for name in (".thumbnails", ".ipynb_checkpoints", ".Trashes"):
        folder.silent(f"formats/{name}/a.png", plain())
        folder.reported(f"formats/{name}", "hidden")
    folder.silent("formats/thumbs/a.jpg", plain())
    folder.reported("formats/thumbs", "thumbnails")
    for name in ("Thumbs.db", "desktop.ini", ".DS_Store", "._a.jpg"):
        folder.silent(f"formats/{name}", b"\0\5\x16\7")
    folder.silent("formats/.hidden.png", plain())
    folder.reported("formats/.*", "hidden")
    for i in range(5):
        folder.silent(f"formats/{i}.txt", b"a caption")
    folder.reported("formats/*.txt", "5 files: not an image")
    folder.left_out("formats/notes.md", b"# Notes", "not an image")
    folder.left_out("notes", b"no suffix, no image", "not an image")
    folder.left_out("loose.png", plain(), "not in a folder of a class")
    (folder.root / "nothing").mkdir()
    folder.reported("nothing", "without images")


def _unsupported(folder: _Folder) -> None:
    for suffixes, remedy in (
        (("cr2", "nef", "dng", "svg", "pdf"), "convert it to PNG"),
        (("mp4", "xcf"), "export "),
        (("zip",), "unpack"),
    ):
        for suffix in suffixes:
            folder.left_out(f"formats/other.{suffix}", b"II*\0" + bytes(400), remedy)


def _links(folder: _Folder) -> None:
    """Links to files and folders outside and inside, loops, and links to nothing."""
    outside = folder.root.parent / f"{folder.root.name} outside"
    for name in ("one/b.png", "two/c.png", "d.png"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        plain().save(outside / name)
    root = folder.root
    (root / "links").mkdir()

    def link(file: str, target: Path | str, *, is_folder: bool = False) -> None:
        (root / file).symlink_to(target, target_is_directory=is_folder)

    link("linked class", outside / "one", is_folder=True)
    folder.expected["linked class/b.png"] = Expected((48, 32), "linked class")
    link("links/folder", outside / "two", is_folder=True)
    folder.expected["links/folder/c.png"] = Expected((48, 32), "links")
    link("links/a file.png", outside / "d.png")
    folder.expected["links/a file.png"] = Expected((48, 32), "links")
    for file, target, reason in (
        ("links/again.png", outside / "d.png", "a link to an image that is in the list as"),
        ("links/twice", root / "deep", "a link to a folder that is read as deep"),
        ("links/loop", "../links", "a link to a folder that is read as links"),
        ("links/root", root, "a link to a folder that is read as the whole"),
        ("links/up", root.parent, "a link to a folder around the images"),
        ("links/broken.png", "nowhere.png", "a broken link: nowhere.png"),
        ("links/itself.png", "itself.png", "a link that cannot be followed"),
    ):
        link(file, target, is_folder="." not in file)
        folder.reported(file, reason)


def _no_files(folder: _Folder) -> None:
    """What opens like a file, and would be waited for without end."""
    make_pipe: Callable[[Path], None] = getattr(os, "mkfifo")  # noqa: B009  not on Windows
    make_pipe(folder.root / "formats" / "pipe.jpg")
    folder.reported("formats/pipe.jpg", "a named pipe")
    (folder.root / "links" / "pipe.png").symlink_to(folder.root / "formats" / "pipe.jpg")
    folder.reported("links/pipe.png", "a named pipe")
    (folder.root / "links" / "zero.png").symlink_to("/dev/zero")
    folder.reported("links/zero.png", "a device")
