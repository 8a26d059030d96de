"""Which configuration trains which row of the paper's tables, by which commands, at what cost."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from comfyui_fitv2.resolution import parse_sizes

from ...evaluate.paper import IMAGES, PaperRow, paper_rows
from ...train.checkpoints.run_folder import CHECKPOINTS, ema_file, parts_folder, step_name
from ...train.config import TrainingConfig
from ...train.config_parser import parse_config
from ...train.flops import TrainingCost
from ...train.initial_model import choose_trainable
from ...train.model import TrainedFiT
from ...train.packing import Position, StepTotals

BATCH = 256
"""Images of a step."""
TOKENS = {"latents/256": 234, "latents/512": 940}
"""Mean tokens of an image of ImageNet, by latent set."""
EVALUATIONS = 65
"""Model evaluations that dopri5 needs for an image: 50 to 74 with the bundled checkpoint."""
FLOPS_PER_GPU_HOUR = 400e12 * 3600
"""A GPU with a peak of 1,000 TFLOP/s in bf16, of which training reaches 40 %."""
CLASSES = 1000
_HERE = "training/recipes/paper"
_FSDP = "accelerate launch --config_file training/configs/accelerate/fsdp2.yaml"
_DDP = "torchrun --nproc_per_node 8"
_SHARED = [
    *("--vae", "sd-vae-ft-ema", "--reference", "imagenet/train"),
    *("--inception", "weights-inception-2015-12-05-6726825d.pth"),
]


@dataclass(frozen=True, slots=True)
class Training:
    """A model to train, on 8 GPUs."""

    run: str
    """Name of the folder in ``runs``."""
    configs: tuple[str, ...]
    """Each a value of --config; a later one wins."""
    data: str = "latents/256"
    init: str = ""
    """Name of the run that it starts from."""
    large: bool = False
    """Whether it needs FSDP2, and two micro-batches per step on 8 GPUs."""

    def words(self) -> list[str]:
        """The options of ``training.train``."""
        words = [word for config in self.configs for word in ("--config", config)]
        words += ["--data", self.data, "--output", f"runs/{self.run}"]
        if self.init:
            words += ["--init", TRAININGS[self.init].average()]
        return words + (["--batch.accumulation", "2"] if self.large else [])

    def command(self) -> str:
        return _command(f"{_FSDP if self.large else _DDP} -m training.train", self.words())

    def config(self) -> TrainingConfig:
        """The configuration that the command has."""
        return parse_config(self.words())

    def average(self) -> str:
        """What the end of the run leaves: a file, or a folder of parts where it is sharded."""
        config = self.config()
        step, average = step_name(config.steps), ema_file(config.ema_decays[0])
        average = parts_folder(average) if self.large else average
        return (Path(config.output) / CHECKPOINTS / step / average).as_posix()

    def model(self) -> TrainedFiT:
        """The model, on the meta device; what is frozen needs no gradient."""
        config = self.config()
        assert config.model is not None
        model = TrainedFiT(config.model.for_data(CLASSES, 4), device="meta")
        choose_trainable(model, config)
        return model


@dataclass(frozen=True, slots=True)
class Size:
    """How large a model is, and what it computes."""

    parameters: int
    training: TrainingCost
    whole: TrainingCost
    """What training would cost where nothing is frozen: the forward pass is a third of it."""


@cache
def size(training: Training) -> Size:
    """The size of the model of a training, which is built once."""
    model = training.model()
    shape = model.config.hidden_size, model.config.depth
    cost = TrainingCost.of(model, *shape)
    whole = TrainingCost.of(model.requires_grad_(True), *shape)
    return Size(sum(p.numel() for p in model.parameters()), cost, whole)


def training_flops(training: Training) -> float:
    """FLOPs of a whole training."""
    per_step = size(training).training.flops(_totals(BATCH, TOKENS[training.data]))
    return training.config().steps * per_step


def _command(start: str, words: Sequence[str]) -> str:
    """A command line, with the quotes that Windows knows too."""
    return f"{start} {shlex.join(words)}".replace("'", '"')


def _totals(images: int, tokens: int) -> StepTotals:
    total = images * tokens
    return StepTotals(images, total, total, total * tokens, Position())


def _ablation(name: str) -> Training:
    return Training(f"table2-{name}", ("fitv2-b", f"{_HERE}/table2-{name}.yaml"))


TRAININGS: dict[str, Training] = {
    training.run: training
    for training in (
        *map(_ablation, ("fit-b", "a", "b", "c", "d", "e", "f")),
        Training("fitv2-b", ("fitv2-b",)),
        Training("fit-xl", ("fitv2-xl", f"{_HERE}/table4-fit-xl.yaml")),
        Training("fitv2-xl", ("fitv2-xl",)),
        Training("fitv2-3b", ("fitv2-3b",), large=True),
        Training("fitv2-xl-hr", ("fitv2-xl-hr",), "latents/512", "fitv2-xl"),
        Training("fitv2-3b-hr", ("fitv2-3b-hr",), "latents/512", "fitv2-3b", large=True),
    )
}
"""All models of the tables, by the names of their runs."""
_TRAINED_AS = {
    "FiT-B/2": "table2-fit-b",
    **{f"Config {letter}": f"table2-{letter.lower()}" for letter in "ABCDEF"},
    "FiTv2-B/2": "fitv2-b",
    "FiT-XL/2": "fit-xl",
    "FiTv2-XL/2": "fitv2-xl",
    "FiTv2-3B/2": "fitv2-3b",
}
_EVALUATED = ("II", "III", "IV", "V", "VI")


@dataclass(frozen=True, slots=True)
class RowOfTable:
    """A row of the paper, and the training that makes it."""

    row: PaperRow
    training: Training

    @property
    def can_be_evaluated(self) -> bool:
        """Whether ``training.evaluate`` draws with it: it has no sampler for version 1."""
        return self.row.architecture.prediction == "velocity"

    def words(self) -> list[str]:
        """The options of ``training.evaluate``."""
        table, name = self.row.table, self.row.name
        return [
            *("--table", table, "--row", name, "--checkpoint", self.training.average(), *_SHARED),
            *("--output", f"results/table-{table}-{self.training.run}"),
        ]

    def command(self) -> str:
        return _command(f"{_DDP} -m training.evaluate", self.words())

    def flops(self) -> float:
        """FLOPs of the images that the evaluation draws; guidance evaluates the model twice."""
        cost, row = size(self.training).whole, self.row
        passes = sum(2 if scale != 1 else 1 for scale in row.guidance_scales)
        sizes = parse_sizes(";".join(row.sizes), 256).values()
        forward = sum(cost.flops(_totals(1, drawn.tokens)) / 3 for drawn in sizes)
        return IMAGES * EVALUATIONS * passes * len(row.extrapolations) * forward


def rows() -> list[RowOfTable]:
    """Every row of the tables that is a FiT or a FiTv2, in the paper's order."""
    return [
        RowOfTable(row, TRAININGS[_TRAINED_AS[row.name] + ("-hr" if table == "VI" else "")])
        for table in _EVALUATED
        for row in paper_rows(table)
    ]


def cost_table() -> str:
    """Parameters, steps, FLOPs and GPU-hours of each row, in Markdown."""
    lines = [
        "| table | row | run | parameters | steps | training | GPU-hours | evaluation |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows():
        training, flops = row.training, training_flops(row.training)
        cells = (
            row.row.table,
            row.row.name,
            f"`{training.run}`",
            f"{size(training).parameters / 1e6:,.0f} M",
            f"{training.config().steps // 1000:,} K",
            _exa(flops),
            f"{flops / FLOPS_PER_GPU_HOUR:,.0f}",
            _exa(row.flops()) if row.can_be_evaluated else "–",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _exa(flops: float) -> str:
    return f"{flops / 1e18:,.3g} EFLOP"
