"""What diffusers' scripts, sd-scripts, ai-toolkit, SimpleTuner and DiT call our options."""

from __future__ import annotations

from ..option_names import OptionNames

_TOKENS = (
    "a step takes --batch.token-budget tokens of images of any sizes, not a number of images. An "
    "image of 256 x 256 pixels has 256 tokens, one of 512 x 512 has 1024: 16 images of 256 x 256 "
    "are --batch.token-budget 4096."
)
_EPOCHS = (
    "training is counted in steps: --steps N. An epoch has about as many steps as the latent set "
    "has images, times the tokens of one, divided by --batch.token-budget; the progress shows it."
)
_IMAGES = (
    "training reads a latent set, --data. Make it of your images with python -m training.prepare "
    "--images FOLDER --output latents --vae VAE."
)
_PREPARED = (
    "the latent set decides it: python -m training.prepare --resolution S keeps each image's own "
    "aspect ratio within S x S pixels, so there is nothing to crop or to sort into buckets."
)
_CLASSES = "a FiT draws classes and reads no text: an image's class is its folder for prepare."
_FP16 = "fp16 is not offered for training: use --precision bf16 or fp32."
_NO_TEXT = "a FiT has no text encoder. --trainable chooses the groups of weights to train."

NAMES = OptionNames(
    same={
        "adam-epsilon": "optimizer.eps",
        "adam-weight-decay": "optimizer.weight-decay",
        "base-model": "init",
        "bf16": "precision=bf16",
        "cfg-scale": "samples.guidance-scale",
        "checkpointing-steps": "checkpoints.every",
        "checkpoints-total-limit": "checkpoints.keep",
        "ckpt-every": "checkpoints.every",
        "config-file": "config",
        "dataloader-num-workers": "batch.workers",
        "ema-decay": "ema-decays",
        "finetune": "init",
        "global-seed": "seed",
        "gradient-accumulation": "batch.accumulation",
        "gradient-accumulation-steps": "batch.accumulation",
        "gradient-checkpointing": "activation-checkpointing",
        "guidance-scale": "samples.guidance-scale",
        "iterations": "steps",
        "learning-rate": "optimizer.learning-rate",
        "learning-rate-warmup-steps": "optimizer.warmup-steps",
        "log-with": "logging.tracker",
        "lora-alpha": "lora.alpha",
        "lora-rank": "lora.rank",
        "lr": "optimizer.learning-rate",
        "lr-scheduler": "optimizer.schedule",
        "lr-warmup-steps": "optimizer.warmup-steps",
        "max-grad-norm": "optimizer.gradient-clip",
        "max-steps": "steps",
        "max-train-steps": "steps",
        "mixed-precision": "precision",
        "network-alpha": "lora.alpha",
        "network-dim": "lora.rank",
        "network-weights": "init",
        "num-steps": "steps",
        "num-workers": "batch.workers",
        "optimizer": "optimizer.kind",
        "optimizer-type": "optimizer.kind",
        "optimizer.lr": "optimizer.learning-rate",
        "output-dir": "output",
        "pretrained-model": "init",
        "pretrained-model-name-or-path": "init",
        "rank": "lora.rank",
        "report-to": "logging.tracker",
        "results-dir": "output",
        "sample-every": "samples.every",
        "sample-every-n-steps": "samples.every",
        "sample-steps": "samples.steps",
        "save-every": "checkpoints.every",
        "save-every-n-steps": "checkpoints.every",
        "save-steps": "checkpoints.every",
        "save-total-limit": "checkpoints.keep",
        "train-steps": "steps",
        "validation-steps": "samples.every",
        "warmup-steps": "optimizer.warmup-steps",
        "weight-decay": "optimizer.weight-decay",
    },
    values={
        "lr-scheduler": {"constant_with_warmup": "constant"},
        "mixed-precision": {"no": "fp32"},
        "optimizer": {"AdamW": "adamw", "Muon": "muon"},
        "optimizer-type": {"AdamW": "adamw", "Muon": "muon"},
    },
    hints={
        "batch-size": _TOKENS,
        "caption-column": _CLASSES,
        "center-crop": _PREPARED,
        "data-dir": _IMAGES,
        "data-path": _IMAGES,
        "dataset-name": _IMAGES,
        "enable-bucket": _PREPARED,
        "epochs": _EPOCHS,
        "fp16": _FP16,
        "global-batch-size": _TOKENS,
        "image-size": _PREPARED,
        "images": _IMAGES,
        "instance-data-dir": _IMAGES,
        "instance-prompt": _CLASSES,
        "max-train-epochs": _EPOCHS,
        "num-epochs": _EPOCHS,
        "num-train-epochs": _EPOCHS,
        "per-device-train-batch-size": _TOKENS,
        "random-flip": "prepare stores mirrored images too (--no-flip does not), and --batch.flip "
        "is the probability of using them.",
        "resolution": _PREPARED,
        "resume-from-checkpoint": "--resume latest resumes the run in --output. To start another "
        "run from the weights of a checkpoint, name its file with --init.",
        "text-encoder-lr": _NO_TEXT,
        "train-batch-size": _TOKENS,
        "train-data-dir": _IMAGES,
        "train-text-encoder": _NO_TEXT,
        "use-8bit-adam": "8-bit optimizers are not offered: --optimizer.kind is adamw or muon.",
        "use-ema": "every run keeps moving averages: --ema-decays.",
        "validation-prompt": _CLASSES,
    },
)
