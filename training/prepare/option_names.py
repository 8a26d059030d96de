"""What other trainers call the options of ``prepare``."""

from __future__ import annotations

from ..option_names import OptionNames

_WHOLE = "images keep their aspect ratio, and a square is cropped out of large ones in addition."

NAMES = OptionNames(
    same={
        "data-dir": "images",
        "image-dir": "images",
        "input": "images",
        "instance-data-dir": "images",
        "metadata-file": "metadata",
        "mixed-precision": "precision",
        "num-workers": "workers",
        "output-dir": "output",
        "pretrained-vae-model-name-or-path": "vae",
        "size": "image-size",
        "train-batch-size": "batch-size",
        "train-data-dir": "images",
        "vae-path": "vae",
    },
    values={"mixed-precision": {"no": "fp32"}},
    hints={
        "caption-column": "a FiT reads no text: an image's class is its folder, or its label in "
        "--metadata.",
        "center-crop": _WHOLE,
        "enable-bucket": _WHOLE,
        "random-flip": "mirrored images are stored too, unless --no-flip is given.",
    },
)
