"""Folders of classes that are a level too high stop with the level that was meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.image_files import draw_bar

from training.data.sources import open_images, open_unsorted


def problems(root: Path, *files: str) -> list[str]:
    """The problems of a folder that holds ``files``, with the root called R."""
    for file in files:
        draw_bar(root / file, (20, 20), (255, 0, 0))
    found = open_images(root, None).listing().problems
    return [problem.replace(str(root), "R") for problem in found]


def files(*patterns: str) -> list[str]:
    """Two images in each folder; "a|b" stands for both."""
    folders = [""]
    for pattern in patterns:
        folders = [f"{f}{name}/" for f in folders for name in pattern.split("|")]
    return [f"{folder}{i}.png" for folder in folders for i in range(2)]


@pytest.mark.cases("D1")
@pytest.mark.parametrize(
    ("found", "meant"),
    [
        (files("train|val|test", "cat|dog"), "name R/train as --images, which holds cat, dog."),
        (files("training|validation|testing", "cat|dog"), "name R/training as"),
        (files("Train_Set|Valid-Set", "cat|dog"), "name R/Train_Set as"),
        (files("train2017|val2017", "cat|dog"), "name R/train2017 as"),
        (files("dev|holdout|eval", "cat|dog"), "name R/dev as"),
        (files("images", "train|val", "cat|dog"), "name R/images/train as"),
        (files("pets", "train|test", "cat|dog"), "name R/pets/train as"),
        (files("train", "cat|dog"), "name R/train as"),
        (files("entraînement|validation", "chat|chien"), "name R/entraînement as"),
        (files("Training|Validierung|Prüfung", "Katze|Hund"), "name R/Training as"),
        (files("训练集|测试集", "猫|狗"), "name R/训练集 as"),
        (files("обучение|тест", "кот|пёс"), "name R/обучение as"),
        (files("訓練データ|テスト", "猫|犬"), "name R/訓練データ as --images, which holds 犬, 猫."),
        (files("train|val", "images"), "put the images into a folder for each class"),
        (files("train|val"), "put the images into a folder for each class"),
        (
            files("train|val", "n01|n02", "images"),
            "name R/train as --images, which holds n01, n02.",
        ),
        (files("pets", "cat|dog"), "name R/pets as --images, which holds cat, dog."),
        (files("data", "pets", "cat|dog"), "name R/data/pets as"),
        (files("digits", "0|1|2|10"), "name R/digits as --images, which holds 0, 1, 10, …."),
        (files("images", "0|1|2"), "name R/images as"),
        (files("animals|vehicles", "cat|dog|car"), "--images R/animals, --images R/vehicles"),
    ],
    ids=lambda value: value[:28] if isinstance(value, str) else value[0][:-6],
)
def test_the_level_that_was_meant_is_named(tmp_path: Path, found: list[str], meant: str) -> None:
    (problem,) = problems(tmp_path, *found)
    assert meant in problem


@pytest.mark.cases("D1")
@pytest.mark.parametrize(
    "found",
    [
        files("cat|dog"),
        [*files("cat", "more"), *files("dog")],
        files("cat|dog", "part1|part2"),
        files("cat|dog", "2021|2022-05-01"),
        files("cat|dog", "images"),
        files("cat|dog", "train|val"),
        files("cat|dog", "00|0a|ff"),
        files("roses", "2019|2020"),
        files("train|car|bus"),
        files("latest|contest"),
        files("cat", "Session 1|Session 2"),
    ],
    ids=lambda value: value[0][:-6],
)
def test_folders_that_group_images_inside_a_class_go_on_working(
    tmp_path: Path, found: list[str]
) -> None:
    assert problems(tmp_path, *found) == []


@pytest.mark.cases("D1")
def test_a_level_too_low_says_so(tmp_path: Path) -> None:
    (problem,) = problems(tmp_path, "0.png", "1.png")
    assert "its 2 images lie in no folder of a class" in problem
    assert "name the folder around it" in problem


def test_references_are_of_one_split(tmp_path: Path) -> None:
    for file in files("images", "train|val", "cat|dog"):
        draw_bar(tmp_path / file, (20, 20), (255, 0, 0))
    (problem,) = open_unsorted(tmp_path, "--reference").listing().problems
    assert f"such as --reference {tmp_path}/images/train." in problem
    train = open_unsorted(tmp_path / "images" / "train", "--reference").listing()
    assert (train.problems, len(train.files), train.class_names) == ([], 4, [])
