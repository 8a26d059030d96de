"""Several processes train as one does: DDP and FSDP2 on two gloo processes."""

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from elastic import trains_as_one
from support.run_folders import SMALL
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

from comfyui_fitv2 import load_checkpoint
from comfyui_fitv2.layers import Block
from training.export import main as export
from training.train import main, train
from training.train.accelerator import check_optimizer, fsdp_plugin
from training.train.checkpoints.reader import latest, read_summary
from training.train.config import ConfigError
from training.train.config_parser import CONFIGS
from training.train.history import History
from training.train.model import TrainedFiT

two_processes = [
    pytest.mark.processes,
    pytest.mark.slow,
    pytest.mark.skipif(
        sys.platform == "win32", reason="PyTorch's wheels for Windows have no torchrun rendezvous"
    ),
]
SHARDED = [str(ROOT / "tests" / "support" / "sharded_run.py")]
FILES = ("model", "ema-0.99", "ema-0.9", "state")
OPTIONS = ["--samples.every=6", "--samples.steps=2", "--samples.classes=2", "--samples.sizes=1:1"]
OPTIONS += ["--held_out.share=0.2", "--held_out.every=3", "--batch.class_balance=0.5"]


@pytest.fixture(scope="module")
def alone(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One process that takes two packs per step."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert train(small_config(data, run, "--batch.accumulation=2", *OPTIONS)) == 0
    return run


def assert_same_end(a: Path, b: Path) -> None:
    assert max(farthest(weights(a, name), weights(b, name)) for name in FILES) < 1e-5
    losses = [read_summary(latest(run)).loss for run in (a, b)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-5)
    held_out = [[m.held_out for m in History(run, 6).measurements] for run in (a, b)]
    assert held_out[0] == pytest.approx(held_out[1], abs=1e-4)


@pytest.fixture(scope="module")
def together(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three runs of two processes, which are started once: "whole", "halves" and "accumulated"."""
    folder = tmp_path_factory.mktemp("together")
    runs = {
        "whole": ["--steps=3", *OPTIONS],
        "halves": ["--batch.packing=padded", "--batch.images=8"],
        "accumulated": ["--batch.accumulation=3"],
    }
    lines = [arguments(data, folder / name, *options) for name, options in runs.items()]
    (folder / "lines.json").write_text(json.dumps(lines), encoding="utf-8")
    script = [str(ROOT / "tests" / "support" / "several_runs.py")]
    output = finish(start_training([str(folder / "lines.json")], *torchrun(2), script=script))
    assert [f"{n} packs per step" in output for n in (2, 6)] == [True, True]
    return folder


class TestTwoProcesses:
    pytestmark = two_processes

    def test_they_train_as_one_with_the_same_batch(
        self, data: Path, alone: Path, together: Path
    ) -> None:
        """Two starts: the second resumes from the first's checkpoint."""
        run = together / "whole"
        options = arguments(data, run, "--steps=6", "--resume=latest", *OPTIONS)
        output = finish(start_training(options, *torchrun(2)))
        assert "2 packs per step" in output
        assert "resumes at step 3" in output
        assert_same_end(alone, run)
        assert (run / "samples" / "step-00000006.png").is_file()

    def test_with_half_the_images_each_they_train_as_one_with_all(
        self, data: Path, together: Path, tmp_path: Path
    ) -> None:
        padded = ["--batch.packing=padded", "--batch.images=16"]
        train(small_config(data, tmp_path, *padded))
        assert_same_end(tmp_path, together / "halves")

    def test_with_accumulation_they_train_as_one_with_more_of_it(
        self, data: Path, together: Path, tmp_path: Path
    ) -> None:
        train(small_config(data, tmp_path, "--batch.accumulation=6"))
        assert_same_end(tmp_path, together / "accumulated")

    def test_sharded_weights_train_average_render_and_save_as_whole_ones(
        self, data: Path, alone: Path, tmp_path: Path
    ) -> None:
        """Two starts: the second resumes from the first's checkpoint."""
        run = tmp_path / "run"
        for steps in (3, 6):
            recompute = "--activation_checkpointing"
            options = [f"--steps={steps}", "--resume=latest", recompute, *OPTIONS]
            output = finish(
                start_training(arguments(data, run, *options), *torchrun(2), script=SHARDED)
            )
            assert "of 0.05 M weights (100.00 %)" in output
            assert "3 groups of sharded weights" in output
        assert_same_end(alone, run)
        sheet = Path("samples") / "step-00000006.png"
        assert (run / sheet).read_bytes() == (alone / sheet).read_bytes()
        assert "blocks gathered at once: 1" in output  # of two
        parts = {path.name for path in (latest(run) / "model.parts").iterdir()}
        assert parts == {"part-00001-of-00002.safetensors", "part-00002-of-00002.safetensors"}
        self.exported_alike(alone, run, tmp_path)

    def exported_alike(self, alone: Path, run: Path, folder: Path) -> None:
        exported = []
        for number, each in enumerate((alone, run)):
            path = folder / f"{number}.safetensors"
            assert export(["--run", str(each), "--output", str(path)]) == 0
            exported.append(load_checkpoint(path))
        states = [dict(loaded.model.state_dict()) for loaded in exported]
        assert farthest(*states) < 1e-5
        assert exported[0].class_names == exported[1].class_names

    def test_after_kills_and_on_other_numbers_of_processes_every_step_is_that_of_one(
        self, data: Path, tmp_path: Path
    ) -> None:
        trains_as_one(data, tmp_path, (2, 1), random.Random(0), say=lambda text: None)

    def test_they_plan_for_the_one_with_the_least_memory(self, data: Path, tmp_path: Path) -> None:
        """Each measures the same steps: a process that measured more would wait for the others."""
        script = [str(ROOT / "tests" / "support" / "uneven_memory.py")]
        output = finish(
            start_training(arguments(data, tmp_path / "run"), *torchrun(2), script=script)
        )
        assert "0.80 GiB of 1.00 GiB per process" in " ".join(output.split())
        assert "advised, --activation-checkpointing" in output

    def test_adapters_of_sharded_weights_are_saved_as_those_of_whole_ones(
        self, data: Path, alone: Path, tmp_path: Path
    ) -> None:
        base = latest(alone) / "model.safetensors"
        adapters = [f"--init={base}", "--lora.rank=2"]
        together, whole = tmp_path / "together", tmp_path / "whole"
        command = arguments(data, together, *adapters, "--steps=2", model=())
        finish(start_training(command, *torchrun(2), script=SHARDED))
        for run in (together, whole):
            options = [*adapters, "--steps=4", "--resume=latest", "--batch.accumulation=2"]
            assert train(small_config(data, run, *options, model=())) == 0
        for name in (*FILES, "lora"):
            assert farthest(weights(together, name), weights(whole, name)) < 1e-5


@pytest.mark.parametrize(("name", "kind"), [("ddp", "MULTI_GPU"), ("fsdp2", "FSDP")])
def test_accelerate_reads_the_shipped_configurations(name: str, kind: str) -> None:
    config: Any = load_config_from_file(str(CONFIGS / "accelerate" / f"{name}.yaml"))
    assert config.distributed_type.value == kind
    assert config.num_processes == 8
    assert config.mixed_precision == "no"


@pytest.fixture
def _launched_with_fsdp2(monkeypatch: pytest.MonkeyPatch) -> None:
    """What accelerate's launcher makes of the shipped file: an environment variable per key."""
    file = CONFIGS / "accelerate" / "fsdp2.yaml"
    values = yaml.safe_load(file.read_text(encoding="utf-8"))["fsdp_config"]
    values["fsdp_transformer_cls_to_wrap"] = values.pop("fsdp_transformer_layer_cls_to_wrap")
    for key, value in values.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        monkeypatch.setenv(str(key).upper(), text)


@pytest.mark.usefixtures("_launched_with_fsdp2")
def test_fsdp2_shards_block_by_block_and_keeps_times_and_sums_in_fp32(
    data: Path, tmp_path: Path
) -> None:
    plugin = fsdp_plugin(small_config(data, tmp_path, "--precision=bf16"))
    policy: Any = plugin.mixed_precision_policy
    assert (policy.param_dtype, policy.reduce_dtype) == (torch.bfloat16, torch.float32)
    assert not policy.cast_forward_inputs
    model = TrainedFiT(SMALL)
    plugin.set_auto_wrap_policy(model)
    wraps: Any = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert [type(module) for module in model.modules() if wraps(module)] == [Block, Block]


def test_fsdp_of_version_1_is_refused(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FSDP_VERSION", "1")
    assert FullyShardedDataParallelPlugin().fsdp_version == 1
    with pytest.raises(ConfigError, match="fsdp_version: 2"):
        fsdp_plugin(small_config(data, tmp_path))


def test_muon_is_refused_where_matrices_are_sharded(data: Path, tmp_path: Path) -> None:
    muon = small_config(data, tmp_path, "--optimizer.kind=muon")
    with pytest.raises(ConfigError, match=r"muon needs whole matrices"):
        check_optimizer(DistributedType.FSDP, muon)
    check_optimizer(DistributedType.MULTI_CPU, muon)


def test_deepspeed_is_refused_in_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    assert main(arguments(data, tmp_path / "run")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: DeepSpeed is not supported. Shard with FSDP2")
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_processes_that_do_not_know_of_each_other_are_refused_in_one_line(
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As torchrun and the shipped ddp.yaml start them without a GPU: each would be a run."""
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "no")
    assert main(arguments(data, tmp_path / "run")) == 1
    error = capsys.readouterr().err
    assert error.startswith("error: 2 processes were started that do not know of each other")
    assert "ACCELERATE_USE_CPU=true torchrun --nproc_per_node 2 -m training.train" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "run").exists()
