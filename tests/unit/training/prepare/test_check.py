"""``training.prepare --check``, and what ``prepare`` says and stops at before it encodes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from support.image_files import draw_bar
from support.pooling_vae import PoolingVAE

from training import prepare as module
from training.data import open_latent_set
from training.data.sources import open_images
from training.prepare import PrepareOptions, main
from training.prepare.check import Check
from training.prepare.check_page import page
from training.prepare.check_text import headline, notes
from training.prepare.planning import ProblemsError, check_all, plan_images
from training.prepare.set_folder import SetFolder

Run = Callable[..., Path]


@pytest.fixture
def vae(monkeypatch: pytest.MonkeyPatch) -> PoolingVAE:
    """The VAE of all runs."""
    vae = PoolingVAE()
    monkeypatch.setattr(module, "open_vae", lambda *_: vae)
    return vae


def check(photos: Path, enlarge: bool = False) -> Check:
    options = PrepareOptions(images=photos, check=True, image_size=64, enlarge=enlarge, workers=0)
    return check_all(options)


def text(checked: Check) -> str:
    return "\n".join([headline(checked), *checked.problems, *notes(checked)])


def test_a_clean_folder_has_only_its_numbers(photos: Path) -> None:
    checked = check(photos)
    assert headline(checked) == "12 images of 3 classes; 9 to 15 tokens each (median 14)"
    assert checked.problems == []
    assert checked.per_class() == [("blue", 4, 0), ("green", 4, 0), ("red", 4, 0)]
    assert notes(checked) == ["3 classes with fewer than 10 images."]


@pytest.mark.cases("D3")
def test_small_images_are_counted_with_their_tokens(photos: Path) -> None:
    for i, size in enumerate(((28, 28), (32, 32), (30, 20))):
        draw_bar(photos / "red" / f"small{i}.png", size, (0, 0, 0))
    assert (
        "3 of 15 images are small, and become 1 to 4 tokens instead of about 16. Add --enlarge"
        in text(check(photos))
    )
    enlarged = check(photos, enlarge=True)
    assert "small" not in text(enlarged)
    assert enlarged.tokens.min() >= 12


@pytest.mark.cases("D3")
def test_a_set_of_tiny_images_stops_before_it_is_encoded(
    photos: Path, run: Run, vae: PoolingVAE, tmp_path: Path
) -> None:
    for file in photos.glob("*/*.png"):
        draw_bar(file, (28, 28), (0, 0, 0))
    message = r"they become at most 1 of the 16 tokens .* Add --enlarge"
    with pytest.raises(ProblemsError, match=message):
        run("latents")
    assert not (tmp_path / "latents").exists()
    assert open_latent_set(run("small", ignore_problems=True)).lengths.max() == 1
    assert open_latent_set(run("large", enlarge=True)).lengths.min() == 16


@pytest.mark.cases("D4")
def test_a_class_of_broken_images_stops_or_is_left_out(
    photos: Path, run: Run, vae: PoolingVAE, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("a", "b"):
        (photos / "cyan").mkdir(exist_ok=True)
        (photos / "cyan" / f"{name}.png").write_text("not an image", encoding="utf-8")
    with pytest.raises(ProblemsError, match="None of the 2 images of the class 'cyan' can be used"):
        run("latents")
    folder = run("latents", ignore_problems=True)
    latents = open_latent_set(folder)
    assert latents.info.class_names == ("blue", "green", "red")
    assert latents.class_ids.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["classes"]["cyan"] == {"images": 0, "failed": 2}
    assert report["left_out_classes"] == {"cyan": "none of its 2 images could be used"}
    said = capsys.readouterr()
    assert "cyan: none of its 2 images could be used" in said.err
    assert "12 images of 3 classes.\n  blue 4, green 4, red 4" in said.out
    draw_bar(photos / "cyan" / "a.png", (50, 50), (0, 255, 255))
    assert open_latent_set(run("latents")).info.class_names == ("blue", "green", "red", "cyan")


def test_damage_that_only_decoding_finds_leaves_the_class_out_too(
    photos: Path, run: Run, vae: PoolingVAE
) -> None:
    for file in (photos / "green").iterdir():
        content = bytearray(file.read_bytes())
        place = content.index(b"IDAT") + 4
        content[place : place + 30] = b"\xff" * 30
        file.write_bytes(content)
    folder = run("latents")
    assert open_latent_set(folder).info.class_names == ("blue", "red")
    assert open_latent_set(folder).class_ids.tolist() == [0] * 4 + [1] * 4


def test_duplicates_and_contradictions_are_named(photos: Path) -> None:
    shutil.copy(photos / "red" / "0.png", photos / "red" / "copy.png")
    shutil.copy(photos / "blue" / "1.png", photos / "red" / "wrong.png")
    large = photos / "blue" / "large.bmp"  # its two ends are the same as the other's
    Image.new("RGB", (100, 100), "white").save(large)
    content = bytearray(large.read_bytes())
    content[len(content) // 2] ^= 1
    (photos / "blue" / "other.bmp").write_bytes(content)
    checked = check(photos)
    named = [[checked.files[row] for row in group] for group in checked.duplicates]
    assert named == [["blue/1.png", "red/wrong.png"], ["red/0.png", "red/copy.png"]]
    assert (
        "1 image is in several classes, which contradict each other: blue/1.png = red/wrong.png"
        in text(checked)
    )
    assert "2 files repeat another byte for byte" in text(checked)


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (
            (1, 1),
            "1 image with a side below 16 pixels is enlarged to a whole token: red/odd.png "
            "1 × 1 (1:1) → 16 × 16 (1:1).",
        ),
        (
            (20000, 50),
            "1 image changes its shape to fit into whole tokens: red/odd.png 20,000 × 50 (400:1) "
            "→ 256 × 16 (16:1).",
        ),
        ((300, 100), "1 of 13 images is encoded as the middle square too; 1 of them loses more"),
    ],
)
def test_images_that_change_are_named(photos: Path, size: tuple[int, int], said: str) -> None:
    draw_bar(photos / "red" / "odd.png", size, (0, 0, 0))
    assert said in text(check(photos))


def test_uneven_classes_and_files_of_no_use_are_named(photos: Path) -> None:
    for i in range(40):
        draw_bar(photos / "red" / f"more{i}.png", (60, 40 + i), (0, 0, 0))
    (photos / "blue" / "cut.png").write_bytes((photos / "blue" / "0.png").read_bytes()[:90])
    said = text(check(photos))
    assert "The classes are uneven: red has 44 images, blue 4, 11 times fewer." in said
    assert "1 file cannot be used: blue/cut.png: " in said


def test_the_page_holds_everything_and_needs_nothing(photos: Path) -> None:
    (photos / "blue" / "notes.txt").write_text("x", encoding="utf-8")
    (photos / "<b>&").mkdir()
    (photos / "<b>&" / "a.png").write_text("not an image", encoding="utf-8")
    draw_bar(photos / "red" / "long.png", (2000, 20), (0, 0, 0))
    html = page(check(photos))
    problem = html.index("The only image of the class &#x27;&lt;b&gt;&amp;&#x27; cannot be used")
    assert problem < html.index("Worth knowing") < html.index("Images per class")
    for found in ("blue/notes.txt", "red/long.png", "1:1", "prefers-color-scheme: dark"):
        assert found in html
    assert "<b>&" not in html
    for needed in ("<script", "http://", "https://", "<link", "src="):
        assert needed not in html


def test_the_command_needs_only_the_images(
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(module, "open_vae", lambda *_: pytest.fail("no VAE is needed"))
    arguments = ["--images", str(photos), "--check", "--workers", "0"]
    for _ in range(2):  # its own page is replaced
        assert main(arguments) == 0
        assert f"The whole check: {tmp_path / 'photos.check.html'}" in capsys.readouterr().out
    assert main([*arguments, "--output", "sets/latents"]) == 0
    assert [path.name for path in (tmp_path / "sets").iterdir()] == ["latents.check.html"]
    (tmp_path / "latents.check.html").write_text("mine", encoding="utf-8")
    assert main([*arguments, "--output", "latents"]) == 1
    assert "is no page of this command" in capsys.readouterr().err
    assert main(["--images", str(photos)]) == 2
    assert "error: --output is missing" in capsys.readouterr().err


def test_a_check_in_processes_finds_the_same(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    alone = check(photos)
    monkeypatch.setattr("training.prepare.check._ALONE", 2)
    monkeypatch.setattr("training.prepare.check._PER_TASK", 5)
    options = PrepareOptions(images=photos, check=True, image_size=64, workers=2)
    helped = check_all(options)
    assert text(helped) == text(alone)
    assert (helped.sizes == alone.sizes).all()


def test_only_new_images_are_looked_at(
    photos: Path, run: Run, vae: PoolingVAE, capsys: pytest.CaptureFixture[str]
) -> None:
    run("latents")
    capsys.readouterr()
    (photos / "red" / "broken.png").write_text("not an image", encoding="utf-8")
    draw_bar(photos / "red" / "tiny.png", (20, 20), (0, 0, 0))
    run("latents")  # a class with other images may get a broken or a tiny one
    assert capsys.readouterr().out.splitlines()[1].startswith("1 image of 1 class; 1 tokens each")


def test_problems_of_the_listing_stop_before_the_vae_is_opened(
    photos: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for split in ("train", "val"):
        shutil.copytree(photos, tmp_path / "splits" / split)
    monkeypatch.setattr(module, "open_vae", lambda *_: pytest.fail("stops before"))
    with pytest.raises(ValueError, match="--ignore-problems"):
        run("latents", images=tmp_path / "splits")
    assert not (tmp_path / "latents").exists()


def test_a_plan_stays_as_it_was_where_nothing_has_changed(photos: Path, tmp_path: Path) -> None:
    options = PrepareOptions(images=photos, output=tmp_path / "latents", image_size=64, workers=0)
    source = open_images(photos, None)
    plan_images(source, SetFolder(options.place), options)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()}
    plan_images(source, SetFolder(options.place), options)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "latents").iterdir()} == before
