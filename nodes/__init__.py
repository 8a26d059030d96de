"""The ComfyUI side of the pack: which nodes there are, and where the host finds our models."""

from comfy_api.latest import ComfyExtension, io

from .conditioning import FiTClassLabel
from .loader import FiTLoader, register_model_folders
from .resolution import FiTResolution
from .sampling import FiTSampler


class FiTExtension(ComfyExtension):
    async def on_load(self) -> None:
        register_model_folders()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [FiTLoader, FiTClassLabel, FiTResolution, FiTSampler]


async def comfy_entrypoint() -> FiTExtension:
    return FiTExtension()
