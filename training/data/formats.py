"""Image formats: which can be read here, by which suffix, and what to do about the others.

Pillow reads most. Its plugins for HEIC and JPEG XL are used where they are installed.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import import_module

from PIL import Image, features

_SUFFIXES_BY_FORMAT = {
    "AVIF": ".avif .avifs",
    "BMP": ".bmp",
    "DIB": ".dib",
    "GIF": ".gif",
    "HEIF": ".heic .heics .heif .heifs .hif",
    "ICO": ".ico",
    "JPEG": ".jpg .jpeg .jpe .jfif .mpo",
    "JPEG2000": ".jp2 .j2k .jpx .jpf .j2c",
    "JXL": ".jxl",
    "PNG": ".png .apng",
    "PPM": ".ppm .pgm .pbm .pnm",
    "PSD": ".psd",
    "TGA": ".tga",
    "TIFF": ".tif .tiff",
    "WEBP": ".webp",
}
_PACKAGES = {"HEIF": "pillow-heif", "JXL": "pillow-jxl-plugin", "AVIF": "pillow>=11.3"}

# fmt: off
_OTHER_IMAGES = {
    "a raw camera file; convert it to PNG or JPEG": (
        ".3fr .arw .cr2 .cr3 .crw .dng .erf .iiq .kdc .mef .mos .mrw .nef .nrw .orf .pef .raf .raw "
        ".rw2 .rwl .sr2 .srf .srw .x3f"
    ),
    "a project of an image editor; export it as PNG or JPEG": (
        ".afphoto .clip .kra .ora .procreate .psb .xcf"
    ),
    "an image format that is not supported; convert it to PNG or JPEG": (
        ".bpg .cur .dcm .dds .djvu .exr .fits .flif .hdr .icns .iff .jbig2 .jls .jxr .pcx .pfm "
        ".qoi .ras .sgi .svg .svgz .wdp .xbm .xpm"
    ),
}
_OTHER_FILES = {
    "a document or drawing; convert it to PNG or JPEG": ".ai .cdr .emf .eps .odg .pdf .ps .wmf",
    "a video; export the frames that you want as PNG or JPEG": (
        ".3gp .avi .flv .insv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv"
    ),
    "an archive; unpack it": ".7z .gz .rar .tar .tgz .xz .zip .zst",
}
_UNFINISHED = frozenset([".crdownload", ".download", ".opdownload", ".part", ".partial"])
_NO_IMAGES = frozenset([
    ".aae", ".arrow", ".bat", ".bin", ".caption", ".csv", ".css", ".db", ".dll", ".doc", ".docx",
    ".exe", ".htm", ".html", ".ini", ".ipynb", ".js", ".json", ".jsonl", ".lnk", ".log", ".lst",
    ".m4a", ".mat", ".md", ".mp3", ".npy", ".npz", ".ods", ".parquet", ".pickle", ".pkl", ".pp3",
    ".pt", ".pth", ".py", ".pyc", ".rtf", ".safetensors", ".sh", ".sqlite", ".toml", ".torrent",
    ".tsv", ".txt", ".url", ".wav", ".xlsx", ".xls", ".xml", ".xmp", ".yaml", ".yml",
])
# fmt: on

NO_IMAGE = "not an image by its suffix"
NOT_MEANT_AS_IMAGES = frozenset([NO_IMAGE, *_OTHER_FILES])
"""The reasons of files that nobody took for one of the images."""
HEAD_BYTES = 512
"""Number of bytes at the start of a file that tell its kind."""


def _register_plugins() -> None:
    """Add the formats of Pillow's plugins; one that is damaged counts as not installed."""
    Image.init()
    with suppress(Exception):
        import_module("pillow_heif").register_heif_opener()
    with suppress(Exception):
        import_module("pillow_jxl")


_register_plugins()


def readable_formats() -> list[str]:
    """The formats a file may have, whatever its suffix.

    They are those that Pillow or a plugin decodes itself. For EPS and some others Pillow would
    start programs.
    """
    return sorted(name for name in _SUFFIXES_BY_FORMAT if _is_readable(name))


def _is_readable(name: str) -> bool:
    if name not in Image.OPEN:
        return False
    # A Pillow that was built without AVIF registers it all the same, to say so.
    return name != "AVIF" or bool(features.check("avif"))


_FORMAT_BY_SUFFIX = {s: name for name, text in _SUFFIXES_BY_FORMAT.items() for s in text.split()}
_KIND_BY_SUFFIX = {
    s: kind for kind, text in {**_OTHER_IMAGES, **_OTHER_FILES}.items() for s in text.split()
}


def suffix_reason(suffix: str) -> str | None:
    """Why a file with this suffix, in lower case, is no image that can be read.

    "" where it can be read, None where only its content can tell.
    """
    name = _FORMAT_BY_SUFFIX.get(suffix)
    if name is not None:
        return "" if _is_readable(name) else _missing(name)
    if suffix in _KIND_BY_SUFFIX:
        return _KIND_BY_SUFFIX[suffix]
    if suffix in _UNFINISHED:
        return "an unfinished download"
    return NO_IMAGE if suffix in _NO_IMAGES else None


def _missing(name: str) -> str:
    package = _PACKAGES.get(name, "pillow")
    return (
        f"{'HEIC' if name == 'HEIF' else name} cannot be read here; python -m pip install "
        f'"{package}", or convert it to PNG or JPEG'
    )


def content_reason(head: bytes) -> str | None:
    """Why a file that begins with ``head`` is surely no image that can be read; None if it may be.

    ``head`` holds the first ``HEAD_BYTES``, or all of a shorter file.
    """
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip().lower()
    if not head:
        return "empty: 0 bytes"
    if len(head) == HEAD_BYTES and not head.strip(b"\0"):
        return "only zero bytes: an unfinished download or a damaged disk"
    if text.startswith(b"version https://git-lfs"):
        return "a Git LFS pointer, not the image; run: git lfs pull"
    if text.startswith((b"<!doctype html", b"<html", b"<head", b"<body")):
        return "a web page, not an image; download it again"
    if text.startswith((b"<svg", b"<?xml")):
        return "SVG or other XML; convert it to PNG or JPEG"
    if text.startswith((b"%pdf", b"%!ps")):
        return "a PDF or PostScript file; convert it to PNG or JPEG"
    name = format_of(head)
    if name is not None and not _is_readable(name):
        return _missing(name)
    return None


def format_of(head: bytes) -> str | None:
    """The format whose signature a file begins with; None for none of them, and for TGA."""
    if head.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    if head.startswith(b"BM") and head[6:10] == bytes(4):
        return "BMP"
    if head[4:8] == b"ftyp" and head[8:12] in (b"avif", b"avis"):
        return "AVIF"
    if head[4:8] == b"ftyp" and head[8:12] in (
        b"heic",
        b"heix",
        b"hevc",
        b"heim",
        b"heis",
        b"mif1",
    ):
        return "HEIF"
    if head.startswith((b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n")):
        return "JXL"
    if head.startswith((b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51")):
        return "JPEG2000"
    return "PSD" if head.startswith(b"8BPS") else None
