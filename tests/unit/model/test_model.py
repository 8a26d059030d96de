"""The model gives the published code's numbers."""

import copy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from comfyui_fitv2 import Extrapolation, FiT, FiTConfig, patchify, unpatchify
from comfyui_fitv2.attention import PackedBatch, TokenBatch

TOLERANCE = 2e-5
CPU = torch.device("cpu")
GRIDS = [(4, 6), (10, 5), (20, 20), (8, 24)]


def name(grid: tuple[int, int]) -> str:
    return f"{grid[0]}x{grid[1]}"


def distance(a: Tensor, b: Tensor) -> float:
    return (a - b).abs().max().item()


def test_state_dict_keys_are_the_official_ones(
    golden_config: FiTConfig, golden_state: dict[str, Tensor]
) -> None:
    ours = FiT(golden_config).state_dict()
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in golden_state.items()}


@pytest.mark.parametrize("grid", GRIDS, ids=name)
def test_forward_equals_the_published_code(
    golden: dict[str, Tensor], golden_model: FiT, grid: tuple[int, int]
) -> None:
    x, t, y = (golden[f"in/{name(grid)}/{key}"] for key in "xty")
    velocity = golden_model(unpatchify(x, grid, 2), t, y)
    assert distance(patchify(velocity, 2), golden[f"out/normal/coupled/{name(grid)}"]) <= TOLERANCE


def test_unpatchify_equals_the_published_code_and_patchify_undoes_it(
    golden: dict[str, Tensor],
) -> None:
    latent = unpatchify(golden["unpatchify/tokens"], (4, 6), 2)
    assert torch.equal(latent, golden["unpatchify/latent"])
    assert torch.equal(patchify(latent, 2), golden["unpatchify/tokens"])


def test_packed_forward_equals_the_published_padded_batch(
    golden: dict[str, Tensor], golden_model: FiT
) -> None:
    grids = [(4, 6), (10, 5)]
    lengths = [h * w for h, w in grids]
    latents = [
        unpatchify(golden["padded/x"][i : i + 1, :n], grid, 2)[0]
        for i, (n, grid) in enumerate(zip(lengths, grids, strict=True))
    ]
    velocities = golden_model.forward_packed(latents, golden["padded/t"], golden["padded/y"])
    for i, velocity in enumerate(velocities):
        assert (
            distance(patchify(velocity[None], 2)[0], golden["padded/out"][i, : lengths[i]])
            <= TOLERANCE
        )


def test_packed_forward_equals_one_call_per_image(golden_model: FiT) -> None:
    latents = [torch.randn(4, 2 * h, 2 * w) for h, w in [(3, 5), (7, 2), (3, 5), (1, 1), (2, 9)]]
    t, y = torch.rand(5), torch.tensor([0, 3, 10, 9, 1])
    packed = golden_model.forward_packed(latents, t, y)
    for i, latent in enumerate(latents):
        assert (
            distance(packed[i], golden_model(latent[None], t[i : i + 1], y[i : i + 1])[0])
            <= TOLERANCE
        )


def test_packed_forward_with_variable_length_attention(golden_model: FiT) -> None:
    # The real kernel runs on CUDA alone. This one has its interface, to see that it gets the right
    # arguments.
    def varlen(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        starts_q: Tensor,
        starts_k: Tensor,
        longest_q: int,
        longest_k: int,
    ) -> Tensor:
        assert starts_q.dtype == torch.int32
        assert (longest_q, longest_k) == (15, 15)
        images = [slice(*pair) for pair in pairwise(starts_k.tolist())]
        q, k, v = (x.transpose(0, 1) for x in (q, k, v))
        return torch.cat(
            [F.scaled_dot_product_attention(q[:, i], k[:, i], v[:, i]) for i in images], dim=1
        ).transpose(0, 1)

    grids, t, y = [(3, 5), (2, 2)], torch.rand(2), torch.tensor([0, 3])
    tokens = torch.randn(1, 19, 16)
    expected, got = (
        golden_model.transform(
            tokens, t, y, PackedBatch.of(golden_model, grids, t, variable_length_attention=kernel)
        )
        for kernel in (None, varlen)
    )
    assert distance(got, expected) <= TOLERANCE


def test_packed_forward_without_images_is_empty(golden_model: FiT) -> None:
    assert golden_model.forward_packed([], torch.zeros(0), torch.zeros(0, dtype=torch.long)) == []


def test_packed_forward_refuses_unequal_counts(golden_model: FiT) -> None:
    latents, y = [torch.zeros(4, 2, 2)] * 2, torch.zeros(2, dtype=torch.long)
    with pytest.raises(ValueError, match="2 latents, 1 timesteps and 2 labels"):
        golden_model.forward_packed(latents, torch.zeros(1), y)
    with pytest.raises(ValueError, match="2 images have 2 timesteps and 1 extrapolations"):
        golden_model.forward_packed(latents, torch.zeros(2), y, [None])


def test_every_image_of_a_pack_can_have_its_own_extrapolation(golden_model: FiT) -> None:
    methods = [None, Extrapolation("time-aware"), Extrapolation("yarn", attention_scale="pro2")]
    latents, t, y = (
        [torch.randn(4, *size) for size in ((8, 48), (40, 6), (40, 40))],
        torch.tensor([0.1, 0.5, 0.9]),
        torch.tensor([0, 4, 10]),
    )
    packed = golden_model.forward_packed(latents, t, y, methods)
    for i, method in enumerate(methods):
        alone = golden_model(latents[i][None], t[i : i + 1], y[i : i + 1], method)[0]
        torch.testing.assert_close(packed[i], alone, rtol=0, atol=1e-5)


def test_attention_gets_no_mask_and_no_padding(
    golden_config: FiTConfig, golden_state: dict[str, Tensor]
) -> None:
    seen = []

    def spy(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        seen.append(tuple(query.shape))
        return F.scaled_dot_product_attention(query, key, value)

    model = FiT(golden_config, attention=spy)
    model.load_state_dict(golden_state)
    labels = torch.zeros(2, dtype=torch.long)
    model(torch.randn(2, 4, 8, 12), torch.rand(2), labels)
    model.forward_packed([torch.randn(4, 8, 12), torch.randn(4, 4, 4)], torch.rand(2), labels)
    assert seen == [(2, 4, 24, 24)] * 3 + [(1, 4, 24, 24), (1, 4, 4, 24)] * 3


@pytest.mark.cases("P4")
def test_weights_of_classes_blend_their_embeddings(golden_model: FiT) -> None:
    x, t = torch.randn(3, 4, 8, 8), torch.rand(3)
    ids = torch.tensor([2, 10, 7])
    one_each = F.one_hot(ids, 11).float()
    assert torch.equal(golden_model(x, t, one_each), golden_model(x, t, ids))
    blend = torch.lerp(one_each, one_each.roll(1, 0), 0.25)
    table = golden_model.y_embedder.embedding_table.weight
    assert distance(golden_model.y_embedder(blend, torch.float32), blend @ table) < 1e-6
    packed = golden_model.forward_packed([*x], t, blend)
    assert distance(torch.stack(packed), golden_model(x, t, blend)) <= TOLERANCE
    assert distance(golden_model(x, t, blend), golden_model(x, t, ids)) > 1e-3


def test_forward_refuses_latents_that_do_not_fit(golden_model: FiT) -> None:
    with pytest.raises(ValueError, match=r"\(1, 4, 7, 8\).*multiples of 2"):
        golden_model(torch.zeros(1, 4, 7, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))


def test_bf16_stays_close_to_fp32(
    golden: dict[str, Tensor], golden_config: FiTConfig, golden_state: dict[str, Tensor]
) -> None:
    model = FiT(golden_config)
    model.load_state_dict(golden_state)
    model.bfloat16()
    velocity = model(
        unpatchify(golden["in/20x20/x"], (20, 20), 2).bfloat16(),
        golden["in/20x20/t"],
        golden["in/20x20/y"],
    )
    expected = golden["out/normal/coupled/20x20"]
    assert velocity.dtype == torch.bfloat16
    assert (
        model(torch.zeros(1, 4, 4, 4), torch.zeros(1), torch.zeros(1, dtype=torch.long)).dtype
        == torch.float32
    )
    assert (patchify(velocity.float(), 2) - expected).norm() / expected.norm() < 0.02


def test_a_new_model_starts_as_zero_and_learns(golden_config: FiTConfig) -> None:
    model = FiT(golden_config)
    x, t, y = torch.randn(2, 4, 8, 8), torch.rand(2), torch.tensor([1, 10])
    assert model(x, t, y).abs().max() == 0
    (model(x, t, y) - x).square().mean().backward()
    weight = model.final_layer.linear.weight
    assert weight.grad is not None
    assert weight.grad.abs().max() > 0


def test_packed_forward_has_the_gradients_of_single_calls(
    golden_config: FiTConfig, golden_state: dict[str, Tensor]
) -> None:
    latents, t, y = (
        [torch.randn(4, 4, 6), torch.randn(4, 8, 2)],
        torch.rand(2),
        torch.tensor([1, 2]),
    )

    def gradient(packed: bool) -> Tensor:
        model = FiT(golden_config)
        model.load_state_dict(golden_state)
        out = (
            model.forward_packed(latents, t, y)
            if packed
            else [model(x[None], t[i : i + 1], y[i : i + 1])[0] for i, x in enumerate(latents)]
        )
        torch.stack([v.square().mean() for v in out]).sum().backward()
        gradient = dict(model.named_parameters())["blocks.0.attn.qkv.weight"].grad
        assert gradient is not None
        return gradient

    assert torch.allclose(gradient(packed=True), gradient(packed=False), atol=1e-6)


def test_training_works_after_a_table_was_made_in_inference_mode(golden_config: FiTConfig) -> None:
    model = FiT(golden_config)
    x, t, y = torch.randn(1, 4, 14, 22), torch.rand(1), torch.tensor([3])
    with torch.inference_mode():
        model(x, t, y)
    model(x, t, y).sum().backward()


def test_a_compiled_model_follows_a_change_of_extrapolation(
    golden: dict[str, Tensor], golden_model: FiT
) -> None:
    compiled = torch.compile(golden_model, backend="eager")
    x, t, y = unpatchify(golden["in/8x24/x"], (8, 24), 2), golden["in/8x24/t"], golden["in/8x24/y"]
    for method, key in (
        ("none", "normal/coupled"),
        ("ntk", "ntk-aware/decoupled"),
        ("linear", "linear/decoupled"),
    ):
        velocity = compiled(x, t, y, Extrapolation(method))
        assert distance(patchify(velocity, 2), golden[f"out/{key}/8x24"]) <= TOLERANCE


def test_a_compiled_packed_forward_gives_the_same(golden_model: FiT) -> None:
    latents, t, y = (
        [torch.randn(4, 4, 6), torch.randn(4, 8, 2)],
        torch.rand(2),
        torch.tensor([1, 2]),
    )
    compiled = torch.compile(golden_model.forward_packed, backend="eager")
    for got, want in zip(
        compiled(latents, t, y), golden_model.forward_packed(latents, t, y), strict=True
    ):
        assert distance(got, want) <= TOLERANCE


@pytest.mark.parametrize(
    ("preset", "millions"),
    [("fitv2-b", 128.15), ("fitv2-xl", 671.05), ("fitv2-3b", 2972), ("fit-xl", 824)],
)
def test_presets_have_the_published_number_of_parameters(preset: str, millions: float) -> None:
    model = FiT(FiTConfig.preset(preset), device="meta")
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, rel=6e-4)


def version_1() -> FiT:
    return FiT(
        FiTConfig(
            hidden_size=96,
            depth=2,
            num_heads=4,
            num_classes=3,
            adaln_lora_dim=0,
            mlp_ratio=6.0,
            qk_norm=False,
            prediction="epsilon",
        )
    )


def test_version_1_has_a_full_modulation_in_every_block_and_no_shared_one() -> None:
    shapes = {key: value.shape for key, value in version_1().state_dict().items()}
    assert not any("global_adaLN" in key for key in shapes)
    assert shapes["blocks.0.adaLN_modulation.1.weight"] == (6 * 96, 96)


def test_version_1_extrapolates_by_the_part_of_its_timestep(golden_config: FiTConfig) -> None:
    flow, ddpm = FiT(golden_config), version_1()
    time_aware = Extrapolation("time-aware")
    for timestep in (0.0, 250.0, 999.0):
        expected, _ = flow.rotation((4, 40), CPU, time_aware, torch.tensor([1 - timestep / 1000]))
        table, _ = ddpm.rotation((4, 40), CPU, time_aware, torch.tensor([timestep]))
        torch.testing.assert_close(table, expected)


def test_others_can_run_and_replace_blocks(golden_model: FiT) -> None:
    grids, t, y = [(2, 3), (1, 1)], torch.rand(2), torch.tensor([0, 3])
    tokens, batch, ran = torch.randn(1, 7, 16), PackedBatch.of(golden_model, grids, t), []

    def skip_the_second(
        index: int, block: nn.Module, x: Tensor, *arguments: Tensor | float | TokenBatch
    ) -> Tensor:
        ran.append(index)
        return x if index == 1 else block(x, *arguments)

    skipped = golden_model.transform(tokens, t, y, batch, run_block=skip_the_second)
    assert ran == [0, 1, 2]
    removed = copy.deepcopy(golden_model)
    del removed.blocks[1]
    assert torch.equal(skipped, removed.transform(tokens, t, y, batch))
