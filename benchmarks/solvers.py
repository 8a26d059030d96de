"""Error of each solver against model evaluations, on the model that comes with the pack, with guidance: a table and a plot.

    python -m benchmarks.solvers

Solvers of the ODE: "error" is the RMS distance of their latents, which are of unit variance, from the solution (dopri5 with rtol and atol of
1e-6) that starts from the same noise. An evaluation is one call of the guided model. Fixed steps are evenly spaced; dopri5 is run at several rtol.

The stochastic solvers draw other pictures from the same noise, so that no error in that sense exists: what they should keep is the
distribution. "spread" is the RMS distance of a solver's draws from exact draws of the same class from other noise, ÷ that of the exact draws from one another.
1 is right, for every solver; the error of a solver of the ODE shows in it later.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import matplotlib as mpl
import torch
from torch import Tensor
from tqdm import tqdm

from comfyui_fitv2 import FiT, load_checkpoint, sampling
from comfyui_fitv2.guidance import Guidance, guided_velocity
from comfyui_fitv2.resolution import for_ratio
from comfyui_fitv2.solvers import SOLVERS, STOCHASTIC, Velocity, solver_named

ROOT = Path(__file__).resolve().parent.parent
RATIOS = ("1:1", "2:1", "1:2")
CLASSES, SEEDS = 2, 2
"""For each ratio."""
GUIDANCE = 2.0
EVALUATIONS = (4, 8, 12, 20, 32, 48, 96)
EVALUATIONS_A_STEP = {"heun": 2, "midpoint": 2, "rk4": 4, "sde-heun": 2}
TOLERANCES = (1.0, 0.3, 0.1, 0.03, 0.01, 1e-3, 1e-4)
EXACT = {"rtol": 1e-6, "atol": 1e-6, "max_evaluations": 10000}
