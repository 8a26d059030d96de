"""ComfyUI's side of the pack: the list of nodes, and the folders of models."""

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
from .sweep_decoder import FiTSweepDecoder
from .sweep_sampler import FiTSweepSampler
from .training_run import FiTTrainingRun


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
            FiTSweepDecoder,
            FiTCompareSheet,
            FiTTrainingRun,
        ]


async def comfy_entrypoint() -> FiTExtension:
    return FiTExtension()
