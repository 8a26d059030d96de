"""The examples: their YAMLs are read, their steps are the recipe's, and two CPU processes run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import FullyShardedDataParallelPlugin
from accelerate.utils.fsdp_utils import fsdp2_prepare_auto_wrap_policy
from support.training_runs import MODEL, QUIET, ROOT

from comfyui_fitv2.config import FiTConfig
from training.train.checkpoints.reader import latest, read_summary
from training.train.config_parser import parse_config
from training.train.model import TrainedFiT

EXAMPLES = ROOT / "training" / "examples"
SCRIPTS = sorted(path.name for path in EXAMPLES.glob("*.sh"))
PROCESSES = {
    "one_gpu.sh": 1,
    "eight_gpus.sh": 8,
    "two_machines.sh": 16,
    "two_machines_slurm.sh": 16,
    "3b_eight_gpus.sh": 8,
    "3b_two_machines_slurm.sh": 16,
}
TOKENS = 234
"""Of an image of ImageNet within 256² pixels, on average."""
needs_bash = pytest.mark.skipif(sys.platform == "win32", reason="the scripts are for bash")


def text_of(script: str) -> str:
    """A script, with that of each machine in place of a call of it."""
    text = (EXAMPLES / script).read_text(encoding="utf-8")
    called = re.search(r"bash training/examples/(\S+) \"\$@\" &", text)
    return text + (text_of(called[1]) if called else "")


def test_the_readme_names_all_examples() -> None:
    text = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    files = {path.name for path in EXAMPLES.iterdir()} - {"README.md"}
    assert sorted(PROCESSES) == SCRIPTS
    assert all(f"`{name}`" in text for name in files)


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_step_is_the_recipes(script: str) -> None:
    names = re.findall(r"--config (\S+)", text_of(script))
    options = [word for name in names for word in ("--config", str(name))]
    config = parse_config([*options, "--data", "latents", "--output", "run"])
    micro = config.batch.token_budget * config.batch.accumulation
    assert micro * PROCESSES[script] == 61440
    assert micro * PROCESSES[script] / TOKENS == pytest.approx(256, rel=0.03)


@needs_bash
@pytest.mark.parametrize("script", SCRIPTS)
def test_bash_reads_the_script(script: str) -> None:
    subprocess.run(["bash", "-n", EXAMPLES / script], check=True)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if "launch" in text_of(name)])
def test_accelerate_reads_the_number_of_processes(
    script: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_NODEID", "1")
    monkeypatch.chdir(ROOT)
    [command] = re.findall(r"accelerate launch (.*?) -m", text_of(script).replace("\\\n", " "))
    command = command.replace("${PORT:-29500}", "29500")
    words = shlex.split(os.path.expandvars(command))
    arguments = launch_command_parser().parse_args([*words, "-m", "training.train"])
    launched, _, _ = _validate_launch_command(arguments)
    assert launched.use_fsdp
    assert launched.fsdp_version == 2
    assert launched.num_processes == PROCESSES[script]
    assert launched.num_machines == PROCESSES[script] // 8


def test_the_largest_model_is_sharded_block_by_block() -> None:
    with torch.device("meta"):
        model = TrainedFiT(FiTConfig.preset("fitv2-3b"), "bf16", True)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(2.972e9, rel=1e-3)
    plugin = FullyShardedDataParallelPlugin(
        fsdp_version=2,
        auto_wrap_policy="transformer_based_wrap",
        transformer_cls_names_to_wrap=["Block"],
    )
    plugin.set_auto_wrap_policy(model)
    wraps: Any = fsdp2_prepare_auto_wrap_policy(plugin, model)
    assert sum(map(bool, map(wraps, model.modules()))) == 40


@needs_bash
@pytest.mark.slow
@pytest.mark.processes
@pytest.mark.parametrize("script", ["eight_gpus.sh", "two_machines_slurm.sh"])
def test_two_processes_run_it(script: str, data: Path, tmp_path: Path) -> None:
    """With a small model, and where Slurm is needed, with stand-ins for its two commands."""
    commands = tmp_path / "bin"
    commands.mkdir()
    stand_ins = {
        "torchrun": f'exec {sys.executable} -m torch.distributed.run "$@"',
        "srun": 'exec "$@"',
        "scontrol": "echo localhost",
    }
    for name, line in stand_ins.items():
        (commands / name).write_text(f"#!/bin/bash\n{line}\n", encoding="utf-8")
        (commands / name).chmod(0o755)
    environment = {
        **os.environ,
        **{"GPUS": "2", "MACHINES": "1", "PORT": "29517", "ACCELERATE_USE_CPU": "true"},
        **{"SLURM_JOB_NODELIST": "localhost", "SLURM_JOB_ID": "1", "OMP_NUM_THREADS": "1"},
        "PATH": f"{commands}{os.pathsep}{os.environ['PATH']}",
    }
    run = tmp_path / "run"
    options = [*MODEL, *QUIET, "--data", str(data), "--output", str(run), "--steps=2"]
    options += ["--batch.token-budget=64", "--checkpoints.milestones", "2"]
    subprocess.run(
        ["bash", EXAMPLES / script, *options],
        cwd=ROOT,
        env=environment,
        check=True,
        capture_output=True,
        timeout=300,
    )
    summary = read_summary(latest(run))
    assert (summary.step, summary.packs_per_step) == (2, 2)
