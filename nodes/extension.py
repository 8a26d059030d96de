"""The pack as ComfyUI's extension: the list of nodes, and the folders of models."""

from comfy_api.latest import ComfyExtension, io

from .compare import FiTCompareSheet
from .conditioning import FiTClassLabel
from .extrapolation import FiTExtrapolation
from .guidance import FiTGuidance
from .host import register_model_folders
from .loader import FiTLoader
from .resolution import FiTResolution
from .sampling import FiTSampler
from .solvers import FiTScheduler, FiTSolver
from .sweep import FiTResolutionSweep
from .sweep_sampler import FiTSweepSampler
from .training_run import FiTTrainingRun


class FiTExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        register_model_folders()  # not in on_load, which ComfyUI before 0.15 does not call
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
            FiTTrainingRun,
        ]


async def comfy_entrypoint() -> FiTExtension:
    return FiTExtension()
