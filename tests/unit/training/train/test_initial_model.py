"""Starting from a checkpoint: what is trained, which class is whose, and adapters."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.latent_sets import make_latent_set
from support.run_folders import SMALL
from support.training_runs import MODEL, farthest, identical, small_config, weights
from torch import Tensor

from comfyui_fitv2 import (
    FiT,
    FiTConfig,
    Metadata,
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
)
from comfyui_fitv2.labels import imagenet_class_names
from comfyui_fitv2.metadata import LatentFormat
from training.data import open_latent_set
from training.data.latent_set import LatentSetInfo
from training.export import main as export_main
from training.train import lora, train
from training.train.checkpoints.reader import latest, read_metadata, read_summary
from training.train.checkpoints.run_folder import RunError
from training.train.config import ConfigError, LoRAConfig
from training.train.config_parser import parse_config
from training.train.initial_model import (
    InitialModel,
    choose_trainable,
    initial_model,
    resumed_model,
)
from training.train.model import TrainedFiT

NAMES = ["class0", "class1", "class2"]
TABLE = "y_embedder.embedding_table.weight"
PLACE = ["--data=x", "--output=y", "--steps=2"]
HIGH_RESOLUTION = ["--trainable", "biases", "adaln", "patch_embedder", "final_layer"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_latent_set(
        tmp_path_factory.mktemp("data") / "latents",
        ((4, 4), (2, 6), (6, 2)),
        classes=3,
        per_class=4,
    )


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of the classes class0, class1 and class2."""
    return saved(tmp_path_factory.mktemp("base") / "base.safetensors", NAMES)


def saved(path: Path, class_names: list[str] | None, model_config: FiTConfig = SMALL) -> Path:
    torch.manual_seed(5)
    model = FiT(replace(model_config, num_classes=len(class_names or NAMES)))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    save_checkpoint(path, model.state_dict(), Metadata(model.config, class_names))
    return path


def info_of(names: list[str], channels: int = 4) -> LatentSetInfo:
    return LatentSetInfo(tuple(names), channels, 64, LatentFormat(1.0), "random")


def start_with(names: list[str], base: Path, *options: str) -> InitialModel:
    config = parse_config([*PLACE, "--init", str(base), *options])
    return initial_model(config, info_of(names))


@pytest.mark.parametrize(
    ("name", "share"),
    [("fitv2-xl-hr", "94.96 M of 671.05 M weights (14.15 %)"), ("fitv2-3b-hr", "(13.99 %)")],
)
def test_high_resolution_post_training_trains_the_published_share(name: str, share: str) -> None:
    config = parse_config(["--config", name, "--data=x", "--output=y", "--init=z"])
    assert config.model is not None
    model_config = config.model.for_data(1000, 4)
    assert (model_config.extrapolation, model_config.decoupled, model_config.train_length) == (
        "ntk",
        True,
        16,
    )
    notes = choose_trainable(TrainedFiT(model_config, device="meta"), config)
    assert share in notes[-1]


def test_what_is_not_trained_stays_bit_for_bit_and_starts_from_the_checkpoint(
    data: Path, base: Path, tmp_path: Path
) -> None:
    """With a batch of a single image."""
    ntk = [
        "--model.extrapolation=ntk",
        "--model.train_length=2",
        "--batch.packing=padded",
        "--batch.images=1",
    ]
    assert train(small_config(data, tmp_path, *HIGH_RESOLUTION, f"--init={base}", *ntk)) == 0
    before, after, average = load_file(base), weights(tmp_path), weights(tmp_path, "ema-0.99")
    trained = {
        name
        for name in before
        if name.endswith(".bias")
        or "adaLN" in name
        or name.startswith(("x_embedder", "final_layer"))
    }
    assert {name for name in before if not torch.equal(before[name], after[name])} == trained
    assert {name for name in before if not torch.equal(before[name], average[name])} == trained
    assert load_checkpoint(latest(tmp_path) / "model.safetensors").config.extrapolation == "ntk"


def test_the_model_of_a_checkpoint_need_not_be_given(
    data: Path, base: Path, tmp_path: Path
) -> None:
    assert train(small_config(data, tmp_path, f"--init={base}", model=())) == 0
    assert load_checkpoint(latest(tmp_path) / "model.safetensors").config == SMALL


def test_a_class_keeps_its_row_by_name_and_new_ones_start_from_random_weights(base: Path) -> None:
    start = start_with(["new", "class2", "class0"], base)
    before, after = load_file(base)[TABLE], start.model.state_dict()[TABLE]
    assert torch.equal(after[[1, 2, 3]], before[[2, 0, 3]])
    assert not any(torch.equal(after[0], row) for row in before)
    assert start.class_names == ("new", "class2", "class0")
    assert start.notes[1:3] == (
        "2 of 3 classes are classes of the checkpoint: 2 by name",
        "1 of 3 classes start anew: 'new'",
    )


def test_more_classes_than_the_checkpoint_has_are_learned(data: Path, tmp_path: Path) -> None:
    two = saved(tmp_path / "two.safetensors", ["class1", "x"])
    assert train(small_config(data, tmp_path / "run", f"--init={two}")) == 0
    assert load_checkpoint(latest(tmp_path / "run") / "model.safetensors").class_names == [
        "class0",
        "class1",
        "class2",
    ]


def test_names_that_two_classes_share_tell_neither(tmp_path: Path) -> None:
    cranes = saved(tmp_path / "cranes.safetensors", ["crane", "crane", "lynx"])
    before = load_file(cranes)[TABLE]
    same, other = (
        start_with(["crane", "crane", "lynx"], cranes),
        start_with(["crane", "lynx"], cranes),
    )
    assert torch.equal(same.model.state_dict()[TABLE], before)
    after = other.model.state_dict()[TABLE]
    assert torch.equal(after[1], before[2])
    assert not any(torch.equal(after[0], row) for row in before)


@pytest.mark.cases("N5")
def test_a_set_without_a_class_of_the_checkpoint_is_refused_with_what_can_be_done(
    base: Path,
) -> None:
    with pytest.raises(ConfigError) as refused:
        start_with(["n01440764", "clas1"], base)
    assert str(refused.value) == (
        "None of the 2 classes of the latent set ('n01440764', 'clas1') is a class of "
        f"{base} (3: 'class0', 'class1', 'class2'); nearest: 'clas1' ~ 'class1'. Set --init-pairs "
        "clas1 class1 if two are the same, --init-classes id if class 0 of the set is class 0 of "
        "the checkpoint, and so on, or --init-classes new to start all classes anew."
    )
    before = load_file(base)[TABLE]
    new = start_with(["n01440764", "clas1"], base, "--init-classes=new").model.state_dict()[TABLE]
    assert torch.equal(new[2], before[3])  # the null class
    assert not any(torch.equal(new[0], row) for row in before)
    pair = start_with(["n01440764", "clas1"], base, "--init-pairs", "clas1", "class1")
    assert torch.equal(pair.model.state_dict()[TABLE][1], before[1])
    with pytest.raises(ConfigError, match=r"init_pairs: .*no class 'clas2' \(nearest: 'clas1'\)"):
        start_with(["clas1"], base, "--init-pairs", "clas2", "class1")


@pytest.mark.cases("N5")
def test_imagenet_weights_are_found_for_imagenet_folders(tmp_path: Path) -> None:
    names = imagenet_class_names()
    imagenet = saved(tmp_path / "imagenet.safetensors", names)
    start = start_with(["n02085620", "n01440764", "my cat"], imagenet)
    before, after = load_file(imagenet)[TABLE], start.model.state_dict()[TABLE]
    assert torch.equal(after[[0, 1, 3]], before[[151, 0, 1000]])
    assert start.notes[1:3] == (
        "2 of 3 classes are classes of the checkpoint: 2 by WordNet id ('n02085620' = "
        "151 · Chihuahua, 'n01440764' = 0 · tench)",
        "1 of 3 classes start anew: 'my cat'",
    )
    adapted = start_with(["n02085620", "n01440764"], imagenet, "--lora.rank=2")
    assert adapted.class_map.tolist() == [151, 0]
    assert len(adapted.class_names) == 1000


def test_an_adapter_can_be_told_which_class_it_changes(base: Path) -> None:
    start = start_with(["a", "b"], base, "--lora.rank=2", "--init-pairs", "a", "class2", "b", "2")
    assert start.class_map.tolist() == [2, 2]
    assert start.notes[2] == "'a', 'b' are the same class of the checkpoint, 2 · class2"
    with pytest.raises(ConfigError, match=r"1 of 2 classes .*'b'.*--init-pairs NAME CLASS"):
        start_with(["class0", "b"], base, "--lora.rank=2")


@pytest.mark.parametrize("rank", [0, 2])
def test_an_export_has_the_names_of_the_classes_that_were_trained(
    data: Path, tmp_path: Path, rank: int
) -> None:
    """Those of the latent set; with adapters those of the checkpoint, which are all still there."""
    known = ["x", "CLASS1", "y", "z"]
    base = saved(tmp_path / "base.safetensors", known)
    pairs = ["--init-pairs", "class0", "z", "class2", "x"] if rank else []
    run = small_config(data, tmp_path / "run", f"--init={base}", *pairs, f"--lora.rank={rank}")
    run = replace(run, model=None)
    assert train(run) == 0
    summary = read_summary(latest(tmp_path / "run"))
    assert summary.class_map == ((3, 1, 0) if rank else (0, 1, 2))
    for weights_of, names in (("ema", known if rank else NAMES), ("lora", None)):
        file = tmp_path / f"{weights_of}.safetensors"
        options = ["--run", run.output, "--output", str(file), "--weights", weights_of]
        assert export_main(options) == (0 if names or rank else 1)
        if names:
            assert load_checkpoint(file).class_names == names


@pytest.mark.cases("C1")
@pytest.mark.parametrize(("image_size", "length"), [(512, 32), (256, 16), (16, 2)])
def test_the_trained_length_is_the_latent_sets(image_size: int, length: int) -> None:
    info = replace(info_of(NAMES), image_size=image_size)
    start = initial_model(parse_config([*PLACE, "--config=tiny"]), info)
    assert start.model.config.train_length == length
    config = parse_config([*PLACE, *MODEL, "--model.train-length=16"])
    start = initial_model(config, info)
    assert start.model.config.train_length == 16
    warned = any("--model.train-length 32" in note for note in start.notes)
    assert warned == (image_size == 512)


@pytest.mark.cases("C1")
@pytest.mark.parametrize(
    ("extrapolation", "before", "image_size", "length"),
    [("none", 16, 512, 32), ("none", 32, 256, 32), ("ntk", 16, 512, 16)],
)
@pytest.mark.parametrize("model", [[], MODEL])
def test_a_checkpoint_keeps_its_trained_length_unless_it_learns_larger_images(
    tmp_path: Path,
    extrapolation: str,
    before: int,
    image_size: int,
    length: int,
    model: list[str],
) -> None:
    trained = replace(SMALL, extrapolation=extrapolation, train_length=before)
    base = saved(tmp_path / "base.safetensors", NAMES, trained)
    method = [f"--model.extrapolation={extrapolation}"] if model else []
    config = parse_config([*PLACE, "--init", str(base), *model, *method])
    start = initial_model(config, replace(info_of(NAMES), image_size=image_size))
    assert start.model.config.train_length == length
    assert start.notes[0].endswith("with train_length 32") == (length > before)


@pytest.mark.cases("C1")
def test_the_published_high_resolution_recipe_keeps_its_length(data: Path) -> None:
    config = parse_config(["--config=fitv2-xl-hr", "--data=x", "--output=y", "--init=z"])
    assert config.model is not None
    assert config.model.train_length == 16
    from_scratch = parse_config(["--config=fitv2-xl", "--data=x", "--output=y"])
    assert from_scratch.model is not None
    assert from_scratch.model.train_length == 0  # the latent set's


@pytest.mark.cases("C1")
def test_an_export_says_the_size_that_it_was_trained_at(tmp_path: Path) -> None:
    latents = make_latent_set(tmp_path / "latents", ((32, 32),), classes=1, per_class=2)
    options = ["--batch.token_budget=1024", "--steps=1", "--batch.open_packs=1"]
    assert train(small_config(latents, tmp_path / "run", *options)) == 0
    file = tmp_path / "mine.safetensors"
    assert export_main(["--run", str(tmp_path / "run"), "--output", str(file)]) == 0
    assert load_checkpoint(file).config.train_length == 32


def test_classes_can_go_by_id_or_have_no_names(base: Path, tmp_path: Path) -> None:
    unnamed = saved(tmp_path / "unnamed.safetensors", None)
    for file, options in ((base, ["--init_classes=id"]), (unnamed, [])):
        start = start_with(
            ["n01440764", "n01443537", "n01484850"], file, *HIGH_RESOLUTION, *options
        )
        assert torch.equal(start.model.state_dict()[TABLE], load_file(file)[TABLE])


def test_new_classes_in_a_table_that_is_not_trained_are_refused(base: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"1 of 3 classes.*'new'.*label table is not trained.*--init-classes id"
    ):
        start_with(["class0", "class1", "new"], base, *HIGH_RESOLUTION)
    start_with(["class0", "class1", "new"], base, "--trainable", "biases", "label_table")


def test_another_architecture_is_refused_with_what_differs(base: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"another architecture than model: depth 3 \(there: 2\), num_heads 4 \(there: 2\)",
    ):
        start_with(NAMES, base, *MODEL, "--model.depth=3", "--model.num_heads=4")
    start = start_with(NAMES, base, *MODEL, "--model.extrapolation=ntk")
    assert start.notes[0].endswith("base.safetensors, with extrapolation ntk")


def test_latents_of_other_channels_are_refused(base: Path) -> None:
    config = parse_config([*PLACE, "--init", str(base)])
    with pytest.raises(ConfigError, match="takes latents of 4 channels, the latent set has 16"):
        initial_model(
            config,
            info_of(NAMES, channels=16),
        )


def test_a_seed_decides_the_first_weights(data: Path, tmp_path: Path) -> None:
    info = open_latent_set(data).info
    states = [
        initial_model(small_config(data, tmp_path, f"--seed={seed}"), info).model.state_dict()
        for seed in (1, 1, 2)
    ]
    assert identical(states[0], states[1])
    assert not torch.equal(states[0]["x_embedder.proj.weight"], states[2]["x_embedder.proj.weight"])


def host_applied(state: dict[str, Tensor], adapters: dict[str, Tensor]) -> dict[str, Tensor]:
    """What the host makes of a LoRA file at strength 1: weight + alpha / rank · B·A."""
    changed = dict(state)
    for key in adapters:
        if key.endswith(".alpha"):
            name = key.removesuffix(".alpha")
            down, up = adapters[f"{name}.lora_A.weight"], adapters[f"{name}.lora_B.weight"]
            changed[f"{name.removeprefix('diffusion_model.')}.weight"] += (
                adapters[key] / len(down) * (up @ down)
            )
    return changed


def lora_options(base: Path, *options: str) -> list[str]:
    return [
        f"--init={base}",
        "--lora.rank=4",
        "--lora.alpha=8",
        "--ema_decays",
        "0.5",
        "0.9",
        *options,
    ]


def test_lora_trains_adapters_alone_and_its_file_is_what_the_average_has_learned(
    data: Path, base: Path, tmp_path: Path
) -> None:
    assert train(small_config(data, tmp_path, *lora_options(base), model=())) == 0
    before, raw, average, file = (
        load_file(base),
        weights(tmp_path),
        weights(tmp_path, "ema-0.5"),
        weights(tmp_path, "lora"),
    )
    targets = {
        f"blocks.{i}.{layer}"
        for i in (0, 1)
        for layer in ("attn.qkv", "attn.proj", "mlp.fc1_g", "mlp.fc1_x", "mlp.fc2")
    }
    assert set(file) == {
        f"diffusion_model.{name}.{part}"
        for name in targets
        for part in ("lora_A.weight", "lora_B.weight", "alpha")
    }
    assert {name for name in before if not torch.equal(before[name], raw[name])} == {
        f"{name}.weight" for name in targets
    }
    assert farthest(host_applied(load_file(base), file), average) < 1e-6
    assert farthest(average, raw) > 1e-5
    assert load_checkpoint(latest(tmp_path) / "ema-0.5.safetensors").config == SMALL


def test_lora_resumes_with_the_classes_that_it_began_with(
    data: Path, base: Path, tmp_path: Path
) -> None:
    """However a later version would find them."""
    options = lora_options(base, "--steps=2")
    train(small_config(data, tmp_path, *options, model=()))
    info = open_latent_set(data).info
    config = small_config(data, tmp_path, *lora_options(base), model=())
    metadata = read_metadata(latest(tmp_path))
    resumed = resumed_model(config, metadata, (2, 0, 1), replace(info, class_names=("a", "b", "c")))
    assert resumed.class_map.tolist() == [2, 0, 1]
    assert resumed.class_names == tuple(NAMES)
    other = saved(tmp_path / "other.safetensors", NAMES, replace(SMALL, depth=3))
    with pytest.raises(ConfigError, match=r"another architecture.*depth 2 \(there: 3\)"):
        resumed_model(replace(config, init=str(other)), metadata, (0, 1, 2), info)


def test_lora_resumes_bit_for_bit_from_the_same_base_only(
    data: Path, base: Path, tmp_path: Path
) -> None:
    for name, parts in (("whole", (6,)), ("parts", (2, 6))):
        for steps in parts:
            train(
                small_config(
                    data,
                    tmp_path / name,
                    *lora_options(base, f"--steps={steps}", "--resume=latest"),
                    model=(),
                )
            )
    for file in ("model", "ema-0.5", "ema-0.9", "lora", "state"):
        assert identical(weights(tmp_path / "whole", file), weights(tmp_path / "parts", file))
    moved = saved(base.with_name("moved.safetensors"), NAMES)
    state = load_file(moved)
    save_checkpoint(
        moved,
        {**state, "t_embedder.mlp.0.bias": state["t_embedder.mlp.0.bias"] + 1},
        Metadata(SMALL, NAMES),
    )
    base_bytes = base.read_bytes()
    try:
        moved.replace(base)
        with pytest.raises(
            RunError,
            match=r"not the one that this run adapts \(t_embedder.mlp.0.bias differs\)",
        ):
            train(
                small_config(
                    data,
                    tmp_path / "whole",
                    *lora_options(base, "--steps=7", "--resume=latest"),
                    model=(),
                )
            )
    finally:
        base.write_bytes(base_bytes)


def test_adapters_act_as_their_merged_weights_do() -> None:
    config = LoRAConfig(rank=3, alpha=2.0, targets=r"attn\.|fc2|adaLN|embedder|final_layer")
    model = TrainedFiT(SMALL)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    names = lora.add_adapters(model, config)
    assert {"blocks.1.adaLN_modulation.2", "x_embedder.proj", "final_layer.linear"} <= set(names)
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert name.endswith(("lora_A", "lora_B"))
            torch.nn.init.normal_(parameter, std=0.3)
    plain = FiT(SMALL)
    plain.load_state_dict(lora.merged(model.state_dict(), config))
    inputs: Any = torch.randn(2, 4, 8, 4), torch.rand(2), torch.tensor([0, 3])
    torch.testing.assert_close(model(*inputs), plain(*inputs), rtol=1e-4, atol=1e-4)


def test_a_class_that_an_adapter_cannot_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    birds = saved(tmp_path / "birds.safetensors", ["heron", "crane", "stork"])
    assert start_with(["stork", "heron"], birds, "--lora.rank=2").class_map.tolist() == [2, 0]
    assert start_with(
        ["anything"], birds, "--lora.rank=2", "--init_classes=id"
    ).class_map.tolist() == [0]
    with pytest.raises(
        ConfigError,
        match=r"1 of 1 classes of the latent set \('herons'\) are not among those of .*birds.* "
        r"\(3: 'heron', 'crane', 'stork'\); nearest: 'herons' ~ 'heron'.*--init-pairs herons heron",
    ):
        start_with(["herons"], birds, "--lora.rank=2")
    with pytest.raises(ConfigError, match="matches no linear layer's name"):
        start_with(["heron"], birds, "--lora.rank=2", "--lora.targets=conv")


def test_a_class_keeps_its_synonyms_through_training_and_resuming(
    data: Path, base: Path, tmp_path: Path
) -> None:
    checkpoint = read_checkpoint(base)
    known = replace(checkpoint.metadata, class_synonyms=[["zero", "null"], [], ["two"]])
    described = tmp_path / "described.safetensors"
    save_checkpoint(described, checkpoint.state_dict, known)
    started = start_with(["two", "new", "class0"], described)
    assert started.class_synonyms == [["two"], [], ["zero", "null"]]
    assert start_with(["class0"], base).class_synonyms is None
    resumed = resumed_model(
        parse_config([*PLACE, "--init", str(described)]),
        replace(known, config=started.model.config),
        [0, 1, 2],
        info_of(["two", "new", "class0"]),
    )
    assert resumed.class_synonyms == known.class_synonyms
