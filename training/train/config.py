"""All that decides a training run: typed, with what each field means, from YAML files and the command line.

    python -m training.train --config tiny --data latents --output runs/mine --optimizer.learning_rate 2e-4

``--config`` takes a name of ``training/configs`` or a YAML file; later ``--config`` and options win. A key that does not exist
is refused with the nearest that does, a value of the wrong type with the right one.
"""

from __future__ import annotations

import dataclasses
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from comfyui_fitv2.config import FiTConfig

TrainableGroup = Literal[
    "adaln",
    "attention",
    "biases",
    "final_layer",
    "label_table",
    "mlp",
    "patch_embedder",
    "timestep_embedder",
]


class ConfigError(ValueError):
    """A configuration that cannot be used; the message names the key, what was given, and what to do."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The architecture: FiTConfig without the number of classes and of latent channels, which the latent set decides."""

    hidden_size: int
    """Width of a token."""
    depth: int
    """Number of transformer blocks."""
    num_heads: int
    """Attention heads."""
    adaln_lora_dim: int
    """Rank of each block's own part of the AdaLN modulation; 0 gives each block a whole one (version 1)."""
    patch_size: int = 2
    """Latent pixels a token covers on each side."""
    mlp_ratio: float = 4.0
    """SwiGLU's hidden width is 2/3 of this times hidden_size."""
    rope_base: float = 10000.0
    """Base of the rotary frequencies."""
    train_length: int = 16
    """Tokens on a side of the square that the model is, or was first, trained on; extrapolation counts from it."""
    extrapolation: str = "none"
    """RoPE method during training: ntk for high-resolution post-training."""
    decoupled: bool = True
    """Whether that method scales height and width apart."""
    qk_norm: bool = True
    """Whether queries and keys are normalised; version 1 does not."""
    prediction: Literal["velocity", "epsilon"] = "velocity"
    """velocity of the rectified flow, or epsilon, the noise of version 1's DDPM."""

    def fit(self, num_classes: int, in_channels: int) -> FiTConfig:
        """Raises ``ConfigError`` on values that do not fit together."""
        try:
            return FiTConfig(**asdict(self), num_classes=num_classes, in_channels=in_channels)
        except ValueError as error:
            raise ConfigError(f"model: {error}") from None


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What a step is made of."""

    packing: Literal["packed", "padded"] = "packed"
    """packed: whole images fill a token budget, nothing is padded. padded: a fixed number of images, padded to the longest, to compare."""
    token_budget: int = 8192
    """Tokens of a packed micro-batch of one process."""
    images: int = 32
    """Images of a padded micro-batch of one process."""
    accumulation: int = 1
    """Micro-batches that each process adds up to a step."""
    open_packs: int = 64
    """Packs that are filled at the same time, an image into the one that it fills best; more fill better and mix an epoch's order more."""
    crop: float = 0.5
    """Probability that an image with a cropped version is seen as that."""
    flip: float = 0.5
    """Probability that an image is mirrored."""
    workers: int = 1
    """Processes that prepare batches ahead of each training process; 0 prepares them in it."""

    def __post_init__(self) -> None:
        _require(
            "batch",
            self,
            least={
                "token_budget": 1,
                "images": 1,
                "accumulation": 1,
                "open_packs": 1,
                "workers": 0,
            },
            parts=("crop", "flip"),
        )


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """What is learned at which times."""

    timesteps: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of the time t in [0, 1], 1 = data. Version 1 draws its DDPM timesteps evenly, whatever stands here."""
    mean: float = 0.0
    """Mean of logit-normal times before the sigmoid."""
    std: float = 1.0
    """Standard deviation of the same."""
    shift: float = 1.0
    """Above 1 trains more on noisier times, as the samplers' shift does."""
    label_drop: float = 0.1
    """Probability that an image is seen without its class, for guidance."""
    loss: Literal["image", "token"] = "image"
    """image: mean over an image's own tokens, then over images (FiT). token: mean over all tokens."""

    def __post_init__(self) -> None:
        _require("flow", self, above_zero=("std", "shift"), parts=("label_drop",))


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101), fused, or Muon beside it."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: Muon (kellerjordan.github.io/posts/muon) for the matrices of the blocks, its steps scaled to AdamW's (arXiv 2502.16982), so that rates carry
    over; AdamW for the rest. It needs whole matrices: one process or DDP."""
    learning_rate: float = 1e-4
    """Step size after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the moments."""
    eps: float = 1e-8
    """Added to the root of the second moment."""
    weight_decay: float = 0.0
    """Decoupled weight decay of matrices; biases and the class table have none."""
    warmup_steps: int = 5000
    """Optimizer steps over which the learning rate rises from 0, whatever the number of processes."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant, or falling by a cosine to 0 at the last step."""
    multipliers: dict[str, float] = field(default_factory=dict)
    """Factor on the learning rate of parameters by a regular expression found in their name, such as {y_embedder: 10}; the first that is found counts."""
    gradient_clip: float = 1.0
    """Most norm of all gradients together; 0 clips nothing."""

    def __post_init__(self) -> None:
        _require(
            "optimizer",
            self,
            least={"weight_decay": 0, "warmup_steps": 0, "gradient_clip": 0},
            above_zero=("learning_rate", "eps"),
        )
        for pattern, factor in self.multipliers.items():
            if factor <= 0:
                raise ConfigError(
                    f"optimizer.multipliers: {pattern!r} must be above 0, not {factor}. Leave weights out of training by `trainable`."
                )


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters (arXiv 2106.09685) on linear layers; all other weights are frozen."""

    rank: int = 16
    """Rank of each adapter."""
    alpha: float = 16.0
    """An adapter is scaled by alpha / rank."""
    targets: str = r"blocks\.\d+\.(attn|mlp)\."
    """Regular expression found in the names of the linear layers that get one."""

    def __post_init__(self) -> None:
        _require("lora", self, least={"rank": 1}, above_zero=("alpha",))


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and which stay."""

    every: int = 5000
    """Steps between two checkpoints; one is always written at the end, and when the run is stopped."""
    keep: int = 3
    """The newest that stay."""
    milestones: list[int] = field(default_factory=list)
    """Steps at which one is written and stays for good."""

    def __post_init__(self) -> None:
        _require("checkpoints", self, least={"every": 1, "keep": 1})


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """The sheet of pictures that the moving average draws, always of the same noise."""

    every: int = 5000
    """Steps between two sheets; 0 draws none."""
    sizes: str = "1:1, 3:2, 2:3"
    """Aspect ratios, width : height, with as many tokens as the latent set's resolution, or sizes such as 256x192 in pixels."""
    classes: int = 4
    """Classes drawn, evenly spread over all."""
    steps: int = 20
    """Steps of the solver (Heun)."""
    cfg_scale: float = 2.0
    """Strength of the guidance."""
    seed: int = 0
    """Seed of the noise."""
    vae: str = ""
    """VAE that decodes the pictures, as prepare takes it; empty takes the latent set's if it is the tiny one, and shows preview colours otherwise."""

    def __post_init__(self) -> None:
        _require("samples", self, least={"every": 0, "classes": 1, "steps": 1})


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is seen of a run."""

    every: int = 10
    """Steps between two lines of numbers in the tracker."""
    tracker: str = "tensorboard"
    """tensorboard, wandb or another of accelerate's trackers, or none."""
    project: str = "fitv2"
    """Name of the project there."""
    utilisation: bool = True
    """Whether the machine's bf16 matrix product rate is measured at the start, for the model FLOPs utilisation."""

    def __post_init__(self) -> None:
        _require("logging", self, least={"every": 1})


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """When a step is thrown away, and when the run stops for it."""

    gradient_factor: float = 20.0
    """A step is skipped whose gradient norm is not finite or more than this many times the recent median."""
    window: int = 100
    """Steps that count as recent."""
    limit: int = 20
    """Skipped steps among the recent at which the run stops."""

    def __post_init__(self) -> None:
        _require("guard", self, least={"window": 1, "limit": 1}, above_zero=("gradient_factor",))


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A training run."""

    data: str
    """Folder of the latent set, as prepare writes it, or in the official layout."""
    output: str
    """Folder of the run: its configuration, checkpoints, sample sheets and logs."""
    steps: int = 2_000_000
    """Optimizer steps in all."""
    seed: int = 0
    """Decides the first weights, the order of the images, and all that is drawn for them."""
    resume: Literal["no", "latest"] = "no"
    """latest: go on from the newest complete checkpoint of the run, or begin where there is none."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: matrix products and activations by autocast, over fp32 weights, gradients and optimizer."""
    activation_checkpointing: bool = False
    """Keep no activations within blocks, compute them twice: less memory, a third more work."""
    model: ModelConfig | None = None
    """The architecture; left out, that of the checkpoint in `init`."""
    init: str = ""
    """Checkpoint to start from, official or ours, such as runs/mine/checkpoints/step-00002000/ema-0.999.safetensors."""
    init_classes: Literal["name", "id"] = "name"
    """How a class of the latent set finds its weights in `init`: by its name, and starts anew without one, or by its id."""
    trainable: Literal["all"] | list[TrainableGroup] = "all"
    """all, or the groups of weights that are trained while the others stay."""
    lora: LoRAConfig | None = None
    """Train low-rank adapters of the checkpoint in `init` instead of its weights."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """What a step is made of."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """What is learned at which times."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW and its schedule."""
    ema_decays: list[float] = field(default_factory=lambda: [0.9999])
    """Decays of the moving averages of the weights, kept in fp32; the first draws the sample sheets. Young averages decay faster."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When checkpoints are written, and which stay."""
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    """The sample sheet."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """What is seen of a run."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """When a step is thrown away."""

    def __post_init__(self) -> None:
        _require("", self, least={"steps": 1, "seed": 0})
        if (
            not self.ema_decays
            or not all(0 < decay < 1 for decay in self.ema_decays)
            or len(set(self.ema_decays)) < len(self.ema_decays)
        ):
            raise ConfigError(
                f"ema_decays must be different numbers between 0 and 1, such as [0.9999], not {self.ema_decays}."
            )
        if self.model is None and not self.init:
            raise ConfigError(
                "There is nothing to train: name a --config such as tiny, or a checkpoint by --init."
            )
        if not self.trainable:
            raise ConfigError(
                "trainable names no weights. Write all, or groups such as [biases, adaln]."
            )
        if self.lora and not self.init:
            raise ConfigError("lora adapts a checkpoint: name it by --init.")
        if self.lora and self.trainable != "all":
            raise ConfigError(
                "lora and trainable exclude each other: adapters are all that LoRA trains."
            )

    def to_dict(self) -> dict[str, Any]:
        """As YAML and JSON write it."""
        return _plain(asdict(self))


RESUMABLE = (
    "steps",
    "resume",
    "output",
    "data",
    "batch.workers",
    "batch.accumulation",
    "checkpoints",
    "samples",
    "logging",
    "guard",
)
"""What may differ when a run goes on: how long, how it is watched, where things lie. That the data are the same, and a step's packs as many, is
checked apart."""


def differences(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What keeps ``now`` from going on with a run of configuration ``before``, one "key: before → now" each."""
    old, new = flat(before), flat(now)
    keys = [
        key
        for key in {**old, **new}
        if not any(key == free or key.startswith(f"{free}.") for free in RESUMABLE)
    ]
    return [
        f"{key}: {old.get(key)} → {new.get(key)}" for key in keys if old.get(key) != new.get(key)
    ]


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names instead of dictionaries within dictionaries."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        named |= (
            flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
        )
    return named


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _require(
    group: str,
    config: Any,
    *,
    least: dict[str, int] | None = None,
    above_zero: tuple[str, ...] = (),
    parts: tuple[str, ...] = (),
) -> None:
    for f in dataclasses.fields(config):
        value, name = getattr(config, f.name), f"{group}.{f.name}".lstrip(".")
        if least and f.name in least and value < least[f.name]:
            raise ConfigError(f"{name} must be {least[f.name]} or more, not {value}.")
        if f.name in above_zero and not value > 0:
            raise ConfigError(f"{name} must be above 0, not {value}.")
        if f.name in parts and not 0 <= value <= 1:
            raise ConfigError(f"{name} is a probability, from 0 to 1, not {value}.")
