"""Error of each solver against model evaluations, on the model that comes with the pack, with guidance: a table and a plot.

    python -m benchmarks.solvers

Solvers of the ODE: the error is the RMS distance of a picture's latents from the solution that starts from the same noise (dopri5 with rtol and atol
of 1e-6). Its median over the pictures is what to compare: a single picture at a parting of two ways can outweigh all others in
the mean of squares, which the table has beside it. An evaluation is one call of the guided model. Fixed steps are evenly spaced; dopri5 is
run at several rtol.

The stochastic solvers draw other pictures from the same noise, so that no error in that sense exists: what they should keep is the
distribution. "spread" is the mean RMS distance of a solver's draws from exact draws of the same class from other noise, ÷ that of the exact
draws from one another. 1 is right; a solver of the ODE also comes close to it while its draws are still off.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
import torch
from torch import Tensor
from tqdm import tqdm

from comfyui_fitv2 import FiT, load_checkpoint
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.resolution import for_ratio
from comfyui_fitv2.sampling import published_last_step, sampling_times
from comfyui_fitv2.solvers import SOLVERS, STOCHASTIC, Velocity, solver_named

mpl.use("Agg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).resolve().parent.parent
BUNDLED = next((ROOT / "models" / "fit").glob("*.safetensors"))
PLOT = ROOT / "docs" / "solvers.png"
RATIOS = ("1:1", "2:1", "1:2")
CLASSES, SEEDS = 2, 2
"""Pictures of each ratio: so many classes, so many of each."""
GUIDANCE = 2.0
EVALUATIONS = (4, 8, 12, 20, 32, 48, 96)
EVALUATIONS_A_STEP = {"heun": 2, "midpoint": 2, "rk4": 4, "sde-heun": 2}
TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)
EXACT = {"rtol": 1e-6, "atol": 1e-6, "max_evaluations": 100000}
BUDGETS = (20, 50)


class Result(NamedTuple):
    solver: str
    setting: str
    evaluations: float
    """Of the model, a picture."""
    error: float
    """Median over the pictures."""
    rms: float
    spread: float


class Pictures:
    """The noise and classes that every solver draws from, a batch a ratio, and the exact drawings."""

    def __init__(self, model: FiT) -> None:
        generator = torch.Generator().manual_seed(0)
        device = model.x_embedder.proj.weight.device
        count = len(RATIOS) * CLASSES
        ids = [round((i + 0.5) * model.config.num_classes / count) for i in range(count)]
        self.noise, self.velocities = [], []
        for i, ratio in enumerate(RATIOS):
            size = for_ratio(ratio, model.config.train_tokens).latent_size
            y = torch.tensor(ids[i * CLASSES : (i + 1) * CLASSES], device=device).repeat_interleave(
                SEEDS
            )
            self.noise.append(
                torch.randn(len(y), model.config.in_channels, *size, generator=generator).to(device)
            )
            self.velocities.append(guided_velocity(model, y, Guidance(GUIDANCE)))
        self.exact, _ = self._draw("dopri5", 1, EXACT)

    def result(self, solver: str, setting: str, steps: int, options: dict[str, Any]) -> Result:
        drawn, evaluations = self._draw(solver, steps, options)
        pairs = list(zip(drawn, self.exact, strict=True))
        errors = torch.cat(
            [(one - exact).flatten(1).square().mean(1).sqrt() for one, exact in pairs]
        )
        spread = sum(_to_others(one, exact) for one, exact in pairs) / sum(
            _to_others(exact, exact) for exact in self.exact
        )
        return Result(
            solver,
            setting,
            evaluations,
            errors.median().item(),
            errors.square().mean().sqrt().item(),
            spread,
        )

    def _draw(self, solver: str, steps: int, options: dict[str, Any]) -> tuple[list[Tensor], float]:
        evaluations = 0

        def counted(velocity: Velocity) -> Velocity:
            def evaluate(x: Tensor, t: Tensor) -> Tensor:
                nonlocal evaluations
                evaluations += 1
                return velocity(x, t)

            return evaluate

        torch.manual_seed(1)  # of the stochastic ones
        times = sampling_times(steps, last_step_size=published_last_step(solver, steps, 1.0))
        integrate = solver_named(solver, **options)
        drawn = [
            integrate(counted(velocity), noise, times)
            for velocity, noise in zip(self.velocities, self.noise, strict=True)
        ]
        return drawn, evaluations / len(drawn)


def _to_others(drawn: Tensor, exact: Tensor) -> float:
    """Mean RMS distance of each draw from the exact ones of its class from other noise."""
    ours, others = (x.view(CLASSES, SEEDS, -1) for x in (drawn, exact))
    distances = torch.cdist(ours, others) / drawn[0].numel() ** 0.5
    return distances[:, ~torch.eye(SEEDS, dtype=torch.bool)].mean().item()


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--checkpoint", type=Path, default=BUNDLED)
    parser.add_argument("--plot", type=Path, default=PLOT)
    arguments = parser.parse_args()
    model = load_checkpoint(arguments.checkpoint, dtype=torch.float32).model.requires_grad_(False)
    model.to("cuda" if torch.cuda.is_available() else "cpu")
    runs: list[tuple[str, str, int, dict[str, Any]]] = []
    for solver in SOLVERS:
        if solver == "dopri5":
            runs += [(solver, f"rtol {rtol:g}", 1, {"rtol": rtol}) for rtol in TOLERANCES]
        else:
            counts = [
                evaluations // EVALUATIONS_A_STEP.get(solver, 1) for evaluations in EVALUATIONS
            ]
            runs += [(solver, f"{steps} steps", steps, {}) for steps in counts]
    with tqdm(total=1 + len(runs), leave=False) as progress:
        progress.set_description("exact")
        pictures = Pictures(model)
        results = []
        for run in runs:
            progress.update()
            progress.set_description(f"{run[0]}, {run[1]}")
            results.append(pictures.result(*run))
    _table(results, arguments.checkpoint)
    _plot(results, arguments.plot)


def _table(results: list[Result], checkpoint: Path) -> None:
    count = len(RATIOS) * CLASSES * SEEDS
    print(
        f"{checkpoint.stem}, guidance {GUIDANCE:g}, {count} pictures of ratios {', '.join(RATIOS)}"
    )
    print(
        f"{'solver':10} {'setting':12} {'evaluations':>11} {'error (median)':>15} {'error (RMS)':>12} {'spread':>7}"
    )
    for result in results:
        error = (
            f"{'-':>15} {'-':>12}"
            if result.solver in STOCHASTIC
            else f"{result.error:15.5f} {result.rms:12.5f}"
        )
        print(
            f"{result.solver:10} {result.setting:12} {result.evaluations:11.0f} {error} {result.spread:7.3f}"
        )
    for budget in BUDGETS:
        within = [
            result
            for result in results
            if result.solver not in STOCHASTIC and result.evaluations <= budget
        ]
        best = min(within, key=lambda result: result.error)
        print(
            f"Least error with at most {budget} evaluations: {best.solver}, {best.setting} ({best.error:.5f})"
        )


def _plot(results: list[Result], path: Path) -> None:
    figure, (errors, spreads) = plt.subplots(1, 2, figsize=(12, 5), layout="constrained")
    for solver in SOLVERS:
        mine = sorted(
            (result for result in results if result.solver == solver),
            key=lambda result: result.evaluations,
        )
        x = [result.evaluations for result in mine]
        stochastic = solver in STOCHASTIC
        style = {
            "label": solver,
            "marker": "s" if stochastic else "o",
            "markersize": 4,
            "linestyle": "--" if stochastic else "-",
        }
        (line,) = spreads.plot(x, [result.spread for result in mine], **style)
        if not stochastic:
            errors.plot(x, [result.error for result in mine], color=line.get_color(), **style)
    errors.set(
        yscale="log",
        ylabel="RMS error of the latents, median",
        title="Distance from the exact solution",
    )
    spreads.set(
        ylabel="spread ÷ that of exact draws", title="Distribution of the draws: 1 is right"
    )
    spreads.axhline(1, color="0.6", linewidth=1)
    for axes in (errors, spreads):
        axes.set(xscale="log", xlabel="model evaluations a picture")
        axes.set_xticks(EVALUATIONS, [str(n) for n in EVALUATIONS])
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.legend()
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        figure.savefig(temporary, format="png", dpi=110)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    print(f"plot: {path}")


if __name__ == "__main__":
    main()
