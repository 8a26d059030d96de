"""An image is decided by the seed and its index, not by the images that it shares a batch with."""

import pytest
import torch

from comfyui_fitv2 import FiT, Guidance, Resolution, load_checkpoint, sample
from comfyui_fitv2.labels import Label
from training.sample.generate import SamplingSettings, batches, generate, requests_for
from training.seeds import image_generator

CPU = torch.device("cpu")
SIZES = [Resolution(32, 32), Resolution(16, 48)]


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest) -> FiT:
    return load_checkpoint(request.getfixturevalue("bundled_checkpoint"), dtype=torch.float32).model


@pytest.mark.parametrize("solver", ["heun", "sde-euler", "sde-heun"])
def test_neither_the_batch_nor_packing_changes_an_image(model: FiT, solver: str) -> None:
    requests = requests_for([Label(1, None), Label(16, None)], SIZES, 2)
    settings = SamplingSettings(solver, 3, seed=5)

    def latents(tokens: int, packed: bool) -> list[torch.Tensor]:
        cut = batches(requests, tokens, packed=packed, solver=solver)
        return [
            x for batch in cut for x in generate(model, batch, settings, packed=packed, device=CPU)
        ]

    alone = latents(1, packed=False)
    for tokens, packed in ((8, False), (1000, True), (7, True)):
        for one, other in zip(alone, latents(tokens, packed), strict=True):
            torch.testing.assert_close(one, other, atol=3e-5, rtol=0)


def test_the_latents_are_those_of_the_library_with_noise_of_seed_and_index(model: FiT) -> None:
    requests = requests_for([Label(1, None)], SIZES[:1], 2)
    settings = SamplingSettings("ab2", 3, Guidance(2.0), seed=5)
    noise = [torch.randn(4, 4, 4, generator=image_generator(5, index)) for index in range(2)]
    expected = sample(model, torch.stack(noise), torch.tensor([1, 1]), "ab2", 3, 2.0)
    latents = generate(model, requests, settings, packed=False, device=CPU)
    assert torch.equal(torch.stack(latents), expected)


def test_every_index_and_every_seed_has_noise_of_its_own(model: FiT) -> None:
    requests = requests_for([Label(1, None)], SIZES[:1], 3)
    generated = [
        x
        for seed in (0, 1)
        for x in generate(
            model, requests, SamplingSettings("euler", 1, seed=seed), packed=False, device=CPU
        )
    ]
    assert all((a - b).abs().max() > 0.1 for i, a in enumerate(generated) for b in generated[:i])


def test_batches_keep_the_order_the_budget_and_one_size_unless_packed() -> None:
    requests = requests_for([Label(0, None)], SIZES, 3)

    def indices(tokens: int, packed: bool, solver: str = "heun") -> list[list[int]]:
        cut = batches(requests, tokens, packed=packed, solver=solver)
        return [[request.index for request in batch] for batch in cut]

    assert indices(8, packed=False) == [[0, 1], [2], [3, 4], [5]]
    assert indices(8, packed=True) == [[0, 1], [2, 3], [4, 5]]
    assert indices(1, packed=True) == [[i] for i in range(6)]
    assert indices(1000, packed=True, solver="dopri5") == [[i] for i in range(6)]


def test_a_file_is_named_by_index_class_and_size() -> None:
    named, unnamed = requests_for([Label(16, "Côte d'Ivoire"), Label(7, None)], SIZES[1:], 1)
    assert named.file_name == "000000_016-c-te-d-ivoire_16x48.png"
    assert unnamed.file_name == "000001_007_16x48.png"
