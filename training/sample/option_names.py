"""What other programs call the options of ``sample`` and ``evaluate``."""

from __future__ import annotations

from ..option_names import OptionNames

_CLASSES = "a FiT draws classes and reads no text: name them with --classes."

NAMES = OptionNames(
    same={
        "cfg": "guidance-scale",
        "cfg-scale": "guidance-scale",
        "ckpt": "checkpoint",
        "class-labels": "classes",
        "global-seed": "seed",
        "mixed-precision": "precision",
        "num-images": "count",
        "num-inference-steps": "steps",
        "num-samples": "count",
        "num-sampling-steps": "steps",
        "output-dir": "output",
        "pretrained-model-name-or-path": "checkpoint",
        "ref-path": "reference",
        "sample-dir": "output",
        "sampler": "solver",
        "scheduler": "solver",
        "size": "sizes",
    },
    values={"mixed-precision": {"no": "fp32"}},
    hints={
        "batch-size": "images of any sizes are generated together: --batch-tokens is the number of "
        "tokens in a batch, of which an image of 256 x 256 pixels has 256.",
        "height": "--sizes takes width x height, such as 256x192.",
        "negative-prompt": _CLASSES,
        "prompt": _CLASSES,
        "width": "--sizes takes width x height, such as 256x192.",
    },
)
