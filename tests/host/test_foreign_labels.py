"""Class labels that nodes of other packs make, without FiT Class Label."""

from __future__ import annotations

from pathlib import Path

import pytest
from host.inside import run_inside

pytestmark = pytest.mark.host


def test_a_class_id_in_the_place_of_a_text_is_read(bundled_checkpoint: Path) -> None:
    """As DiTCondLabelSelect of ComfyUI-ExtraModels gives it: an integer tensor alone."""
    differences, refusals = run_inside(
        f"""
from fitv2.nodes import host
model = host.load({str(bundled_checkpoint)!r}, "fp32")
settings = host.SamplingSettings(seed=7, steps=2, solver="euler", guidance_scale=2.0)
latent = {{"samples": torch.zeros(1, 4, 8, 8)}}
null = host.conditioning([256], 256)
def sampled(positive, negative):
    with torch.inference_mode():
        return host.sample(model, settings, positive, negative, latent)["samples"]
def foreign(class_id):
    return [[torch.tensor([[class_id]]).to(torch.int), {{}}]]
differences = [
    (sampled(foreign(i), foreign(256)) - sampled(host.conditioning([i], 256), null)).abs().max()
    for i in (0, 76)
]
refusals = []
for class_id in (999, -1):
    try:
        sampled(foreign(class_id), null)
    except ValueError as error:
        refusals.append(str(error))
answer([[d.item() for d in differences], refusals])
"""
    )
    assert differences == [0.0, 0.0]
    too_large, negative = refusals
    assert "999" in too_large
    assert "this one has 256" in too_large
    assert "class id -1" in negative
