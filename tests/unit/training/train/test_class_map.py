"""Which class of a checkpoint a class of a latent set is: names, WordNet ids, synonyms, ids."""

import re

import pytest

from comfyui_fitv2.labels import imagenet_class_names
from training.train import class_map
from training.train.class_map import ClassMatch, describe, match_by_id, match_classes, nearest

FLAGS = ["Côte d'Ivoire", "Finland", "Georgia", "Atlanta, Georgia", "North_Korea"]


def found(names: list[str], known: list[str] | None, count: int = 0) -> list[tuple[object, str]]:
    matches = match_classes(names, known, count or len(known or ()))
    return [(match.class_id, match.reason) for match in matches]


@pytest.mark.parametrize(
    ("name", "class_id", "reason"),
    [
        ("Finland", 1, "name"),
        ("FINLAND", 1, "spelling"),
        ("cote_d'ivoire", 0, "spelling"),
        ("north korea", 4, "spelling"),
        ("Georgia", 2, "name"),
        ("atlanta", 3, "synonym"),
        ("Georgia, Atlanta", 3, "synonym"),
        ("Finland, Suomi", 1, "synonym"),
        ("Georgia, Tbilisi", 2, "synonym"),
        ("Finnland", None, ""),
        ("", None, ""),
    ],
)
def test_a_class_is_found_by_the_first_way_that_finds_one(
    name: str, class_id: int | None, reason: str
) -> None:
    assert found([name], FLAGS) == [(class_id, reason)]


def test_a_part_that_two_names_share_is_no_synonym() -> None:
    known = ["Congo, Democratic Republic", "Korea, North", "Korea, South"]
    assert found(["Congo, Republic"], known) == [(None, "")]
    [korea] = match_classes(["Korea"], known, 3)
    assert (korea.class_id, korea.candidates) == (None, (1, 2))


def test_numbers_are_names_of_numbers_and_ids_of_a_checkpoint_without_names() -> None:
    assert found(["1", "10", "2"], ["2", "1"]) == [(1, "name"), (None, ""), (0, "name")]
    assert found(["01", "2"], ["1", "002"]) == [(0, "spelling"), (1, "spelling")]
    assert found(["007", "9"], None, count=9) == [(7, "spelling"), (None, "")]
    assert found(["1", "2"], FLAGS) == [(None, ""), (None, "")]


@pytest.mark.cases("N5")
@pytest.mark.parametrize("with_names", [True, False])
def test_imagenet_folders_are_imagenet_classes(
    with_names: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a checkpoint with the names that torchvision has for them, or without it and them."""
    known = imagenet_class_names()
    assert known is not None
    if not with_names:
        known = None
        monkeypatch.setattr(class_map, "imagenet_class_names", lambda: None)
    folders = ["n01440764", "n02085620-Chihuahua", "n02012849", "n15075141", "n01440765"]
    matches = match_classes(folders, known, 1000)
    assert [match.class_id for match in matches] == [0, 151, 134, 999, None]
    assert {match.reason for match in matches[:4]} == {"WordNet id"}


def test_one_crane_of_imagenet_does_not_hide_the_other() -> None:
    [crane, bird] = match_classes(["crane", "crane, bird"], imagenet_class_names(), 1000)
    assert (crane.class_id, crane.candidates, bird.class_id) == (None, (134, 517), 134)


@pytest.mark.cases("N5")
def test_the_thousand_wordnet_ids_are_in_the_order_of_the_classes() -> None:
    ids = list(class_map._wordnet_classes())
    assert len(set(ids)) == 1000
    assert ids == sorted(ids)
    assert all(re.fullmatch(r"n\d{8}", wordnet_id) for wordnet_id in ids)
    # imagenette's ids and classes, as torchvision has them
    for wordnet_id, name in (("n02979186", "cassette player"), ("n03888257", "parachute")):
        names = imagenet_class_names()
        assert names is not None
        assert names[ids.index(wordnet_id)] == name


@pytest.mark.cases("N5")
def test_names_and_wordnet_ids_find_each_other_in_either_direction() -> None:
    trained_on_folders = ["n01443537", "n01440764"]
    assert found(["tench"], trained_on_folders) == [(1, "synonym")]
    assert found(["tench, Tinca tinca"], trained_on_folders) == [(1, "synonym")]
    assert found(["n01440764"], trained_on_folders) == [(1, "name")]
    assert found(["n01440764_tench"], trained_on_folders) == [(1, "WordNet id")]
    assert found(["n01440764"], ["goldfish", "tench"]) == [(1, "synonym")]
    assert found(["n0144076"], trained_on_folders) == [(None, "")]


def test_a_pair_wins_and_may_name_a_class_as_people_type_it() -> None:
    pairs = {"Finnland": "finland", "x": "3", "Georgia": "Atlanta, Georgia"}
    matches = match_classes([*pairs, "atlanta"], FLAGS, 5, pairs)
    assert [(match.class_id, match.reason) for match in matches] == [
        (1, "pair"),
        (3, "pair"),
        (3, "pair"),
        (3, "synonym"),
    ]
    with pytest.raises(ValueError, match=r"no class 'Finland' \(nearest: 'Finnland'\)"):
        match_classes(["Finnland"], FLAGS, 5, {"Finland": "Finland"})
    with pytest.raises(ValueError, match=r'No class is called "Finnlan".*Finland'):
        match_classes(["Finnland"], FLAGS, 5, {"Finnland": "Finnlan"})


def test_ids_are_positions_or_the_numbers_that_all_names_are() -> None:
    def ids(names: list[str]) -> list[int | None]:
        return [match.class_id for match in match_by_id(names, 5)]

    assert ids(["a", "b", "1", "2", "3", "4"]) == [0, 1, 2, 3, 4, None]
    assert ids(["1", "3", "2"]) == [1, 3, 2]
    assert ids(["1", "01"]) == [0, 1]
    assert ids(["3", "7"]) == [0, 1]


def test_what_was_found_is_said_in_lines_that_can_be_checked() -> None:
    names = ["Finland", "finland", "atlanta", "Finnland", "Korea"]
    known = [*FLAGS, "Korea, South", "Korea, North"]
    assert describe(match_classes(names, known, 7), known) == [
        "3 of 5 classes are classes of the checkpoint: 1 by name; 1 by spelling ('finland' = "
        "1 · Finland); 1 by synonym ('atlanta' = 3 · Atlanta, Georgia)",
        "2 of 5 classes start anew: 'Finnland' (near: 'Finland'), 'Korea' (could be "
        "5 · Korea, South or 6 · Korea, North). If two are the same: --init-pairs Finnland "
        "Finland",
        "'Finland', 'finland' are the same class of the checkpoint, 1 · Finland",
    ]
    assert describe(match_classes(["Georgia", "Finland"], FLAGS, 5), FLAGS) == []
    many = [ClassMatch(f"class {i}") for i in range(9)]
    [line] = describe(many, FLAGS)
    assert line.endswith("'class 5' and 3 more")


def test_nearest_names_do_not_depend_on_spelling() -> None:
    assert nearest("COTE DIVOIRE", FLAGS) == ["Côte d'Ivoire"]
    assert nearest("Gorgia", FLAGS)[0] == "Georgia"
    assert nearest("xyz", FLAGS) == []


def test_the_checkpoints_synonyms_tell_a_class() -> None:
    known, synonyms = ["Viet Nam", "Laos", "Korea"], [["Vietnam", "VN"], ["VN"], ["Corée"]]
    found = match_classes(["vietnam", "coree", "VN", "Laos"], known, 3, synonyms=synonyms)
    assert [match.class_id for match in found] == [0, 2, None, 1]
    assert [match.reason for match in found] == ["synonym", "synonym", "", "name"]
    assert found[2].candidates == (0, 1)
    paired = match_classes(["x"], known, 3, {"x": "Corée"}, synonyms)
    assert paired[0].class_id == 2
