"""FiT Solver and FiT Scheduler: this pack's integrators and time steps for the stock custom-sampling nodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import comfy.samplers
import torch
from comfy.model_patcher import ModelPatcher
from comfy_api.latest import io
from torch import Tensor
from tqdm.auto import tqdm

from ..comfyui_fitv2.flow import velocity_from_denoised
from ..comfyui_fitv2.sampling import resolution_shift, sampling_times
from ..comfyui_fitv2.solvers import DIFFUSIONS, LAST_STEPS, SOLVERS, STOCHASTIC, solver_named
from . import host

# The least error at 20 evaluations of the bundled model: benchmarks/solvers.py.
DEFAULT_SOLVER = "ab2"
SOLVER_TOOLTIP = (
    "euler, ab2: one model evaluation a step. heun, midpoint: two. rk4: four. dopri5 chooses its own steps by tolerance, whatever the number of steps. "
    "sde-euler and sde-heun add noise on the way, one and two evaluations a step."
)
# The host hands out predicted data, from which no velocity follows at t = 1: there it is asked this little earlier.
_LEAST_SIGMA = 2.0**-12


class FiTSolver(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSolver",
            display_name="FiT Solver",
            category="FiT",
            description="A rectified-flow integrator as a SAMPLER for SamplerCustom and SamplerCustomAdvanced, with all its options.",
            search_aliases=[
                "ode solver",
                "sde solver",
                "dopri5",
                "runge kutta",
                "adams bashforth",
                "euler maruyama",
                "sampler select",
            ],
            inputs=[
                io.Combo.Input(
                    "solver", options=list(SOLVERS), default=DEFAULT_SOLVER, tooltip=SOLVER_TOOLTIP
                ),
                io.Float.Input(
                    "rtol",
                    default=1e-3,
                    min=1e-8,
                    max=1.0,
                    step=1e-5,
                    round=False,
                    tooltip="dopri5: error allowed in a step, relative to the latent.",
                ),
                io.Float.Input(
                    "atol",
                    default=1e-6,
                    min=1e-10,
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="dopri5: error allowed in a step beside rtol's, in latent units.",
                ),
                io.Int.Input(
                    "max_evaluations",
                    default=1000,
                    min=8,
                    max=100000,
                    tooltip="dopri5: model evaluations after which it gives up, with an error that says how far it came.",
                ),
                io.Combo.Input(
                    "diffusion",
                    options=list(DIFFUSIONS),
                    default="sigma",
                    tooltip="sde: how the strength of the added noise runs over time. All lead to the same distribution.",
                ),
                io.Float.Input(
                    "diffusion_norm",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="sde: factor on that strength. 0 adds none: the ODE.",
                ),
                io.Combo.Input(
                    "last_step",
                    options=list(LAST_STEPS),
                    default="mean",
                    tooltip="sde: the last step. none: as the others. mean: without noise. tweedie: to the expected picture. euler: as the ODE.",
                ),
            ],
            outputs=[
                io.Sampler.Output(
                    tooltip="For SamplerCustom and SamplerCustomAdvanced, with any rectified-flow model."
                )
            ],
        )

    @classmethod
    def execute(
        cls,
        solver: str,
        rtol: float,
        atol: float,
        max_evaluations: int,
        diffusion: str,
        diffusion_norm: float,
        last_step: str,
    ) -> io.NodeOutput:
        if solver == "dopri5":
            return io.NodeOutput(
                host_sampler(solver, rtol=rtol, atol=atol, max_evaluations=max_evaluations)
            )
        if solver in STOCHASTIC:
            return io.NodeOutput(
                host_sampler(
                    solver, diffusion=diffusion, diffusion_norm=diffusion_norm, last_step=last_step
                )
            )
        return io.NodeOutput(host_sampler(solver))


UNIFORM, SHIFTED = "uniform", "resolution-shifted"


class FiTScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTScheduler",
            display_name="FiT Scheduler",
            category="FiT",
            description="Time steps of a rectified flow as SIGMAS: evenly spaced as in the paper, or with more of them near the noise for larger pictures.",
            search_aliases=[
                "sigmas",
                "schedule",
                "timesteps",
                "time shift",
                "resolution shift",
                "uniform",
                "sd3 shift",
            ],
            inputs=[
                io.Model.Input(
                    "model", tooltip="The FiT: it knows how many tokens it was trained on."
                ),
                io.Int.Input(
                    "steps", default=20, min=1, max=1000, tooltip="Steps from noise to picture."
                ),
                io.Combo.Input(
                    "schedule",
                    options=[UNIFORM, SHIFTED],
                    default=UNIFORM,
                    tooltip=f"{UNIFORM}: evenly spaced. {SHIFTED}: the noise level a·s / (1 + (a−1)·s) with a = √(tokens / trained tokens); needs the latent.",
                ),
                io.Float.Input(
                    "denoise",
                    default=1.0,
                    min=0.01,
                    max=1.0,
                    step=0.01,
                    tooltip="Part of the way that is drawn anew: 1 starts from noise.",
                ),
                io.Float.Input(
                    "last_step_size",
                    default=0.0,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Length of the last step, in time from 0 to 1; 0 makes it as long as the others. The published SDE sampler takes 0.04.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent to draw: its size decides the shift.",
                ),
            ],
            outputs=[
                io.Sigmas.Output("sigmas", tooltip="For SamplerCustom and SamplerCustomAdvanced."),
                io.String.Output("report", tooltip="The shift, and what it comes from."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: ModelPatcher,
        steps: int,
        schedule: str,
        denoise: float,
        last_step_size: float,
        latent: dict[str, Any] | None = None,
    ) -> io.NodeOutput:
        config = host.require_flow(model).metadata.config
        shift, why = 1.0, "evenly spaced"
        if schedule == SHIFTED:
            if latent is None:
                raise ValueError(
                    f"{SHIFTED} depends on the size of the picture: connect the latent that is drawn, or choose {UNIFORM}."
                )
            rows, columns = host.grid_of(latent["samples"], config)
            shift = resolution_shift(rows * columns, config.train_tokens)
            why = f"shift {shift:.3g}: {rows * columns} tokens, trained on {config.train_tokens}"
        return io.NodeOutput(
            1 - sampling_times(steps, denoise, shift, last_step_size), f"{steps} steps, {why}"
        )


def host_sampler(
    name: str, shapes: Sequence[Sequence[int]] | None = None, **options: Any
) -> comfy.samplers.KSAMPLER:
    """One of our solvers behind the host's sampler interface: falling sigmas and a model that predicts data.

    A stochastic one draws on the CPU from the seed after the starting noise's; of packed latents, whose ``shapes`` must be given,
    each picture draws as it would alone.
    """

    integrate = solver_named(name, **options)

    def sample(
        model: Callable[..., Tensor],
        x: Tensor,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Any,
        disable: bool,
    ) -> Tensor:
        if sigmas.max() > 1:
            raise ValueError(
                f"FiT solvers follow rectified flows, whose sigmas fall from 1 to 0; these start at {sigmas.max().item():.4g}. "
                "For a model that predicts noise, such as FiT version 1, use KSampler."
            )
        noise = (
            {"noise_source": _noise_source(((extra_args.get("seed") or 0) + 1) % 2**64, shapes)}
            if name in STOCHASTIC
            else {}
        )
        times = 1 - sigmas.cpu()
        start, end, steps = times[0].item(), times[-1].item(), len(times) - 1
        per_image = x.new_ones(len(x))

        def velocity(x: Tensor, t: Tensor) -> Tensor:
            sigma = 1 - t.item()
            sigma = _LEAST_SIGMA if abs(sigma) < _LEAST_SIGMA else sigma
            return velocity_from_denoised(model(x, sigma * per_image, **extra_args), x, 1 - sigma)

        with tqdm(total=steps, disable=disable) as progress:

            def report(step: int, x: Tensor, t: Tensor, slope: Tensor) -> None:
                if name == "dopri5":  # it has steps of its own: progress is time
                    step = min(int((t.item() - start) / (end - start) * steps), steps - 1)
                progress.update(step + 1 - progress.n)
                if callback is not None:
                    sigma = sigmas.new_tensor(1 - t.item())
                    callback(
                        {
                            "x": x,
                            "i": step,
                            "sigma": sigma,
                            "sigma_hat": sigma,
                            "denoised": x + (1 - t) * slope,
                        }
                    )

            return integrate(velocity, x, times, report, **noise)

    return comfy.samplers.KSAMPLER(sample)


def _noise_source(seed: int, shapes: Sequence[Sequence[int]] | None) -> Callable[[Tensor], Tensor]:
    if shapes is None:
        generator = torch.Generator().manual_seed(seed)
        return lambda x: torch.randn(x.shape, generator=generator).to(x)
    generators = [torch.Generator().manual_seed(seed) for _ in shapes]

    def draw(x: Tensor) -> Tensor:
        noises = [
            torch.randn(tuple(shape), generator=generator).flatten()
            for shape, generator in zip(shapes, generators, strict=True)
        ]
        return torch.cat(noises).view(x.shape).to(x)

    return draw
