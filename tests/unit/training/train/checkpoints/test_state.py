"""The state of a run in its files: a lacking tensor is refused by name, older files are read."""

import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from support.latent_sets import make_latent_set
from support.parts import cut_into_parts
from support.training_runs import farthest, identical, small_config, weights

from comfyui_fitv2 import load_checkpoint
from training.train import train
from training.train.checkpoints.reader import latest, read_metadata, read_summary
from training.train.checkpoints.run_folder import RunError, stored_config
from training.train.config import TrainingConfig
from training.train.config_parser import parse_config
from training.train.run import TrainingRun

ROOT = Path(__file__).parents[5]
EARLIER = ROOT / "tests" / "golden" / "91ff81d"


@pytest.fixture(scope="module")
def whole_run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    train(small_config(data, run))
    return run


def change_file(run: Path, name: str, *lacks: str, **values: torch.Tensor) -> None:
    file = latest(run) / f"{name}.safetensors"
    with_metadata = {"fitv2": read_metadata(latest(run)).to_json()}
    tensors = {key: value for key, value in load_file(file).items() if key not in lacks}
    save_file({**tensors, **values}, file, with_metadata)


@pytest.mark.parametrize("name", ["model", "ema-0.9"])
def test_weights_of_another_shape_are_refused(
    data: Path, whole_run: Path, tmp_path: Path, name: str
) -> None:
    run = shutil.copytree(whole_run, tmp_path / "run")
    change_file(run, name, **{"x_embedder.proj.bias": torch.zeros(5)})
    message = rf"{name}.*x_embedder.proj.bias has shape \(5,\), expected \(32,\)"
    with pytest.raises(RunError, match=message):
        TrainingRun(small_config(data, run, "--steps=7", "--resume=latest"))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("model", "x_embedder.proj.bias"),
        ("ema-0.99", "x_embedder.proj.bias"),
        ("state", "step/x_embedder.proj.bias"),
        ("state", "exp_avg/x_embedder.proj.bias"),
        ("state", "exp_avg_sq/x_embedder.proj.bias"),
        ("state", "guard/norms"),
    ],
)
def test_a_file_that_lacks_a_tensor_is_refused(
    data: Path, whole_run: Path, tmp_path: Path, name: str, tensor: str
) -> None:
    run = shutil.copytree(whole_run, tmp_path / "run")
    change_file(run, name, tensor)
    with pytest.raises(RunError, match=f"{name}.safetensors lacks {tensor}"):
        TrainingRun(small_config(data, run, "--steps=7", "--resume=latest"))


def test_restoring_leaves_the_weights_and_not_an_average_in_the_model(
    data: Path, whole_run: Path
) -> None:
    run = TrainingRun(small_config(data, whole_run, "--steps=7", "--resume=latest"))
    assert farthest(dict(run.state.model.state_dict()), weights(whole_run)) == 0.0
    for decay in (0.99, 0.9):
        average = run.state.ema.averages[decay]
        assert farthest(average, weights(whole_run, f"ema-{decay}")) == 0.0


def test_what_several_processes_have_saved_is_resumed_by_one_bit_for_bit(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    runs = [shutil.copytree(whole_run, tmp_path / name) for name in ("files", "parts")]
    cut_into_parts(latest(runs[1]))
    for run in runs:
        assert train(small_config(data, run, "--steps=8", "--resume=latest")) == 0
    for name in ("model", "ema-0.99", "ema-0.9", "state"):
        assert identical(weights(runs[0], name), weights(runs[1], name))
        assert (latest(runs[1]) / f"{name}.safetensors").is_file()


def test_a_missing_and_a_damaged_part_are_named(
    data: Path, whole_run: Path, tmp_path: Path
) -> None:
    run = shutil.copytree(whole_run, tmp_path / "run")
    cut_into_parts(latest(run))
    config = small_config(data, run, "--steps=7", "--resume=latest")
    part = latest(run) / "state.parts" / "part-00002-of-00003.safetensors"
    content = part.read_bytes()
    part.write_bytes(content[:-100])
    with pytest.raises(RunError, match=r"part-00002-of-00003.safetensors cannot be read \(a trunc"):
        TrainingRun(config)
    part.unlink()
    with pytest.raises(RunError, match=r"part-00002-of-00003.safetensors .* is not beside it"):
        TrainingRun(config)
    part.write_bytes(content)
    shutil.copy(latest(run) / "model.parts" / part.name, part)
    with pytest.raises(RunError, match=r"state.parts lacks|does not fit"):
        TrainingRun(config)


def earlier_config(run: Path, *options: str) -> TrainingConfig:
    """The run's stored configuration, with other folders and options."""
    return parse_config(["--config", str(run / "config.yaml"), "--output", str(run), *options])


@pytest.fixture
def earlier_data(tmp_path: Path) -> Path:
    """The latent set that the golden runs were trained on."""
    sizes = ((4, 4), (2, 6), (6, 2))
    return make_latent_set(tmp_path / "latents", sizes, classes=3, per_class=4)


@pytest.mark.parametrize("name", ["run", "lora_run"])
def test_a_run_of_an_earlier_version_resumes_as_it_did_there(
    earlier_data: Path, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four steps were taken there; expected is what four more gave there."""
    monkeypatch.chdir(ROOT)  # the configuration names ``init`` from there
    run = shutil.copytree(EARLIER / name, tmp_path / name)
    options = ["--data", str(earlier_data), "--steps=8", "--resume=latest"]
    assert train(earlier_config(run, *options)) == 0
    prefix = f"{name}/"
    expected = {
        key.removeprefix(prefix): value
        for key, value in load_file(EARLIER / "step8.safetensors").items()
        if key.startswith(prefix)
    }
    after = weights(run)
    assert farthest({key: after[key] for key in expected}, expected) < 1e-5
    before = load_file(EARLIER / name / "checkpoints" / "step-00000004" / "model.safetensors")
    assert farthest({key: before[key] for key in expected}, expected) > 1e-3


def test_a_summary_of_an_earlier_version_is_read() -> None:
    summary = read_summary(latest(EARLIER / "run"))
    assert (summary.step, summary.images, summary.epoch, summary.loss) == (4, 17, 1, None)
    assert (summary.position.pack, summary.class_map) == (4, (0, 1, 2))


def test_a_stored_configuration_of_an_earlier_version_is_read() -> None:
    stored = yaml.safe_load((EARLIER / "run" / "config.yaml").read_text(encoding="utf-8"))
    assert stored["samples"].pop("cfg_scale") == 2.0
    assert stored.pop("lora") is None
    config = stored_config(EARLIER / "run")
    assert config is not None
    assert config.lora.rank == 0
    assert config.samples.guidance_scale == 2.0
    assert {**config.to_dict()["model"]} == stored["model"]


def test_a_checkpoint_exported_by_an_earlier_version_loads() -> None:
    loaded = load_checkpoint(EARLIER / "checkpoint.safetensors")
    assert loaded.class_names == ["class0", "class1", "class2"]
    assert (loaded.config.hidden_size, loaded.config.depth) == (16, 1)
    assert loaded.metadata.training["step"] == 4
