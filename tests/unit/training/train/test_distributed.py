"""Several processes train as one does: DDP on two gloo processes, sharding by FSDP2's own means, and accelerate's configurations."""

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DeepSpeedPlugin, DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from support.latent_sets import make_latent_set
from support.training_runs import (
    ROOT,
    arguments,
    farthest,
    finish,
    small_config,
    start_training,
    torchrun,
    weights,
)

from comfyui_fitv2.layers import Block
from training.data.latent_set import LatentSet
from training.train import train
from training.train.accelerator import check_optimizer, configure_deepspeed, configure_fsdp
from training.train.config import ConfigError
from training.train.config_parser import CONFIGS, parse_config
from training.train.initial_model import start_of

pytestmark = pytest.mark.skipif(
    sys.platform == "win32", reason="PyTorch's wheels for Windows have no torchrun rendezvous"
)

FILES = ("model", "ema-0.99", "ema-0.9", "state")
SHEETS = [
    "--samples.every=6",
    "--samples.steps=2",
    "--samples.classes=2",
    "--samples.sizes=1:1, 2:1",
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_latent_set(
        tmp_path_factory.mktemp("data") / "latents",
        ((4, 4), (2, 6), (6, 2), (3, 4)),
        classes=3,
        per_class=16,
        crop=(4, 4),
    )


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process that takes two packs a step."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert train(small_config(data, run, "--batch.accumulation=2", *SHEETS)) == 0
    return run


def difference(a: Path, b: Path) -> float:
    return max(farthest(weights(a, name), weights(b, name)) for name in FILES)


def test_two_processes_train_as_one_with_the_same_batch(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    output = finish(start_training(arguments(data, tmp_path, *SHEETS), *torchrun(2)))
    assert "2 packs a step" in output
    assert difference(alone, tmp_path) < 1e-5
    assert (tmp_path / "samples" / "step-00000006.png").is_file()


def test_two_processes_with_half_the_images_each_train_as_one_with_all(
    data: Path, tmp_path: Path
) -> None:
    train(small_config(data, tmp_path / "one", "--batch.packing=padded", "--batch.images=16"))
    finish(
        start_training(
            arguments(data, tmp_path / "two", "--batch.packing=padded", "--batch.images=8"),
            *torchrun(2),
        )
    )
    assert difference(tmp_path / "one", tmp_path / "two") < 1e-5


def test_sharded_weights_train_average_draw_and_save_as_whole_ones(
    data: Path, alone: Path, tmp_path: Path
) -> None:
    """Two starts: the second goes on from the first's checkpoint."""
    script = [str(ROOT / "tests" / "support" / "sharded_run.py")]
    for steps in (3, 6):
        options = [
            f"--steps={steps}",
            "--resume=latest",
            "--activation_checkpointing=true",
            *SHEETS,
        ]
        output = finish(
            start_training(arguments(data, tmp_path, *options), *torchrun(2), script=script)
        )
        assert "of 0.05 M weights (100.00 %)" in output
        assert "3 groups of sharded weights" in output
    # Activation checkpointing is part of the configuration, and changes no number.
    assert difference(alone, tmp_path) < 1e-5
    assert (tmp_path / "samples" / "step-00000006.png").read_bytes() == (
        alone / "samples" / "step-00000006.png"
    ).read_bytes()


@pytest.mark.parametrize("name", ["ddp", "fsdp2", "deepspeed"])
def test_accelerate_reads_the_shipped_configurations(name: str) -> None:
    file = CONFIGS / "accelerate" / f"{name}.yaml"
    config: Any = load_config_from_file(str(file))
    assert (
        config.distributed_type.value
        == {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "deepspeed": "DEEPSPEED"}[name]
    )
    assert config.num_processes == 8
    assert config.mixed_precision == "no"


@pytest.fixture
def fsdp_plugin(monkeypatch: pytest.MonkeyPatch) -> FullyShardedDataParallelPlugin:
    """As accelerate's launcher hands the shipped file on: each key an environment variable."""
    values = yaml.safe_load((CONFIGS / "accelerate" / "fsdp2.yaml").read_text(encoding="utf-8"))[
        "fsdp_config"
    ]
    values["fsdp_transformer_cls_to_wrap"] = values.pop("fsdp_transformer_layer_cls_to_wrap")
    for key, value in values.items():
        monkeypatch.setenv(
            str(key).upper(), str(value).lower() if isinstance(value, bool) else str(value)
        )
    return FullyShardedDataParallelPlugin()


def test_fsdp2_shards_block_by_block_and_keeps_times_and_sums_in_fp32(
    data: Path, tmp_path: Path, fsdp_plugin: FullyShardedDataParallelPlugin
) -> None:
    config = small_config(data, tmp_path, "--precision=bf16")
    model = start_of(config, LatentSet.open(data).info).model
    configure_fsdp(fsdp_plugin, config)
    policy: Any = fsdp_plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype, policy.cast_forward_inputs) == (
        torch.bfloat16,
        torch.float32,
        False,
    )
    fsdp_plugin.set_auto_wrap_policy(model)
    wraps: Any = fsdp2_prepare_auto_wrap_policy(fsdp_plugin, model)
    assert [type(module) for module in model.modules() if wraps(module)] == [Block, Block]
    with pytest.raises(ConfigError, match=r"muon needs whole matrices"):
        check_optimizer(
            DistributedType.FSDP, parse_config(arguments(data, tmp_path, "--optimizer.kind=muon"))
        )
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        configure_fsdp(FullyShardedDataParallelPlugin(fsdp_version=1), config)


def test_deepspeed_gets_its_batch_and_clipping_from_the_run(data: Path, tmp_path: Path) -> None:
    config = small_config(data, tmp_path, "--batch.accumulation=2", "--optimizer.gradient_clip=0.5")
    plugin = DeepSpeedPlugin(zero_stage=2)
    configure_deepspeed(plugin, config, processes=4)
    values = plugin.deepspeed_config
    assert (
        values["train_batch_size"]
        == values["train_micro_batch_size_per_gpu"] * values["gradient_accumulation_steps"] * 4
        == 8
    )
    assert (values["gradient_clipping"], values["zero_optimization"]["stage"]) == (0.5, 2)
    with pytest.raises(ConfigError, match="stage 3 is not supported"):
        configure_deepspeed(DeepSpeedPlugin(zero_stage=3), config, processes=4)
