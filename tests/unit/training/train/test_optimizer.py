"""Learning rates over time and by weight; AdamW and Muon."""

import pytest
import torch
from support.run_folders import SMALL

from training.train.config import ConfigError, OptimizerConfig
from training.train.model import TrainedFiT
from training.train.optimizer import learning_rate, make_optimizers, set_learning_rate


def test_the_learning_rate_rises_over_the_warm_up_then_stays() -> None:
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=4)
    rates = [learning_rate(step, 10, config) for step in (0, 1, 3, 4, 9)]
    assert rates == pytest.approx([2.5e-4, 5e-4, 1e-3, 1e-3, 1e-3])


def test_the_cosine_schedule_falls_to_0_at_the_last_step() -> None:
    config = OptimizerConfig(learning_rate=1e-3, warmup_steps=4, schedule="cosine")
    rates = [learning_rate(step, 10, config) for step in (1, 4, 7, 10)]
    assert rates == pytest.approx([5e-4, 1e-3, 5e-4, 0.0])


def test_learning_rates_and_weight_decay_go_by_the_name_of_a_weight() -> None:
    model = TrainedFiT(SMALL)
    config = OptimizerConfig(multipliers={"y_embedder": 10, r"blocks\.0\.": 0.5}, weight_decay=0.1)
    (optimizer,) = make_optimizers(dict(model.named_parameters()), config)
    set_learning_rate([optimizer], 1e-3)
    rates = {
        id(p): (group["lr"], group["weight_decay"])
        for group in optimizer.param_groups
        for p in group["params"]
    }
    by_name = {name: rates[id(p)] for name, p in model.named_parameters()}
    assert by_name["y_embedder.embedding_table.weight"] == (1e-2, 0.0)
    assert by_name["blocks.0.attn.qkv.weight"] == (5e-4, 0.1)
    assert by_name["blocks.0.attn.qkv.bias"] == (5e-4, 0.0)
    assert by_name["blocks.1.attn.qkv.weight"] == (1e-3, 0.1)


def test_a_multiplier_of_no_weight_is_refused_with_the_nearest_name() -> None:
    parameters = dict(TrainedFiT(SMALL, device="meta").named_parameters())
    message = r"'y_embeder' matches no trained weight's name. Did you mean y_embedder"
    with pytest.raises(ConfigError, match=message):
        make_optimizers(parameters, OptimizerConfig(multipliers={"y_embeder": 10}))


def test_muon_gets_the_matrices_of_blocks_and_adamw_the_rest() -> None:
    named = dict(TrainedFiT(SMALL).named_parameters())
    config = OptimizerConfig(kind="muon", multipliers={r"^blocks.*weight": 2})
    muon, adamw = make_optimizers(named, config)
    set_learning_rate([muon, adamw], 1e-3)
    members = {
        optimizer: {id(p) for group in optimizer.param_groups for p in group["params"]}
        for optimizer in (muon, adamw)
    }
    matrices = {n for n in named if n.startswith("blocks.") and n.endswith("weight")}
    assert {name for name, p in named.items() if id(p) in members[muon]} == matrices
    assert members[adamw] == {id(p) for p in named.values()} - members[muon]
    assert {group["lr"] for group in muon.param_groups} == {2e-3}


def test_a_step_of_muon_is_orthogonal_and_as_long_as_one_of_adamw() -> None:
    named = dict(TrainedFiT(SMALL).named_parameters())
    optimizers = make_optimizers(named, OptimizerConfig(kind="muon"))
    set_learning_rate(optimizers, 1e-3)
    before = {name: p.detach().clone() for name, p in named.items()}
    for p in named.values():
        p.grad = torch.randn_like(p)
    for optimizer in optimizers:
        optimizer.step()
    changes = {name: (p.detach() - before[name]) / 1e-3 for name, p in named.items()}
    # The singular values of an orthogonal matrix are alike; AdamW's steps have a size of 0.2.
    matrix = changes["blocks.0.attn.qkv.weight"]
    values = torch.linalg.svdvals(matrix)
    assert values.min() > 0.5 * values.max()
    assert matrix.square().mean().sqrt().item() == pytest.approx(0.2, rel=0.25)
    assert changes["blocks.0.attn.qkv.bias"].abs().mean().item() == pytest.approx(1, rel=0.01)


def test_muon_needs_matrices_and_other_weights() -> None:
    parameters = dict(TrainedFiT(SMALL, device="meta").named_parameters())
    table = "y_embedder.embedding_table.weight"
    with pytest.raises(ConfigError, match=r"only one of the two kinds is trained. Set it to adamw"):
        make_optimizers({table: parameters[table]}, OptimizerConfig(kind="muon"))
