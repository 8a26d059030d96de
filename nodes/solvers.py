"""FiT Solver and FiT Scheduler: the pack's solvers and time steps for custom sampling."""

from __future__ import annotations

from comfy_api.latest import io, ui

from ..comfyui_fitv2.sampling import resolution_shift
from ..comfyui_fitv2.solvers import DIFFUSIONS, LAST_STEPS, SOLVERS, sampling_sigmas
from . import host, inputs

UNIFORM, SHIFTED = "uniform", "resolution-shifted"


class FiTSolver(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTSolver",
            display_name="FiT Solver",
            category="FiT",
            description="A rectified-flow solver with all its options, as a SAMPLER for "
            "SamplerCustom and SamplerCustomAdvanced.",
            search_aliases=[
                "fitv2",
                "solver",
                "sampler",
                "sampler select",
                "ode",
                "ode solver",
                "sde",
                "sde solver",
                "euler",
                "heun",
                "rk4",
                "dopri5",
                "runge kutta",
                "adams bashforth",
                "euler maruyama",
            ],
            inputs=[
                inputs.solver(),
                io.Float.Input(
                    "rtol",
                    default=1e-3,
                    min=1e-8,
                    max=1.0,
                    step=1e-5,
                    round=False,
                    tooltip="dopri5: relative error tolerance per step.",
                ),
                io.Float.Input(
                    "atol",
                    default=1e-6,
                    min=1e-10,
                    max=1.0,
                    step=1e-6,
                    round=False,
                    tooltip="dopri5: absolute error tolerance per step, in latent units.",
                ),
                io.Int.Input(
                    "max_evaluations",
                    default=1000,
                    min=8,
                    max=100000,
                    tooltip="dopri5: maximum number of model evaluations. Beyond it, it stops with "
                    "an error that says how far it came.",
                ),
                io.Combo.Input(
                    "diffusion",
                    options=list(DIFFUSIONS),
                    default="sigma",
                    tooltip="sde: how the strength of the added noise changes over time. All of "
                    "them lead to the same distribution of images.",
                ),
                io.Float.Input(
                    "diffusion_norm",
                    default=1.0,
                    min=0.0,
                    max=10.0,
                    step=0.05,
                    tooltip="sde: factor on that strength. 0 adds no noise.",
                ),
                io.Combo.Input(
                    "last_step",
                    options=list(LAST_STEPS),
                    default="mean",
                    tooltip="sde: the last step. none: like the others. mean: without noise. "
                    "tweedie: to the expected image. euler: like the solver euler.",
                ),
            ],
            outputs=[
                io.Sampler.Output(
                    tooltip="For SamplerCustom and SamplerCustomAdvanced, with any rectified-flow "
                    "model."
                )
            ],
        )

    @classmethod
    def execute(cls, solver: str, **options: float | str) -> io.NodeOutput:
        its_own = {k: value for k, value in options.items() if k in SOLVERS[solver].options}
        return io.NodeOutput(host.sampler(solver, its_own))


class FiTScheduler(io.ComfyNode):
    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="FiTScheduler",
            display_name="FiT Scheduler",
            category="FiT",
            description="Time steps of a rectified flow as SIGMAS: evenly spaced as in the paper, "
            "or with more of the steps near the noise for larger images.",
            search_aliases=[
                "fitv2",
                "scheduler",
                "sigmas",
                "schedule",
                "steps",
                "timesteps",
                "time shift",
                "shift",
                "resolution shift",
                "uniform",
                "sd3 shift",
            ],
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="The FiT: it knows its trained tokens, from which the shift follows.",
                ),
                inputs.steps(),
                io.Combo.Input(
                    "schedule",
                    options=[UNIFORM, SHIFTED],
                    default=UNIFORM,
                    tooltip=f"{UNIFORM}: evenly spaced. {SHIFTED}: more of the steps near the "
                    "noise, for images of more than the trained tokens; needs the latent.",
                ),
                inputs.denoise(),
                io.Float.Input(
                    "last_step_size",
                    default=0.0,
                    min=0.0,
                    max=0.5,
                    step=0.01,
                    tooltip="Length of the last step, in time from 0 to 1. 0 makes it as long as "
                    "the others. The published SDE sampler uses 0.04.",
                ),
                io.Latent.Input(
                    "latent",
                    optional=True,
                    tooltip="The latent to sample: its size sets the shift.",
                ),
            ],
            outputs=[
                io.Sigmas.Output("sigmas", tooltip="For SamplerCustom and SamplerCustomAdvanced."),
                io.String.Output("report", tooltip="The shift, and why."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: host.ModelPatcher,
        steps: int,
        schedule: str,
        denoise: float,
        last_step_size: float,
        latent: io.Latent.LatentDict | None = None,
    ) -> io.NodeOutput:
        config = host.require_flow(model).metadata.config
        shift, why = 1.0, "evenly spaced"
        if schedule == SHIFTED:
            if latent is None:
                raise ValueError(
                    f"{SHIFTED} depends on the size of the image: connect the latent to sample, or "
                    f"choose {UNIFORM}."
                )
            rows, columns = host.grid_of(model, latent)
            shift = resolution_shift(rows * columns, config.train_tokens)
            ratio = rows * columns / config.train_tokens
            compared = f"{ratio:.2f}× trained tokens ({config.train_tokens})"
            why = f"shift {shift:.3g}: {rows * columns} tokens, {compared}"
        sigmas = sampling_sigmas(steps, denoise, shift, last_step_size)
        report = f"{steps} steps, {why}"
        host.show(report)
        return io.NodeOutput(sigmas, report, ui=ui.PreviewText(report))
