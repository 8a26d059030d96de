"""Which VAEs meet which checkpoint in a prompt."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

# By its path: the package around it needs a ComfyUI.
_SPEC = importlib.util.spec_from_file_location(
    "fit_prompt_graph", Path(__file__).parents[3] / "nodes" / "host" / "prompt_graph.py"
)
assert _SPEC is not None
assert _SPEC.loader is not None
prompt_graph = importlib.util.module_from_spec(_SPEC)
sys.modules["fit_prompt_graph"] = prompt_graph
_SPEC.loader.exec_module(prompt_graph)


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def graph(**changes: Any) -> dict[str, Any]:
    """An image that is encoded, enlarged, sampled and decoded, with a patched model."""
    return {
        "load": node("FiTLoader", checkpoint="flags", weight_dtype="auto"),
        "patch": node("FiTExtrapolation", model=["load", 0], method="ntk"),
        "one": node("VAELoader", vae_name="first"),
        "two": node("VAELoader", vae_name="second"),
        "encode": node("VAEEncode", pixels=["image", 0], vae=["one", 0]),
        "enlarge": node("LatentUpscale", samples=["encode", 0]),
        "sample": node("KSampler", model=["patch", 0], latent_image=["enlarge", 0]),
        "decode": node("VAEDecode", samples=["sample", 0], vae=["two", 0]),
        **changes,
    }


def uses(prompt: dict[str, Any]) -> list[tuple[str, str, str]]:
    return sorted((u.node_id, u.vae, u.checkpoint) for u in prompt_graph.vae_uses(prompt))


ENCODE, DECODE = ("encode", "first", "flags"), ("decode", "second", "flags")


def test_encoders_and_decoders_are_found_through_other_nodes() -> None:
    assert uses(graph()) == [DECODE, ENCODE]


def test_a_guider_leads_to_the_model() -> None:
    custom = node("SamplerCustomAdvanced", guider=["guide", 0], latent_image=["enlarge", 0])
    guider = node("CFGGuider", model=["patch", 0])
    assert uses(graph(sample=custom, guide=guider)) == [DECODE, ENCODE]


def test_other_models_and_vaes_of_other_nodes_are_left_out() -> None:
    other = node("UNETLoader", checkpoint="flags")
    assert uses(graph(load=other)) == []
    of_checkpoint = node("VAEDecode", samples=["sample", 0], vae=["load", 2])
    assert uses(graph(decode=of_checkpoint)) == [ENCODE]


def test_only_the_last_sampler_before_a_decoder_counts() -> None:
    other = node("UNETLoader", unet_name="other")
    second = node("KSampler", model=["other", 0], latent_image=["sample", 0])
    decode = node("VAEDecode", samples=["second", 0], vae=["two", 0])
    assert uses(graph(other=other, second=second, decode=decode)) == [ENCODE]


def test_a_prompt_that_is_no_graph_gives_nothing() -> None:
    loop = node("FiTExtrapolation", model=["patch", 0])
    assert uses(graph(patch=loop)) == []
    turns = node("LatentUpscale", samples=["enlarge", 0])
    assert uses(graph(enlarge=turns)) == [DECODE]
    assert uses({"a": node("VAEDecode", samples=["nowhere", 0], vae=["nowhere", 0])}) == []
    assert uses({"a": {}, "b": {"inputs": {"vae": ["a"], "samples": 3}}}) == []
