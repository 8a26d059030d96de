"""How ComfyUI shows the errors of this pack: by their own names.

ComfyUI prints ``module.class`` for an error whose class is no builtin, and the module of a custom
node is the path of its file: "/home/me/ComfyUI/custom_nodes/fitv2.comfyui_fitv2.labels.LabelError".
"""

from __future__ import annotations

from collections.abc import Iterator


def show_plain_names(package: str) -> None:
    """Let all error classes below ``package`` print as a plain name, such as "LabelError".

    It covers errors that reach ComfyUI through its own nodes, such as one of our solvers in
    SamplerCustom. Call it after the modules with the classes were imported.
    """
    for error in _below(Exception):
        if error.__module__.startswith(f"{package}."):
            # A class of this module alone is printed without one, here and in tracebacks. Nothing
            # in ComfyUI pickles errors, which would look for the class there.
            error.__module__ = "builtins"


def _below(error: type[Exception]) -> Iterator[type[Exception]]:
    for subclass in error.__subclasses__():
        yield subclass
        yield from _below(subclass)
