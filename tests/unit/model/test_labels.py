"""From typed text to class ids."""

import pytest

from comfyui_fitv2 import LabelError, load_checkpoint, resolve_labels
from comfyui_fitv2.labels import imagenet_class_names, parse_classes, split_list

NAMES = [
    "crane",
    "Côte d'Ivoire",
    "golden_retriever",
    "Crane",
    "7",
    "Korea, Republic of",
    "labrador retriever",
    "crab",
]


def ids(text: str) -> list[int]:
    return [label.id for label in resolve_labels(text, NAMES, len(NAMES))]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Golden  Retriever", [2]),
        ("cote d'ivoire", [1]),
        ("5", [5]),
        ("2 · golden retriever", [2]),
        ("Korea, Republic of; 6\n1;", [5, 6, 1]),
        ("korea", [5]),
        ("3 · crane", [3]),
    ],
)
def test_text_is_resolved(text: str, expected: list[int]) -> None:
    assert ids(text) == expected


def test_what_was_resolved_can_be_typed_again() -> None:
    labels = resolve_labels(
        "; ".join(map(str, resolve_labels("0 · crane; crab", NAMES, 8))), NAMES, 8
    )
    assert [str(label) for label in labels] == ["0 · crane", "7 · crab"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crane", '"crane" could be "0 · crane" or "3 · Crane"'),
        ("7", '"7" could be "4 · 7" or "7 · crab"'),
        ("retriever", 'nearest are "2 · golden_retriever" and "6 · labrador retriever"'),
        ("golden retreiver", 'nearest are "2 · golden_retriever"'),
        ("8", '"8" is no class id: ids are 0 to 7'),
        ("2 · crab", '2 is "golden_retriever"'),
        ("zzzzzz", 'No class is called "zzzzzz"'),
        (" ; ", "No class was given"),
    ],
)
def test_unknown_or_ambiguous_text_is_refused(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        ids(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("all", list(range(8))),
        (" ALL ", list(range(8))),
        ("5, crab", [5, 7]),
        ("Korea, Republic of", [5]),
        ("Korea, Republic of; crab", [5, 7]),
        ("5", [5]),
    ],
)
def test_a_list_of_classes_may_have_commas_between(text: str, expected: list[int]) -> None:
    assert [label.id for label in parse_classes(text, NAMES, 8)] == expected


def test_an_unknown_class_in_a_list_is_named() -> None:
    with pytest.raises(LabelError, match="krab"):
        parse_classes("0,krab", NAMES, 8)


def test_a_list_is_split_at_semicolons_and_line_ends() -> None:
    assert split_list(" a, b ;c\n\n d;;\r\n") == ["a, b", "c", "d"]
    assert split_list(" ; ") == []


def test_without_names_ids_still_work() -> None:
    assert [str(label) for label in resolve_labels("3; 0", None, 4)] == ["3", "0"]
    with pytest.raises(LabelError, match="carries no class names"):
        resolve_labels("cat", None, 4)


def test_imagenet_names_come_from_torchvision() -> None:
    names = imagenet_class_names()
    assert names is not None
    assert len(names) == 1000
    assert names[207] == "golden retriever"
    with pytest.raises(LabelError, match='"134 · crane, bird" or "517 · crane"'):
        resolve_labels("crane", names, 1000)
    assert resolve_labels("134 · crane, bird; 517", names, 1000)[1].name == "crane"


def test_the_bundled_checkpoint_knows_its_classes(bundled_checkpoint) -> None:
    names = load_checkpoint(bundled_checkpoint).class_names
    assert names is not None
    assert [label.id for label in resolve_labels("Finland; France; Botswana", names, 256)] == [
        75,
        76,
        27,
    ]
