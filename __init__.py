"""FiTv2 for ComfyUI: the entry point that the host looks for."""

import logging

from .nodes.host_version import unsupported_host
from .nodes.other_copy import other_copy

if problem := unsupported_host() or other_copy():
    logging.warning(problem)
    NODE_CLASS_MAPPINGS = {}  # a pack without nodes, which any ComfyUI loads
    __all__ = ["NODE_CLASS_MAPPINGS"]
else:
    from .nodes.extension import comfy_entrypoint

    WEB_DIRECTORY = "./web"
    __all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
