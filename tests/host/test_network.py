"""FiT as ComfyUI's network, in ComfyUI's process: Cancel is looked at, and changes no number."""

from __future__ import annotations

from pathlib import Path

import pytest
from host.inside import run_inside

pytestmark = pytest.mark.host

START = """
from comfy import model_management
from fitv2.nodes.host import loading, network
model = loading.load({checkpoint!r}, "fp32").model.diffusion_model
x, t, y = torch.randn(2, 4, 16, 24), torch.rand(2), torch.tensor([3, 256])
def evaluate():
    with torch.inference_mode():
        return model(x, t, class_labels=y, transformer_options={{}})
"""


def test_cancel_is_looked_at_before_every_block(bundled_checkpoint: Path) -> None:
    ran = run_inside(
        START.format(checkpoint=str(bundled_checkpoint))
        + """
ran = []
def count(block, *_):
    ran.append(block)
    if len(ran) == 3:
        model_management.interrupt_current_processing()
for block in model.blocks:
    block.register_forward_hook(count)
try:
    evaluate()
except model_management.InterruptProcessingException:
    answer([len(ran), len(model.blocks)])
"""
    )
    assert ran == [3, 8]


def test_attention_in_parts_gives_the_same_numbers_and_can_be_cancelled(
    bundled_checkpoint: Path,
) -> None:
    difference, parts, cancelled = run_inside(
        START.format(checkpoint=str(bundled_checkpoint))
        + """
whole = evaluate()
scores, attend, lengths = network._SCORES_AT_ONCE, network._attend, []
network._SCORES_AT_ONCE = 2 * 4 * 96 * 10
def count(query, *rest):
    lengths.append(query.shape[-2])
    return attend(query, *rest)
network._attend = count
difference = (evaluate() - whole).abs().max().item()
def stop(*args):
    model_management.interrupt_current_processing()
    return count(*args)
network._attend, parts = stop, lengths[:10]
lengths.clear()
try:
    evaluate()
except model_management.InterruptProcessingException:
    answer([difference, parts, len(lengths)])
network._SCORES_AT_ONCE, network._attend = scores, attend
"""
    )
    assert difference < 1e-5
    assert parts == [10] * 9 + [6]
    assert cancelled == 1
