"""The ComfyUI side of the pack: which nodes there are, and where the host finds our models."""

from comfy_api.latest import ComfyExtension, io

from .compare import FiTCompareSheet
from .conditioning import FiTClassLabel
from .extrapolation import FiTExtrapolation
from .guidance import FiTGuidance
from .loader import FiTLoader, register_model_folders
from .resolution import FiTResolution
from .sampling import FiTSampler
from .solvers import FiTScheduler, FiTSolver
from .sweep import FiTResolutionSweep, FiTSweepSampler


class FiTExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            FiTLoader,
            FiTClassLabel,
            FiTResolution,
            FiTExtrapolation,
            FiTGuidance,
            FiTSampler,
            FiTSolver,
            FiTScheduler,
            FiTResolutionSweep,
            FiTSweepSampler,
            FiTCompareSheet,
        ]


async def comfy_entrypoint() -> FiTExtension:
    return FiTExtension()
