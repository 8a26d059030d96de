"""``training.prepare.changed_images``: a set follows its images, and encodes what is new."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset, Features, Value
from datasets import Image as ImageFeature
from PIL import Image
from support.image_files import contents, draw_bar
from support.old_sets import OLD, OldSet
from support.pooling_vae import PoolingVAE
from support.training_runs import ROOT, torchrun
from torch import Tensor

from training.data import open_latent_set
from training.data.latent_set import LatentSet, data_digest
from training.folder_lock import LOCK_FILE
from training.prepare.planning import ProblemsError

Run = Callable[..., Path]


def examples(latents: LatentSet) -> dict[str, tuple[str, Tensor]]:
    """Class name and latents by file."""
    return {
        name: (
            latents.info.class_names[latents.class_ids[i]],
            latents.moments(i, cropped=False, flipped=True)[0],
        )
        for i, name in enumerate(latents.names())
    }


def same(a: dict[str, tuple[str, Tensor]], b: dict[str, tuple[str, Tensor]]) -> bool:
    return a.keys() == b.keys() and all(
        a[name][0] == b[name][0] and torch.equal(a[name][1], b[name][1]) for name in a
    )


def encoded(vae: PoolingVAE, run: Run, **changes: Any) -> int:
    """How many images, each plain and mirrored, the next run encodes."""
    vae.images = 0
    run("latents", **changes)
    return vae.images // 2


@pytest.mark.cases("D11")
def test_an_added_image_is_encoded_and_the_others_are_kept(
    run: Run, photos: Path, vae: PoolingVAE, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(run("latents"))
    draw_bar(photos / "green" / "new.png", (80, 40), (1, 2, 3))
    assert encoded(vae, run) == 1
    after = contents(run("latents"))
    shards = {name for name in before if name.startswith("shard-")}
    assert {name: after[name] for name in shards} == {name: before[name] for name in shards}
    assert same(examples(open_latent_set(run("latents"))), examples(open_latent_set(run("anew"))))
    said = capsys.readouterr().out
    assert "follows the images: 1 image (green/new.png) added." in said
    assert "latents: 13 images of 3 classes" in said
    assert encoded(vae, run) == 0


def test_every_kind_of_change_at_once(
    run: Run, photos: Path, vae: PoolingVAE, capsys: pytest.CaptureFixture[str]
) -> None:
    before = open_latent_set(run("latents"))
    (photos / "blue" / "0.png").unlink()
    draw_bar(photos / "blue" / "1.png", (60, 100), (9, 9, 9))
    (photos / "green" / "3.png").rename(photos / "red" / "moved.png")
    draw_bar(photos / "azure" / "0.png", (48, 48), (0, 200, 255))
    draw_bar(photos / "white" / "0.png", (48, 48), (255, 255, 255))
    assert encoded(vae, run) == 3
    latents = open_latent_set(run("latents"))
    assert latents.info.class_names == ("blue", "green", "red", "azure", "white")
    assert same(examples(latents), examples(open_latent_set(run("anew"))))
    (change,) = latents.history
    assert change.before == data_digest(before)
    assert str(change) == (
        "2 images added, 1 removed, 1 replaced, 1 in another class, 2 classes new (azure, white)"
    )
    said = capsys.readouterr().out
    assert (
        "2 images (azure/0.png, white/0.png) added; 1 image (blue/0.png) removed; 1 image "
        "(blue/1.png) replaced; 1 image (red/moved.png) in another class; 2 classes (azure, white) "
        "new" in said
    )
    shards = sorted(path.name for path in run("latents").glob("shard-*"))
    assert shards == [f"shard-{number:06d}.arrow" for number in (2, 3, 4, 5)]


def test_a_set_grows_again_and_again(run: Run, photos: Path, vae: PoolingVAE) -> None:
    run("latents")
    for i in range(3):
        draw_bar(photos / f"class{i}" / "0.png", (40 + i, 40), (i, i, i))
        (photos / "red" / f"{i}.png").unlink()
        assert encoded(vae, run) == 1
    latents = open_latent_set(run("latents"))
    assert same(examples(latents), examples(open_latent_set(run("anew"))))
    total = latents.changes_since(latents.history[0].before)
    assert (len(latents.history), total and total.added, total and total.removed) == (3, 3, 3)


@pytest.mark.parametrize("content", ["same", "other"])
def test_a_file_of_the_same_size_and_another_time_is_compared(
    run: Run, photos: Path, vae: PoolingVAE, content: str
) -> None:
    bitmap = photos / "blue" / "0.bmp"
    Image.new("RGB", (64, 48), "white").save(bitmap)
    run("latents")
    for file in photos.glob("*/*"):
        os.utime(file, ns=(0, 1))
    if content == "other":
        Image.new("RGB", (64, 48), "black").save(bitmap)
    assert encoded(vae, run) == (content == "other")
    assert encoded(vae, run) == 0


def test_a_class_without_images_keeps_its_id(
    run: Run, photos: Path, vae: PoolingVAE, capsys: pytest.CaptureFixture[str]
) -> None:
    run("latents")
    shutil.rmtree(photos / "green")
    assert encoded(vae, run) == 0
    latents = open_latent_set(run("latents"))
    assert latents.info.class_names == ("blue", "green", "red")
    assert sorted({*latents.class_ids.tolist()}) == [0, 2]
    assert "1 class (green) without images now; names and class ids stay" in capsys.readouterr().out


def test_a_class_with_another_name_is_a_new_one_and_is_not_encoded_again(
    run: Run, photos: Path, vae: PoolingVAE
) -> None:
    run("latents")
    (photos / "blue").rename(photos / "azure")
    assert encoded(vae, run) == 0
    latents = open_latent_set(run("latents"))
    assert latents.info.class_names == ("blue", "green", "red", "azure")
    assert same(examples(latents), examples(open_latent_set(run("anew"))))


def test_another_folder_is_not_taken_for_a_change(
    run: Run, photos: Path, vae: PoolingVAE, tmp_path: Path
) -> None:
    before = contents(run("latents"))
    for i in range(3):
        draw_bar(tmp_path / "other" / "dog" / f"{i}.png", (50, 50), (i, 0, 0))
    with pytest.raises(ProblemsError, match=r"12 of the 12 images .* add --ignore-problems"):
        run("latents", images=tmp_path / "other")
    assert contents(tmp_path / "latents") == before
    run("latents", images=tmp_path / "other", ignore_problems=True)
    assert len(open_latent_set(tmp_path / "latents")) == 3


def test_labels_of_a_table_change_without_encoding(
    run: Run, vae: PoolingVAE, tmp_path: Path
) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("file,label\nred/0.png,a\nred/1.png,b\nblue/0.png,b\n", encoding="utf-8")
    run("latents", metadata=table)
    table.write_text("file,label\nred/0.png,b\nred/1.png,0\nblue/0.png,b\n", encoding="utf-8")
    assert encoded(vae, run, metadata=table) == 0
    latents = open_latent_set(tmp_path / "latents")
    assert latents.info.class_names == ("a", "b", "0")
    assert {name: label for name, (label, _) in examples(latents).items()} == {
        "red/0.png": "b",
        "red/1.png": "0",
        "blue/0.png": "b",
    }
    assert str(latents.history[0]) == "2 images in another class, 1 class new (0)"


def test_a_saved_data_set_is_compared_by_content(
    run: Run, photos: Path, vae: PoolingVAE, tmp_path: Path
) -> None:
    def save(files: list[Path], name: str) -> Path:
        rows = {
            "image": [{"bytes": file.read_bytes(), "path": None} for file in files],
            "label": [file.parent.name for file in files],
        }
        features = Features({"image": ImageFeature(), "label": Value("string")})
        Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / name)
        return tmp_path / name

    files = sorted(photos.glob("*/*.png"))
    run("latents", images=save(files, "one"))
    new = photos / "red" / "new.png"
    draw_bar(new, (70, 70), (5, 5, 5))
    assert encoded(vae, run, images=save([*files, new], "two")) == 1
    assert len(open_latent_set(tmp_path / "latents")) == 13


def test_a_broken_image_that_was_mended_is_encoded(
    run: Run, photos: Path, vae: PoolingVAE, tmp_path: Path
) -> None:
    good = (photos / "red" / "0.png").read_bytes()
    for name in ("cut", "lost"):
        (photos / "red" / f"{name}.png").write_bytes(good[:90])
    run("latents")
    (photos / "red" / "cut.png").write_bytes(good)
    (photos / "red" / "lost.png").unlink()
    assert encoded(vae, run) == 1
    report = json.loads((tmp_path / "latents" / "report.json").read_text(encoding="utf-8"))
    assert (report["images"], report["failed"]) == (13, {})
    assert len(list((tmp_path / "latents").glob("shard-*"))) == 4, "no shard was copied"


def test_an_unfinished_set_follows_too(
    run: Run, photos: Path, vae: PoolingVAE, tmp_path: Path
) -> None:
    folder = run("latents")
    for name in ("latent_set.json", "shard-000001.arrow"):
        (folder / name).unlink()
    (photos / "blue" / "0.png").unlink()  # encoded
    (photos / "green" / "2.png").unlink()  # not encoded
    draw_bar(photos / "amber" / "0.png", (48, 48), (250, 200, 0))
    assert encoded(vae, run) == 5
    latents = open_latent_set(folder)
    assert same(examples(latents), examples(open_latent_set(run("anew"))))
    assert latents.history == ()


class _Stop(BaseException):
    """The end of the process."""


def test_stopped_at_any_moment_the_set_is_the_old_or_the_new_one_and_resumes(
    run: Run, photos: Path, vae: PoolingVAE, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = examples(open_latent_set(run("start")))
    (photos / "blue" / "0.png").unlink()
    (photos / "green" / "3.png").rename(photos / "red" / "moved.png")
    for i in range(7):
        draw_bar(photos / "azure" / f"{i}.png", (48, 48), (0, 200, i))
    new = examples(open_latent_set(run("anew")))
    left = 0

    def counted(action: Any) -> Any:
        def acting(*arguments: Any, **options: Any) -> Any:
            nonlocal left
            if arguments[0].name.startswith(LOCK_FILE):  # a process that is killed keeps no lock
                return action(*arguments, **options)
            if not left:
                raise _Stop
            left -= 1
            return action(*arguments, **options)

        return acting

    folder, moment, finished = tmp_path / "latents", 0, False
    while not finished:
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(tmp_path / "start", folder)
        left = moment
        with monkeypatch.context() as patched:
            patched.setattr(Path, "replace", counted(Path.replace))
            patched.setattr(Path, "unlink", counted(Path.unlink))
            try:
                run("latents")
                finished = True
            except _Stop:
                pass
        found = examples(open_latent_set(folder))
        assert same(found, old) or same(found, new)
        if moment % 3 == 0:  # the images change again before it resumes
            extra = photos / "azure" / "extra.png"
            draw_bar(extra, (48, 48), (1, 1, 1))
            assert len(open_latent_set(run("latents"))) == len(new) + 1
            extra.unlink()
        assert same(examples(open_latent_set(run("latents"))), new)
        left_over = {path.name for path in folder.iterdir() if path.name.endswith(".tmp")}
        assert left_over == set()
        moment += 1
    assert moment > 10


def test_who_reads_the_set_meanwhile_keeps_reading_the_old_one(
    run: Run, photos: Path, vae: PoolingVAE
) -> None:
    reading = open_latent_set(run("latents"))
    before = [reading.moments(i, False, False)[0].clone() for i in range(12)]
    for file in (photos / "blue").iterdir():
        draw_bar(file, (48, 48), (7, 7, 7))
    run("latents")
    assert all(torch.equal(reading.moments(i, False, False)[0], before[i]) for i in range(12))


@pytest.mark.cases("D11")
def test_a_set_of_an_older_version_grows(tmp_path: Path, vae: PoolingVAE) -> None:
    old = OldSet(tmp_path / "old")
    before = examples(open_latent_set(old.folder))
    images = Path(shutil.copytree(OLD / "images", tmp_path / "images"))
    draw_bar(images / "stripe" / "new.png", (32, 32), (0, 0, 0))
    (images / "circle" / "0.png").unlink()
    old.resume(images=images)
    latents = open_latent_set(old.folder)
    del before["circle/0.png"]
    found = examples(latents)
    assert vae.images == 2
    assert found.pop("stripe/new.png")[0] == "stripe"
    assert same(found, before)
    assert str(latents.history[0]) == "1 image added, 1 removed"


def test_other_settings_are_refused_though_the_images_changed_too(
    run: Run, photos: Path, vae: PoolingVAE
) -> None:
    run("latents")
    draw_bar(photos / "red" / "new.png", (20, 20), (0, 0, 0))
    for change, message in (
        ({"enlarge": True}, r"\(enlarge: False → True\)"),
        ({"shard_size": 7}, r"\(shard-size: 5 → 7\)"),
    ):
        with pytest.raises(ValueError, match=message):
            run("latents", **change)


def test_names_that_older_versions_wrote_in_another_form_are_the_same_classes(
    run: Run, photos: Path, vae: PoolingVAE
) -> None:
    decomposed = "bleu cafe\u0301"
    (photos / "blue").rename(photos / decomposed)
    folder = run("latents")
    for file in ("plan.json", "latent_set.json"):
        content = json.loads((folder / file).read_text(encoding="utf-8"))
        content["class_names"][0] = decomposed
        (folder / file).write_text(json.dumps(content), encoding="utf-8")
    draw_bar(photos / "red" / "new.png", (80, 40), (1, 2, 3))
    assert encoded(vae, run) == 1
    assert open_latent_set(folder).info.class_names == (decomposed, "green", "red")


@pytest.mark.slow
@pytest.mark.processes
def test_two_processes_follow_as_one(run: Run, photos: Path, tmp_path: Path) -> None:
    options = {"shard_size": 2}
    run("one", **options)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    (photos / "blue" / "0.png").unlink()
    for i in range(5):
        draw_bar(photos / "azure" / f"{i}.png", (48, 48), (0, 200, i))
    one = contents(run("one", **options))
    arguments = ["--images", str(photos), "--output", str(tmp_path / "two"), "--resolution=64"]
    command = [*torchrun(2), "-m", "training.prepare", *arguments, "--batch-size=2", "--workers=1"]
    subprocess.run(
        [sys.executable, *command, "--device=cpu"], cwd=ROOT, check=True, capture_output=True
    )
    assert contents(tmp_path / "two") == one
