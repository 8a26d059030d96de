"""Damaged files of every kind that people exchange: read or refused, and nothing else."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from safetensors.torch import save_file
from support.broken_checkpoints import CONFIG, safetensors, torch_pickle, weights
from support.latent_sets import make_latent_set
from support.parts import write_parts
from support.run_folders import make_run

from comfyui_fitv2 import Metadata
from comfyui_fitv2.autoencoder import TinyAutoencoder, save_autoencoder
from comfyui_fitv2.checkpoint import METADATA_TENSOR, metadata_tensor

ROOT = Path(__file__).resolve().parents[2]
CHILD = Path(__file__).with_name("fuzz_child.py")
PER_PROCESS = 50
SLOW_SECONDS = 30


def originals(folder: Path) -> dict[str, tuple[str, Path]]:
    """Healthy files by name: their kind in ``fuzz_child.READERS``, and where they are."""
    state = {**weights(), METADATA_TENSOR: metadata_tensor(Metadata(CONFIG))}
    (folder / "plain.safetensors").write_bytes(safetensors(state))
    (folder / "zip.pt").write_bytes(torch_pickle({"model": state, "step": 3}))
    (folder / "legacy.pt").write_bytes(torch_pickle(state, legacy=True))
    parts = folder / "parts"
    parts.mkdir()
    keys = sorted(state)
    for number, some in enumerate((keys[::2], keys[1::2]), 1):
        save_file({key: state[key] for key in some}, parts / f"model-{number}-of-2.safetensors")
    index = {key: f"model-{1 + i % 2}-of-2.safetensors" for i, key in enumerate(keys)}
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    (parts / "config.json").write_text(json.dumps({"num_attention_heads": 2}))
    about = {"format": "pt", "fitv2": Metadata(CONFIG).to_json()}
    write_parts(folder / "model.parts", weights(), about)
    save_autoencoder(folder / "vae.safetensors", TinyAutoencoder())
    make_latent_set(folder / "latents")
    make_run(folder / "run")
    tiny = (ROOT / "training" / "configs" / "tiny.yaml").read_text(encoding="utf-8")
    (folder / "run" / "config.yaml").write_text(f"{tiny}\ndata: latents\noutput: run\n")
    (folder / "object_info").write_text(
        (ROOT / "tests" / "host" / "object_info.json").read_text(encoding="utf-8")
    )
    object_info = json.loads((folder / "object_info").read_text(encoding="utf-8"))
    workflow = json.loads(
        (ROOT / "workflows" / "5 Seven aspect ratios compared.json").read_text("utf-8")
    )
    workflow["nodes"] = [node for node in workflow["nodes"] if node["type"] in object_info]
    (folder / "workflow.json").write_text(json.dumps(workflow), encoding="utf-8")
    return {
        "safetensors": ("checkpoint", folder / "plain.safetensors"),
        "zip pickle": ("checkpoint", folder / "zip.pt"),
        "legacy pickle": ("checkpoint", folder / "legacy.pt"),
        "parts": ("checkpoint", parts),
        "slices": ("checkpoint", folder / "model.parts"),
        "VAE": ("vae", folder / "vae.safetensors"),
        "latent set": ("latents", folder / "latents"),
        "run, in the nodes": ("run-nodes", folder / "run"),
        "run, in the trainer": ("run-trainer", folder / "run"),
        "workflow": ("workflow", folder / "workflow.json"),
    }


NUMBERS = {
    "safetensors": 350,
    "zip pickle": 250,
    "legacy pickle": 200,
    "parts": 200,
    "slices": 200,
    "VAE": 250,
    "latent set": 250,
    "run, in the nodes": 150,
    "run, in the trainer": 150,
    "workflow": 200,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.fixture(scope="module")
def healthy(folder: Path) -> dict[str, tuple[str, Path]]:
    return originals(folder)


@pytest.mark.parametrize("name", NUMBERS)
def test_a_damaged_file_is_read_or_refused(
    name: str, healthy: dict[str, tuple[str, Path]], tmp_path: Path
) -> None:
    kind, original = healthy[name]
    (tmp_path / "object_info").symlink_to(original.parent / "object_info")
    ends: Counter[str] = Counter()
    wrong = []
    for first in range(0, NUMBERS[name], PER_PROCESS):
        count = min(PER_PROCESS, NUMBERS[name] - first)
        command = [sys.executable, str(CHILD), kind, str(original), str(tmp_path)]
        child = subprocess.run(
            [*command, str(first), str(count)], capture_output=True, text=True, cwd=tmp_path
        )
        lines = [json.loads(line) for line in child.stdout.splitlines() if line[:1] == "{"]
        done = {line["seed"]: line["done"] for line in lines if "done" in line}
        results = [line for line in lines if "end" in line]
        for result in results:
            end = result["end"]
            ends[end if end in ("read", "refused") else "wrong"] += 1
            if end not in ("read", "refused") or result["events"]:
                wrong.append({**result, "done": done[result["seed"]]})
            if result["seconds"] > SLOW_SECONDS:
                wrong.append({**result, "done": done[result["seed"]], "slow": True})
        if child.returncode or len(results) < count:
            last = max(done, default=None)
            wrong.append({"died": child.returncode, "seed": last, "err": child.stderr[-2000:]})
    print(f"{name}: {dict(ends)}")
    assert wrong == []
    assert ends["refused"] > 0
    assert not (tmp_path.parent / "outside").exists()
