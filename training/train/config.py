"""Everything that decides a training run: typed, each field documented, from YAML and options.

    python -m training.train --config tiny --data latents --output runs/mine \
        --optimizer.learning-rate 2e-4

``config_parser`` reads it. The docstring under a field is its help text.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from typing import Annotated, Any, Literal, get_args, get_type_hints

from tyro.conf import Suppress, arg

from comfyui_fitv2.config import FiTConfig

DEFAULT_TRAIN_LENGTH = 16
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
    """A configuration that cannot be used; the message names the key, its value, and a remedy."""


@dataclass(frozen=True)
class _Range:
    """What a number may be: ``least`` or more (above it where ``open``), ``most`` or less."""

    least: float
    most: float = math.inf
    open: bool = False

    def holds(self, value: float) -> bool:
        return self.least <= value <= self.most and not (self.open and value == self.least)

    def __str__(self) -> str:
        if self.most < math.inf:
            return f"from {self.least:g} to {self.most:g}"
        return f"above {self.least:g}" if self.open else f"{self.least:g} or more"


Count = Annotated[int, _Range(1)]
CountOrZero = Annotated[int, _Range(0)]
Positive = Annotated[float, _Range(0, open=True)]
PositiveOrZero = Annotated[float, _Range(0)]
Probability = Annotated[float, _Range(0, 1)]


@dataclass(frozen=True, kw_only=True)
class ModelConfig(FiTConfig):
    """The architecture; without any of it, that of the checkpoint in --init."""

    # Placeholders for what the latent set decides; see ``for_data``.

    num_classes: Suppress[int] = 1
    in_channels: Suppress[int] = 4
    train_length: CountOrZero = 0
    """Tokens per side of the square that the model was trained on. 0: those of the latent set's
    image size, or of the checkpoint in --init where it has more or extrapolates."""
    published: Annotated[str, arg(name="preset")] = field(default="", compare=False)
    """A published size to start from, such as fitv2-xl; the other fields given change it."""

    def __post_init__(self) -> None:
        """Nothing: ``TrainingConfig`` checks all values, so that messages are of one kind."""

    def for_data(self, num_classes: int, in_channels: int) -> FiTConfig:
        """The configuration of a model for a latent set. Raises ``ValueError`` on bad values.

        A ``train_length`` of 0 gives that of the published models.
        """
        values = {**self.to_dict(), "num_classes": num_classes, "in_channels": in_channels}
        values["train_length"] = self.train_length or DEFAULT_TRAIN_LENGTH
        return FiTConfig.from_dict(values)

    def to_dict(self) -> dict[str, Any]:
        """All that ``for_data`` does not replace. The preset is spelt out."""
        left_out = ("num_classes", "in_channels", "published")
        return {key: value for key, value in asdict(self).items() if key not in left_out}


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """What a step is made of."""

    packing: Literal["packed", "padded"] = "packed"
    """packed: whole images fill a token budget without padding. padded: a fixed number of images,
    padded to the longest, for comparison."""
    token_budget: Count = 8192
    """Tokens of a packed micro-batch per process."""
    images: Count = 32
    """Images of a padded micro-batch per process."""
    accumulation: Count = 1
    """Micro-batches per process and step, whose gradients are added."""
    open_packs: Count = 64
    """Packs filled at the same time; each image goes into the one that it fills best. More packs
    are filled better, and mix the order of an epoch more."""
    crop: Probability = 0.5
    """Probability of using the cropped version of an image that has one."""
    flip: Probability = 0.5
    """Probability of mirroring an image."""
    class_balance: Probability = 0.0
    """How far rare classes are drawn more often: 0 draws every image once per epoch, 1 draws every
    class equally often, and 0.5 lies between. An epoch has as many draws as there are images."""
    workers: CountOrZero = 1
    """Processes that prepare batches ahead, per training process; 0 prepares them in it."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """What this machine keeps of a latent set at an address."""

    folder: str = ""
    """Folder that the processes of a machine share; empty: that of the variable FITV2_CACHE, or
    ~/.cache/fitv2."""
    gigabytes: PositiveOrZero = 0.0
    """How large it may become; the shards that were used least recently are dropped. 0: the number
    in FITV2_CACHE_GB, or what the disk has room for, less a tenth."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """What is learned at which times."""

    timesteps: Literal["logit-normal", "uniform"] = "logit-normal"
    """Distribution of the time t in [0, 1], 1 = data. Version 1 always samples its DDPM timesteps
    uniformly."""
    mean: float = 0.0
    """Mean of logit-normal times before the sigmoid."""
    std: Positive = 1.0
    """Standard deviation of logit-normal times before the sigmoid."""
    shift: Positive = 1.0
    """Above 1 trains more on noisier times, like the shift of the samplers."""
    label_drop: Probability = 0.1
    """Probability of training an image without its class, for guidance."""
    loss: Literal["image", "token"] = "image"
    """image: mean over the tokens of an image, then over images (FiT). token: mean over all
    tokens."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW (arXiv 1711.05101), fused, alone or together with Muon; the learning rate."""

    kind: Literal["adamw", "muon"] = "adamw"
    """muon: Muon (kellerjordan.github.io/posts/muon) for the matrices of the blocks, its steps
    scaled to those of AdamW (arXiv 2502.16982) so that learning rates carry over; AdamW for the
    rest. Muon needs whole matrices: one process or DDP."""
    learning_rate: Positive = 1e-4
    """Learning rate after the warm-up."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moments, from 0 to below 1."""
    eps: Positive = 1e-8
    """Added to the root of the second moment."""
    weight_decay: PositiveOrZero = 0.0
    """Decoupled weight decay of matrices; biases and the class table have none."""
    warmup_steps: CountOrZero = 5000
    """Optimizer steps over which the learning rate rises from 0, for any number of processes."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up: constant, or falling by a cosine to 0 at the last step."""
    multipliers: dict[str, Positive] = field(default_factory=dict)
    """Factors on the learning rate: pairs of a regular expression, searched for in the names of
    the weights, and a factor, such as y_embedder 10. The first match counts."""
    gradient_clip: PositiveOrZero = 1.0
    """Maximum global gradient norm; 0 disables clipping."""


@dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Low-rank adapters (arXiv 2106.09685) on linear layers; all other weights are frozen."""

    rank: CountOrZero = 0
    """Rank of each adapter; 0 trains no adapters."""
    alpha: Positive = 16.0
    """An adapter is scaled by alpha / rank."""
    targets: str = r"blocks\.\d+\.(attn|mlp)\."
    """Regular expression, searched for in the names of linear layers: those that get an adapter."""


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When checkpoints are written, and which are kept."""

    every: CountOrZero = 5000
    """Steps between two checkpoints; 0 for milestones only. The end and a stop always write one."""
    keep: Count = 3
    """Number of newest checkpoints to keep."""
    milestones: tuple[int, ...] = ()
    """Steps at which a checkpoint is written and never removed."""


@dataclass(frozen=True, kw_only=True)
class SamplesConfig:
    """The sheet of images that the moving average generates, always from the same noise."""

    every: CountOrZero = 5000
    """Steps between two sheets; 0 renders none."""
    sizes: tuple[str, ...] = ("1:1", "3:2", "2:3")
    """Aspect ratios, width : height, with as many tokens as a square of the latent set's image
    size; sizes in pixels, such as 256x192; or squares beyond that size, such as 1.5x."""
    extrapolation: str = "ntk"
    """RoPE extrapolation at sizes of more tokens than were trained on, spelt as for evaluate, such
    as linear or ntk + pro2."""
    classes: Count = 4
    """Number of classes on the sheet, spread evenly over those of the latent set."""
    steps: Count = 20
    """Steps of the default solver."""
    guidance_scale: float = 2.0
    """Strength of classifier-free guidance."""
    seed: CountOrZero = 0
    """Seed of the noise."""
    vae: str = ""
    """VAE that decodes the images, spelt as for prepare. Empty: the latent set's own if that is
    the tiny one, else preview colours."""


@dataclass(frozen=True, kw_only=True)
class HeldOutConfig:
    """Images that are not trained on, but measured: their loss rises when the model overfits."""

    share: Annotated[float, _Range(0, 0.5)] = 0.0
    """Share of the images of each class, at least one where it has two; 0 holds out none. Which
    ones follows from the seed and their names, so they stay held out when the set grows."""
    every: Count = 500
    """Steps between two measurements of the first moving average."""
    images: Count = 128
    """Maximum number of held-out images to measure, each at four times."""


@dataclass(frozen=True, kw_only=True)
class LoggingConfig:
    """What is logged of a run."""

    every: Count = 10
    """Steps between two entries in the tracker."""
    tracker: str = "tensorboard"
    """tensorboard, wandb or another of accelerate's trackers, or none."""
    project: str = "fitv2"
    """Name of the project in the tracker."""
    utilisation: bool = True
    """Measure the rate of bf16 matrix products at the start, to report model FLOPs utilisation."""


@dataclass(frozen=True, kw_only=True)
class GuardConfig:
    """When a step is skipped, and when the run stops because of skipped steps."""

    gradient_factor: Positive = 20.0
    """A step is skipped if its gradient norm is not finite, or more than this many times the
    recent median."""
    window: Count = 100
    """Number of steps that count as recent."""
    limit: Count = 20
    """Number of skipped steps among the recent ones at which the run stops."""


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """Train a FiT on a latent set."""

    data: str
    """Folder of the latent set, as written by prepare or in the official layout; or the address of
    one that prepare sent, such as s3://bucket/latents."""
    output: str
    """Folder of the run: its configuration, checkpoints, sample sheets and logs."""
    steps: Count = 2_000_000
    """Optimizer steps in all."""
    seed: CountOrZero = 0
    """Decides the initial weights, the order of the images, and everything random about them."""
    resume: Literal["no", "latest"] = "no"
    """latest: resume from the newest complete checkpoint of the run, or start if there is none."""
    precision: Literal["bf16", "fp32"] = "bf16"
    """bf16: matrix products and activations under autocast; weights, gradients and optimizer are
    fp32."""
    activation_checkpointing: bool = False
    """Recompute the activations within blocks in the backward pass: less memory, a third more
    work."""
    compile: bool = False
    """Compile the blocks with torch.compile: faster steps after some minutes at the start. It needs
    Triton on a GPU, and a C++ compiler on a CPU, where it gains little."""
    model: ModelConfig | None = None
    """The architecture; without any of it, that of the checkpoint in --init."""
    init: str = ""
    """Checkpoint to start from, official or our own, such as
    runs/mine/checkpoints/step-00002000/ema-0.999.safetensors."""
    init_classes: Literal["name", "id", "new"] = "name"
    """How a class of the latent set finds its weights in --init. name: the same name, whatever its
    case, accents and underscores, the same WordNet id, or a synonym; classes without one start
    anew. id: the same class id. new: all classes start anew."""
    init_pairs: dict[str, str] = field(default_factory=dict)
    """Pairs of a class of the latent set and the class of --init that it is, such as Finnland
    Finland; for names that differ."""
    trainable: Literal["all"] | tuple[TrainableGroup, ...] = "all"
    """all, or the groups of weights to train; the others are frozen."""
    lora: LoRAConfig = field(default_factory=LoRAConfig)
    """Train low-rank adapters of the checkpoint in --init instead of its weights."""
    batch: BatchConfig = field(default_factory=BatchConfig)
    """What a step is made of."""
    cache: CacheConfig = field(default_factory=CacheConfig)
    """What this machine keeps of a latent set at an address."""
    flow: FlowConfig = field(default_factory=FlowConfig)
    """What is learned at which times."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    """AdamW or Muon, and the learning rate."""
    ema_decays: tuple[float, ...] = (0.9999,)
    """Decays of the moving averages of the weights, which are fp32. The first one renders the
    sample sheets. Young averages decay faster."""
    checkpoints: CheckpointConfig = field(default_factory=CheckpointConfig)
    """When checkpoints are written, and which are kept."""
    samples: SamplesConfig = field(default_factory=SamplesConfig)
    """The sample sheet."""
    held_out: HeldOutConfig = field(default_factory=HeldOutConfig)
    """Images that are not trained on, but measured."""
    logging: LoggingConfig = field(default_factory=LoggingConfig)
    """What is logged of a run."""
    guard: GuardConfig = field(default_factory=GuardConfig)
    """When a step is skipped."""

    def __post_init__(self) -> None:
        for name, value, allowed in _ranges(self):
            if not allowed.holds(value):
                raise ConfigError(f"{name} must be {allowed}, not {value:g}.")
        if self.model is not None:
            try:
                self.model.for_data(num_classes=1, in_channels=1)
            except ValueError as error:
                raise ConfigError(f"model: {error}") from None
        for name, patterns in (
            ("optimizer.multipliers", self.optimizer.multipliers),
            ("lora.targets", [self.lora.targets]),
        ):
            for pattern in patterns:
                _require_pattern(name, pattern)
        if not all(0 <= beta < 1 for beta in self.optimizer.betas):
            shown = " and ".join(f"{beta:g}" for beta in self.optimizer.betas)
            raise ConfigError(
                f"optimizer.betas must be two numbers from 0 to below 1, not {shown}."
            )
        decays = self.ema_decays
        if not decays or len(set(decays)) < len(decays) or not all(0 < d < 1 for d in decays):
            raise ConfigError(
                "ema_decays must be different numbers between 0 and 1, such as 0.9999, "
                f"not {list(decays)}."
            )
        if self.model is None and not self.init:
            raise ConfigError(
                "There is nothing to train: name a --config with a model, such as tiny, or a "
                "checkpoint with --init."
            )
        if not self.trainable:
            raise ConfigError(
                "trainable names no weights. Use all, or groups such as biases and adaln."
            )
        if not self.lora.rank and self.lora != LoRAConfig():
            raise ConfigError("lora is off while its rank is 0. Set --lora.rank, such as 16.")
        if self.lora.rank and not self.init:
            raise ConfigError("lora adapts a checkpoint: name it with --init.")
        if self.init_pairs and (not self.init or self.init_classes != "name"):
            raise ConfigError(
                "init_pairs says which classes of a checkpoint are meant by name: use it with "
                "--init, and without --init-classes."
            )
        if self.lora.rank and self.init_classes == "new":
            raise ConfigError(
                "lora learns no new classes: leave --init-classes out, and pair classes of other "
                "names with --init-pairs NAME CLASS."
            )
        if self.lora.rank and self.trainable != "all":
            raise ConfigError("lora and trainable exclude each other: LoRA trains only adapters.")

    def to_dict(self) -> dict[str, Any]:
        """The values as YAML and JSON write them; ``config_parser.config_from_dict`` reads them."""
        return _plain({**vars(self), "model": self.model and self.model.to_dict()})


HYPERPARAMETERS = (
    "precision",
    "activation_checkpointing",
    "compile",
    "batch.token_budget",
    "batch.images",
    "batch.open_packs",
    "optimizer.learning_rate",
    "optimizer.betas",
    "optimizer.eps",
    "optimizer.weight_decay",
    "optimizer.warmup_steps",
    "optimizer.schedule",
    "optimizer.multipliers",
    "optimizer.gradient_clip",
    "guard",
)
"""Fields that decide the next steps and may change on resume. The optimizer's moments stay what
they are, averages of past gradients; the learning rate is a function of the step; and other packs
begin with the next round (``packing.next_round``)."""
RESUMABLE = (
    *HYPERPARAMETERS,
    "steps",
    "resume",
    "output",
    "data",
    "batch.workers",
    "batch.accumulation",
    "cache",
    "checkpoints",
    "samples",
    "held_out.every",
    "logging",
)
"""Fields that may change on resume. Data identity and packs per step are checked separately."""


def differences(before: TrainingConfig, now: TrainingConfig) -> list[str]:
    """What prevents ``now`` from resuming a run of ``before``, one "key: before → now" each."""
    old, new = flat(before.to_dict()), flat(now.to_dict())
    if new.get("model.train_length") == 0:  # whatever the run's own checkpoint says
        new["model.train_length"] = old.get("model.train_length")
    keys = [key for key in {**old, **new} if not _is_among(key, RESUMABLE)]
    return [
        f"{key}: {old.get(key)} → {new.get(key)}" for key in keys if old.get(key) != new.get(key)
    ]


def changed_hyperparameters(before: Mapping[str, Any], now: TrainingConfig) -> list[str]:
    """The ``HYPERPARAMETERS`` that differ from those in ``before``, as in ``differences``.

    ``before`` is a ``TrainingConfig.to_dict``, maybe of an earlier version.
    """
    old, new = flat(dict(before)), flat(now.to_dict())
    keys = [key for key in old if key in new and _is_among(key, HYPERPARAMETERS)]
    return [f"{key}: {old[key]} → {new[key]}" for key in keys if old[key] != new[key]]


def _require_pattern(name: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(
            f"{name}: {pattern!r} is no regular expression ({error}). A part of a name is enough, "
            "such as bias; .* stands for anything."
        ) from None


def _is_among(key: str, fields: Sequence[str]) -> bool:
    return any(key == field or key.startswith(f"{field}.") for field in fields)


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names instead of dictionaries within dictionaries."""
    named: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            named |= flat(value, f"{prefix}{key}.")
        else:
            named[f"{prefix}{key}"] = value
    return named


def _plain(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        return _plain(vars(value))
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value


def _ranges(config: Any, prefix: str = "") -> Iterator[tuple[str, float, _Range]]:
    """Dotted name, value and range of every number whose range is annotated."""
    hints = get_type_hints(type(config), include_extras=True)
    for f in fields(config):
        name, value, hint = f"{prefix}{f.name}", getattr(config, f.name), hints[f.name]
        if is_dataclass(value):
            yield from _ranges(value, f"{name}.")
        elif isinstance(value, dict):
            _, factor = get_args(hint)
            for key, inner in value.items():
                yield from ((f"{name}: {key!r}", inner, limit) for limit in _limits(factor))
        else:
            yield from ((name, value, limit) for limit in _limits(hint))


def _limits(hint: Any) -> list[_Range]:
    return [note for note in getattr(hint, "__metadata__", ()) if isinstance(note, _Range)]
