"""Which VAEs a queued prompt uses for the latents of which checkpoint.

A prompt is ComfyUI's API format: node ids to {"class_type", "inputs"}, where an input is a value or
a link, [node id, number of the output]. Types of links are not in it, so their names decide.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Node = Mapping[str, Any]
Prompt = Mapping[str, Node]

LOADER = "FiTLoader"


@dataclass(frozen=True, slots=True)
class VaeUse:
    """A VAE that encodes or decodes latents of a checkpoint."""

    node_id: str
    """The node that encodes or decodes."""
    vae: str
    """The name in Load VAE."""
    checkpoint: str
    """The name in FiT Loader."""


def vae_uses(prompt: Prompt) -> Iterator[VaeUse]:
    """Each use that can be followed to both loaders; what comes from other nodes is left out."""
    for node_id, node in prompt.items():
        if _link(prompt, node, "vae") and _link(prompt, node, "samples"):
            for sampler in _sources_of_latents(prompt, node):
                yield from _use(prompt, node_id, prompt[sampler])
        elif _is_sampler(prompt, node):
            for encoder in _sources_of_latents(prompt, node):
                yield from _use(prompt, encoder, node)


def _use(prompt: Prompt, coder: str, sampler: Node) -> Iterator[VaeUse]:
    vae = _name(prompt, prompt[coder], ("vae",), "vae_name")
    loaded_by = _name(prompt, sampler, ("guider", "model", "model1"), "checkpoint", LOADER)
    if vae is not None and loaded_by is not None:
        yield VaeUse(coder, vae, loaded_by)


def _is_sampler(prompt: Prompt, node: Node) -> bool:
    return any(_link(prompt, node, name) for name in ("model", "guider"))


def _sources_of_latents(prompt: Prompt, node: Node) -> Iterator[str]:
    """The next samplers and encoders before a node, through nodes that change latents."""
    to_visit = [_link(prompt, node, name) for name in ("samples", "latent", "latent_image")]
    seen: set[str] = set()
    while to_visit:
        source = to_visit.pop()
        if source is None or source in seen:
            continue
        seen.add(source)
        if _is_sampler(prompt, prompt[source]) or _link(prompt, prompt[source], "vae"):
            yield source
        else:
            inputs = prompt[source].get("inputs", {})
            to_visit += [_link(prompt, prompt[source], name) for name in inputs]


def _name(
    prompt: Prompt, node: Node, links: tuple[str, ...], value: str, class_type: str | None = None
) -> str | None:
    """The text ``value`` of the first node that has it, following the first of these links."""
    seen: set[str] = set()
    while True:
        source = next(filter(None, (_link(prompt, node, name) for name in links)), None)
        if source is None or source in seen:
            return None
        seen.add(source)
        node = prompt[source]
        text = node.get("inputs", {}).get(value)
        if isinstance(text, str) and class_type in (None, node.get("class_type")):
            return text


def _link(prompt: Prompt, node: Node, name: str) -> str | None:
    """The id of the node that feeds an input; None where none does."""
    value = node.get("inputs", {}).get(name)
    is_link = isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    return value[0] if is_link and value[0] in prompt else None
