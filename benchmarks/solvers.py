"""Error of each solver against model evaluations, with guidance: a table and a plot.

    python -m benchmarks.solvers

The error of a deterministic solver is the RMS distance of an image's latents from the exact
solution from the same noise (dopri5 with rtol and atol of 1e-6). Compare its median over the
images: in the mean of squares, which the table has too, one image near a fork of the flow can
outweigh all others. An evaluation is one call of the guided model. Fixed steps are evenly spaced;
dopri5 runs at several rtol.

Stochastic solvers give other images from the same noise, so there is no such error. What they
should keep is the distribution. "spread" is the mean RMS distance of a solver's latents from exact
ones of the same class from other noise, ÷ the same distance among the exact ones. 1 is right, but a
deterministic solver comes close to it while its latents are still off.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from comfyui_fitv2 import SOLVERS, FiT, load_checkpoint, sample
from comfyui_fitv2.resolution import for_ratio
from comfyui_fitv2.whole_file import write_whole
from training.data.bundled import BUNDLED_CHECKPOINT

from .timing import DEVICE

PLOT = Path(__file__).parents[1] / "docs" / "solvers.png"
RATIOS = ("1:1", "2:1", "1:2")
CLASSES, SEEDS = 2, 2
"""Images of each ratio: this many classes, and this many of each class."""
GUIDANCE = 2.0
EVALUATIONS = (4, 8, 12, 20, 32, 48, 96)
TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)
EXACT = {"rtol": 1e-6, "atol": 1e-6, "max_evaluations": 100000}
BUDGETS = (20, 50)


@dataclass(frozen=True)
class Setting:
    """One row of the table."""

    solver: str
    label: str
    steps: int
    options: dict[str, Any]


@dataclass(frozen=True)
class Result:
    setting: Setting
    evaluations: float
    """Model evaluations per image."""
    error: float
    """Median over the images."""
    rms: float
    spread: float

    @property
    def stochastic(self) -> bool:
        return SOLVERS[self.setting.solver].stochastic


class Comparison:
    """The noise and classes that every solver gets, one batch per ratio, and the exact latents."""

    def __init__(self, model: FiT) -> None:
        self.model = model
        self.evaluations = 0
        model.register_forward_pre_hook(self._count)
        generator = torch.Generator().manual_seed(0)
        config, count = model.config, len(RATIOS) * CLASSES
        ids = [round((i + 0.5) * config.num_classes / count) for i in range(count)]
        y = torch.tensor(ids, device=DEVICE).repeat_interleave(SEEDS)
        self.y = y.split(CLASSES * SEEDS)
        sizes = [for_ratio(ratio, config.train_tokens).latent_size for ratio in RATIOS]
        shapes = [(CLASSES * SEEDS, config.in_channels, *size) for size in sizes]
        self.noise = [torch.randn(shape, generator=generator).to(DEVICE) for shape in shapes]
        self.exact, _ = self._solutions(Setting("dopri5", "exact", 1, EXACT))

    def result(self, setting: Setting) -> Result:
        solutions, evaluations = self._solutions(setting)
        pairs = list(zip(solutions, self.exact, strict=True))
        errors = torch.cat([(x - exact).flatten(1).square().mean(1).sqrt() for x, exact in pairs])
        spread = sum(_to_others(x, exact) for x, exact in pairs)
        exact_spread = sum(_to_others(exact, exact) for exact in self.exact)
        median, rms = errors.median().item(), errors.square().mean().sqrt().item()
        return Result(setting, evaluations, median, rms, spread / exact_spread)

    def _solutions(self, setting: Setting) -> tuple[list[Tensor], float]:
        """The latents of each ratio, and the evaluations of each."""
        torch.manual_seed(1)  # for the stochastic solvers
        before = self.evaluations
        solutions = [
            sample(self.model, noise, y, setting.solver, setting.steps, GUIDANCE, **setting.options)
            for noise, y in zip(self.noise, self.y, strict=True)
        ]
        return solutions, (self.evaluations - before) / len(solutions)

    def _count(self, *_: Any) -> None:
        self.evaluations += 1


def _to_others(x: Tensor, exact: Tensor) -> float:
    """Mean RMS distance of latents from the exact ones of their class from other noise."""
    ours, others = (batch.view(CLASSES, SEEDS, -1) for batch in (x, exact))
    distances = torch.cdist(ours, others) / x[0].numel() ** 0.5
    return distances[:, ~torch.eye(SEEDS, dtype=torch.bool)].mean().item()


def settings() -> list[Setting]:
    found = []
    for name, solver in SOLVERS.items():
        if solver.adaptive:
            found += [Setting(name, f"rtol {rtol:g}", 1, {"rtol": rtol}) for rtol in TOLERANCES]
        else:
            counts = [evaluations // solver.evaluations for evaluations in EVALUATIONS]
            found += [Setting(name, f"{steps} steps", steps, {}) for steps in counts]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED_CHECKPOINT)
    parser.add_argument("--plot", type=Path, default=PLOT)
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.checkpoint, dtype=torch.float32).model.to(DEVICE)
    results = []
    with tqdm(total=1 + len(settings()), desc="exact", leave=False) as progress:
        comparison = Comparison(model.requires_grad_(False))
        for setting in settings():
            progress.update()
            progress.set_description(f"{setting.solver}, {setting.label}")
            results.append(comparison.result(setting))
    _table(results, arguments.checkpoint)
    _plot(results, arguments.plot)


def _table(results: list[Result], checkpoint: Path) -> None:
    count = len(RATIOS) * CLASSES * SEEDS
    ratios = ", ".join(RATIOS)
    print(f"{checkpoint.stem}, guidance {GUIDANCE:g}, {count} images of ratios {ratios}")
    print(
        f"{'solver':10} {'setting':12} {'evaluations':>11} {'error (median)':>15}"
        f" {'error (RMS)':>12} {'spread':>7}"
    )
    for result in results:
        name = f"{result.setting.solver:10} {result.setting.label:12} {result.evaluations:11.0f}"
        error = f"{result.error:15.5f} {result.rms:12.5f}"
        if result.stochastic:
            error = f"{'-':>15} {'-':>12}"
        print(f"{name} {error} {result.spread:7.3f}")
    for budget in BUDGETS:
        within = [r for r in results if not r.stochastic and r.evaluations <= budget]
        best = min(within, key=lambda result: result.error)
        setting = f"{best.setting.solver}, {best.setting.label}"
        print(f"Smallest error with at most {budget} evaluations: {setting} ({best.error:.5f})")


def _plot(results: list[Result], path: Path) -> None:
    figure = Figure(figsize=(12, 5), layout="constrained")
    errors, spreads = figure.subplots(1, 2)
    for solver, facts in SOLVERS.items():
        mine = [result for result in results if result.setting.solver == solver]
        mine.sort(key=lambda result: result.evaluations)
        x = [result.evaluations for result in mine]
        marker, line = ("s", "--") if facts.stochastic else ("o", "-")
        style: dict[str, Any] = {
            "label": solver,
            "marker": marker,
            "markersize": 4,
            "linestyle": line,
        }
        (curve,) = spreads.plot(x, [result.spread for result in mine], **style)
        if not facts.stochastic:
            errors.plot(x, [result.error for result in mine], color=curve.get_color(), **style)
    errors.set_title("Distance from the exact solution")
    errors.set(yscale="log", ylabel="RMS error of the latents, median")
    spreads.set_title("Distribution of the latents: 1 is right")
    spreads.set(ylabel="spread ÷ that of the exact latents")
    spreads.axhline(1, color="0.6", linewidth=1)
    for axes in (errors, spreads):
        axes.set(xscale="log", xlabel="model evaluations per image")
        axes.set_xticks(EVALUATIONS, [str(n) for n in EVALUATIONS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    with write_whole(path) as temporary:
        figure.savefig(temporary, format="png", dpi=110)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
