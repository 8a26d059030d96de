"""FiTv2 for ComfyUI: the entry point that the host looks for."""

import logging

from .nodes.host_version import unsupported_host
from .nodes.other_copy import other_copy

if problem := unsupported_host():
    logging.warning(problem)
    NODE_CLASS_MAPPINGS = {}  # a pack without nodes, which any ComfyUI loads
    __all__ = ["NODE_CLASS_MAPPINGS"]
elif problem := other_copy():
    logging.warning(problem)
    from .nodes.other_copy import comfy_entrypoint

    __all__ = ["comfy_entrypoint"]
else:
    from .nodes.extension import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
