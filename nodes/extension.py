"""The pack as ComfyUI's extension: its nodes, folders of models, and routes."""

from comfy_api.latest import ComfyExtension, io

from .compare import FiTCompareSheet
from .conditioning import FiTClassLabel
from .error_names import show_plain_names
from .extrapolation import FiTExtrapolation
from .guidance import FiTGuidance
from .host import arrange, check_queued_prompts, register_model_folders
from .loader import FiTLoader
from .other_copy import FOLDER, skipped
from .resolution import FiTResolution
from .routes import register as register_routes
from .sampling import FiTSampler
from .solvers import FiTScheduler, FiTSolver
from .sweep import FiTResolutionSweep
from .sweep_decoder import FiTSweepDecoder
from .sweep_sampler import FiTSweepSampler
from .training_run import FiTTrainingRun


class FiTExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        # Not in on_load, which ComfyUI before 0.15 does not call.
        register_model_folders()
        check_queued_prompts()
        show_plain_names(__name__.removesuffix(".nodes.extension"))
        register_routes()
        arrange(FOLDER, skipped)
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
