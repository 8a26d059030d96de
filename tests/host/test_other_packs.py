"""What nodes of other packs do to a FiT: small stand-ins that do it in the same way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from host.inside import run_inside

pytestmark = pytest.mark.host

# Each function is one experiment; all run in one ComfyUI, which takes seconds to start.
_EXPERIMENTS = """
import logging, traceback
import comfy.model_patcher, comfy.samplers
from fitv2.comfyui_fitv2 import Extrapolation
from fitv2.nodes import host

model = host.load({checkpoint!r}, "fp32")
depth = len(model.model.diffusion_model.blocks)
settings = host.SamplingSettings(seed=7, steps=2, solver="euler", guidance_scale=2.0)
latent = {{"samples": torch.zeros(1, 4, 8, 8)}}
france, null = (host.conditioning([i], 256) for i in (76, 256))
warnings = []

class Keep(logging.Handler):
    def emit(self, record):
        warnings.append(record.getMessage())

logging.getLogger().addHandler(Keep(logging.WARNING))

def sampled(model, positive=france, negative=null):
    with torch.inference_mode():
        return host.sample(model, settings, positive, negative, latent)["samples"]

def change(patched, original=model):
    return (sampled(patched) - sampled(original)).abs().max().item()

def refusal(positive):
    try:
        sampled(model, positive)
    except ValueError as error:
        return str(error)

def patched_by(patch):
    patched = model.clone()
    patch(patched)
    warnings.clear()
    return change(patched), list(warnings)

def replacement():
    seen = []
    def replace(args, extra):
        seen.append((sorted(args), list(args["txt"].shape[:2])))
        out = extra["original_block"](args)
        return {{"img": out["img"], "txt": out["txt"]}}
    difference, _ = patched_by(
        lambda patched: patched.set_model_patch_replace(replace, "dit", "double_block", 3)
    )
    return difference, seen[0][0], [shape for _, shape in seen]

def row_by_row(method):
    original = host.with_extrapolation(model, Extrapolation(method))
    patched = original.clone()
    def replace(args, extra):
        images = zip(*(args[key] for key in ("img", "txt", "vec", "pe")), strict=True)
        rows = [
            extra["original_block"](
                {{**args, "img": img[None], "txt": txt[None], "vec": vec[None], "pe": pe[None]}}
            )
            for img, txt, vec, pe in images
        ]
        return {{key: torch.cat([row[key] for row in rows]) for key in ("img", "txt")}}
    for block in range(depth):
        patched.set_model_patch_replace(replace, "dit", "double_block", block)
    return change(patched, original)

def attention():
    blocks = []
    def attend(original, *args, **options):
        asked = options["transformer_options"]
        blocks.append([asked["block_type"], asked["block_index"], asked["total_blocks"]])
        return original(*args, **options)
    patched = model.clone()
    patched.model_options["transformer_options"]["optimized_attention_override"] = attend
    return change(patched), blocks, depth

def attn1_patch():
    return patched_by(lambda m: m.set_model_attn1_patch(lambda q, k, v, options: (q, k, v)))

def input_block_patch():
    return patched_by(lambda m: m.set_model_input_block_patch(lambda h, options: h))

def attn2():
    return patched_by(lambda m: m.set_model_attn2_replace(lambda q, k, v, o: q, "input", 4))

def attn1():
    def hook(args):
        options = comfy.model_patcher.set_model_options_patch_replace(
            args["model_options"].copy(), lambda q, k, v, o: v, "attn1", "middle", 0
        )
        comfy.samplers.calc_cond_batch(
            args["model"], [args["cond"]], args["input"], args["sigma"], options
        )
        return args["denoised"]
    return patched_by(lambda patched: patched.set_model_sampler_post_cfg_function(hook))

def missing_blocks(blocks):
    def skip(patched):
        for block in blocks:
            for kind in ("double_block", "single_block"):
                patched.set_model_patch_replace(lambda args, extra: args, "dit", kind, block)
    return *patched_by(skip), depth

def null_class():
    number = model.model.model_config.unet_config["num_classes"]
    empty = [[torch.tensor([[number]]).to(torch.int), {{}}]]
    return number, (sampled(model, france, empty) - sampled(model)).abs().max().item()

def regions():
    values = {{"pooled_output": torch.zeros(1, 257), "callback_regional": lambda model: None}}
    return refusal([[torch.zeros_like(france[0][0]), values]])

def lengthened():
    marker, values = france[0]
    return refusal([[marker.repeat(1, 128, 1), values]])

def answer_of(experiment, *inputs):
    try:
        return experiment(*inputs)
    except Exception:
        return traceback.format_exc()

experiments = [replacement, attention, attn1_patch, input_block_patch, attn2, attn1, null_class]
answers = {{experiment.__name__: answer_of(experiment) for experiment in experiments}}
answers |= {{method: answer_of(row_by_row, method) for method in ("ntk", "time-aware")}}
answers["some blocks"] = answer_of(missing_blocks, [3, 99])
answers["no block"] = answer_of(missing_blocks, [99, 100])
answers |= {{"regions": answer_of(regions), "lengthened": answer_of(lengthened)}}
answer(answers)
"""


@pytest.fixture(scope="module")
def answers(bundled_checkpoint: Path) -> dict[str, Any]:
    """What each experiment with the bundled model returned, by its name."""
    return run_inside(_EXPERIMENTS.format(checkpoint=str(bundled_checkpoint)))


def test_a_replaced_block_gets_what_other_transformers_give(answers) -> None:
    """As IP-Adapters replace it: they hand on a text, and expect one back."""
    change, names, texts = answers["replacement"]
    assert change == 0.0
    assert names == ["attn_mask", "img", "pe", "transformer_options", "txt", "vec"]
    assert all(tokens == 0 for _, tokens in texts)


@pytest.mark.parametrize("extrapolation", ["ntk", "time-aware"])
def test_a_replacement_may_run_a_block_for_some_images_alone(answers, extrapolation: str) -> None:
    """As skip-layer nodes do, which leave the block out for the null class."""
    assert answers[extrapolation] <= 1e-3


def test_attention_is_told_in_which_block_it_is(answers) -> None:
    """As attention patches expect that act in some blocks only."""
    change, blocks, depth = answers["attention"]
    assert change == 0.0
    assert blocks[:depth] == [["double", block, depth] for block in range(depth)]


@pytest.mark.parametrize(
    ("patch", "advice"),
    [
        ("attn1_patch", "HyperTile"),
        ("input_block_patch", "Deep Shrink"),
        ("attn2", "IP-Adapter"),
        ("attn1", "SkipLayerGuidanceDiT"),  # set by a hook while it samples
    ],
)
def test_patches_of_a_unet_get_one_warning(answers, patch: str, advice: str) -> None:
    change, warnings = answers[patch]
    assert change == 0.0
    (warning,) = warnings  # of two steps
    assert f"({patch})" in warning
    assert "no effect" in warning
    assert advice in warning


def test_replaced_blocks_that_are_not_there_get_a_warning(answers) -> None:
    """The defaults of skip-layer nodes are blocks of larger models."""
    change, warnings, depth = answers["no block"]
    assert change == 0.0
    (warning,) = warnings
    assert f"0 to {depth - 1}" in warning
    assert "99, 100" in warning


def test_one_replaced_block_that_is_there_is_enough(answers) -> None:
    """Skip-layer nodes name blocks of models with two kinds of them."""
    change, warnings, _ = answers["some blocks"]
    assert change > 0.1
    assert warnings == []


def test_the_null_class_is_found_where_nodes_for_dit_look(answers) -> None:
    """As DiTCondLabelEmpty of ComfyUI-ExtraModels looks for it."""
    assert answers["null_class"] == [256, 0.0]


def test_regions_by_attention_masks_are_refused(answers) -> None:
    """As ClownRegionalConditioning of RES4LYF makes them: zeros, and a function to call later."""
    assert "ClownRegionalConditioning of RES4LYF" in answers["regions"]
    assert "ConditioningSetMask" in answers["regions"]


def test_a_lengthened_conditioning_is_named_as_such(answers) -> None:
    """As nodes make it that fill a text's embedding up to a number of tokens."""
    assert "128 tokens" in answers["lengthened"]
    assert "ConditioningConcat" in answers["lengthened"]
