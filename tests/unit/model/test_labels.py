"""From typed text to classes and blends."""

from collections.abc import Sequence

import pytest

from comfyui_fitv2 import Blend, Label, LabelError, load_checkpoint, resolve_labels
from comfyui_fitv2.labels import (
    class_weights,
    imagenet_class_names,
    parse_classes,
    parts_of,
    read_entries,
    resolve_class,
    split_list,
)

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


def ids_of(labels: Sequence[Label | Blend]) -> list[int]:
    single = [label for label in labels if isinstance(label, Label)]
    assert len(single) == len(labels)
    return [label.id for label in single]


def ids(text: str) -> list[int]:
    return ids_of(resolve_labels(text, NAMES, len(NAMES)))


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
        ("golden retreiver", 'nearest is "2 · golden_retriever"'),
        ("8", '"8" is no class id: ids are 0 to 7'),
        ("2 · crab", '2 is "golden_retriever"'),
        ("-1", '"-1" is no class id: ids are 0 to 7'),
        ("0x1", '"0x1" is no class id: ids are 0 to 7'),
        ("9" * 5000, "is no class id: ids are 0 to 7"),
        ("crab, krab", 'No class is called "krab"'),
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
    assert ids_of(parse_classes(text, NAMES, 8)) == expected


@pytest.mark.parametrize("text", ["all", "All "])
def test_every_class_has_a_sign_where_a_class_is_called_all(text: str) -> None:
    names = ["none", "All"]
    with pytest.raises(LabelError, match=r'could be every class or "1 · All". Type "\*"'):
        parse_classes(text, names, 2)
    assert ids_of(parse_classes(" ＊", names, 2)) == [0, 1]
    assert ids_of(parse_classes("1 · All", names, 2)) == [1]


@pytest.mark.cases("N1")
@pytest.mark.parametrize(
    "text",
    [
        "crab；golden retriever",
        "crab؛ golden retriever",
        "crab，golden retriever",
        "crab、golden retriever",
        "crab، golden retriever",
        "crab\u2028golden retriever",
        "\u3000crab\u3000;\xa0golden\u3000retriever\ufeff",
        "crab；２",
        "CRAB؛ ２ ・ golden retriever",
        "ｃｒａｂ；２·golden_retriever",
        "“crab”；「golden retriever」",
    ],
)
def test_the_signs_of_any_keyboard_are_read_as_those_of_ascii(text: str) -> None:
    assert ids(text) == [7, 2]
    assert ids_of(parse_classes(text, NAMES, 8)) == [7, 2]


@pytest.mark.cases("N1")
def test_a_name_with_such_signs_is_matched_whole() -> None:
    names = ["猫、犬", "猫", "犬", "甲；乙", "甲"]
    labels = resolve_labels("猫、犬；犬；甲；乙；甲", names, 5)
    assert ids_of(labels) == [0, 2, 3, 4]
    assert ids_of(resolve_labels("猫,犬;甲;乙", names, 5)) == [1, 2, 3]


@pytest.mark.cases("N2")
@pytest.mark.parametrize(
    ("names", "text", "expected"),
    [
        (["Atlanta, Georgia", "Georgia"], "Georgia", [1]),
        (["Atlanta, Georgia", "Georgia"], "atlanta; georgia", [0, 1]),
        (["projectile, missile", "missile"], "missile", [1]),
        (["Korea, Republic of", "Korea"], "Korea, Republic of, Korea", [0, 1]),
        (["ขาว", "ข่าว"], "ขาว; ข่าว", [0, 1]),  # they differ in a mark above a letter alone
        (["Cote", "Côte"], "Côte, Cote", [1, 0]),
    ],
)
def test_a_whole_name_beats_the_synonym_of_another(
    names: list[str], text: str, expected: list[int]
) -> None:
    assert ids_of(resolve_labels(text, names, len(names))) == expected


AWKWARD = [
    "a;b",
    "a",
    "b",
    "two\nlines",
    "x · y",
    "3 · a",
    "12",
    "7",
    "a, b",
    "a, b; c",
    "1 · a; 2 · b",
    "  spaces ",
    '"quoted"',
    "“a;b”",
    "",
    "·",
    ";",
    ",",
    "，；、",
    "猫、犬",
    "all",
    "*",
    "-1",
    "a;",
    "a",
    "\ufeffmark",
    "٣",
    "👩‍🚀; 🏳️‍🌈",
]


@pytest.mark.cases("N2")
def test_what_is_printed_can_be_typed_again_whatever_the_names_hold() -> None:
    every = list(range(len(AWKWARD)))
    labels = [
        resolve_labels(f"{i} · {name}", AWKWARD, len(AWKWARD))[0] for i, name in enumerate(AWKWARD)
    ]
    assert ids_of(labels) == every
    for separator in ("; ", "\n", "；"):
        printed = separator.join(map(str, labels))
        assert ids_of(resolve_labels(printed, AWKWARD, len(AWKWARD))) == every
    backwards = "; ".join(f'"{label}"' for label in reversed(labels))
    assert ids_of(resolve_labels(backwards, AWKWARD, len(AWKWARD))) == every[::-1]


@pytest.mark.parametrize("pairs", [1, 2, 500])
def test_quotation_marks_within_one_another_are_taken_off(pairs: int) -> None:
    marks = '"' * pairs
    assert ids_of(resolve_labels(f"{marks}b{marks}", ["a", "b"], 2)) == [1]
    with pytest.raises(LabelError, match='No class is called "c'):
        resolve_labels(f"{marks}c{marks}", ["a", "b"], 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [("a;b", [0]), ("a;b; b", [0, 2]), ("b;a;b", [2, 0]), ("two\nlines", [3]), ("a, b", [8])],
)
def test_a_name_that_holds_a_separator_is_read_whole(text: str, expected: list[int]) -> None:
    names = ["a;b", "c", "b", "two\nlines", "d", "e", "f", "g", "a, b"]
    assert ids_of(resolve_labels(text, names, 9)) == expected
    assert ids_of(parse_classes(text, names, 9)) == expected


@pytest.mark.cases("D2")
def test_where_all_names_are_numbers_a_number_is_a_name() -> None:
    names = [str(number) for number in range(1, 13)]
    assert ids_of(parse_classes("1,12", names, 12)) == [0, 11]
    assert ids_of(parse_classes("03; 0 · 1", names, 12)) == [2, 0]
    with pytest.raises(LabelError, match=r'"0".*numbers as names.*0 · 1 .*id 0\) to 11 · 12'):
        parse_classes("0,1", names, 12)
    digits = ["7", "0", "3"]
    assert ids_of(parse_classes("0,7", digits, 3)) == [1, 0]


def test_many_labels_are_read_quickly() -> None:
    names = [f"class; {i}, of many" for i in range(1000)]
    printed = "; ".join(str(label) for label in parse_classes("all", names, 1000))
    assert len(resolve_labels(printed, names, 1000)) == 1000


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
    assert resolve_labels("134 · crane, bird; 517", names, 1000)[1] == Label(517, "crane")


def test_the_bundled_checkpoint_knows_its_classes(bundled_checkpoint) -> None:
    names = load_checkpoint(bundled_checkpoint).class_names
    assert names is not None
    assert ids_of(resolve_labels("Finland; France; Botswana", names, 256)) == [
        75,
        76,
        27,
    ]


SYNONYMS = [
    ["Kran", "grue"],
    ["Ivory Coast", "CI"],
    ["Goldie"],
    [],
    ["seven"],
    ["South Korea", "KR", "대한민국", "Corea, del Sur"],
    ["Goldie", "lab"],
    ["Krabbe", "1 + 1"],
]


def texts(text: str, synonyms: list[list[str]] | None = SYNONYMS) -> list[str]:
    return [str(label) for label in resolve_labels(text, NAMES, 8, synonyms)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ivory coast", [1]),
        ("ci; kr", [1, 5]),
        ("South-Korea", [5]),
        ("대한민국、Krabbe", [5, 7]),
        ("Corea, del Sur, lab", [5, 6]),
        ("5 · South Korea", [5]),
        ("1 + 1", [7]),
        ("Cote d’Ivoire", [1]),
    ],
)
def test_a_class_is_found_by_its_synonyms(text: str, expected: list[int]) -> None:
    assert ids_of(resolve_labels(text, NAMES, 8, SYNONYMS)) == expected


def test_a_synonym_of_two_classes_is_reported_and_a_name_goes_first() -> None:
    with pytest.raises(LabelError, match='"goldie" could be "2 · golden_retriever" or "6 · '):
        texts("goldie")
    assert texts("crab", [["crab"], *SYNONYMS[1:]]) == ["7 · crab"]


def test_a_synonym_goes_before_a_part_of_another_name() -> None:
    names = ["Virgin Islands, U.S.", "United States"]
    found = resolve_labels("US; U.S.", names, 2, [["VI"], ["US"]])
    assert ids_of(found) == [1, 1]
    assert ids_of(resolve_labels("U.S.", names, 2)) == [0]


def test_what_is_spelt_like_a_synonym_is_suggested_as_its_class() -> None:
    with pytest.raises(LabelError, match=r'nearest is "5 · Korea, Republic of"\.'):
        texts("Sout Korea")


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("republic of korea", "Korea, Republic of"),
        ("South Korea", "Korea, Republic of"),  # three begin with South, two with Korea
        ("Afganistan", "Afghanistan"),
        ("Korea Nort", "Korea, North"),
        ("the netherland", "Netherlands"),
        ("Fin", "Finland"),
        ("isle man", "Isle of Man"),
        ("Marshal Iland", "Marshall Islands"),
    ],
)
def test_shared_words_count_before_spelling(text: str, first: str) -> None:
    names = [
        *("Korea, Republic of", "Korea, North", "Finland", "Afghanistan", "South Africa"),
        *("Netherlands", "Isle of Man", "Griffin", "Marshall Islands", "Faroe Islands", "Norway"),
        *("South Sudan", "South Georgia"),
    ]
    with pytest.raises(LabelError) as error:
        resolve_labels(text, names, len(names))
    assert error.value.nearest[0].name == first


def test_short_texts_are_not_compared_by_spelling() -> None:
    with pytest.raises(LabelError) as error:
        resolve_labels("USA", ["Tunisia", "Austria", "Guam"], 3)
    assert error.value.nearest == ()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("crab + 2", {7: 0.5, 2: 0.5}),
        ("0.7*crab + 0.3*2", {7: 0.7, 2: 0.3}),
        ("3 × crab ＋ ٣＊5 · Korea", {7: 0.5, 5: 0.5}),
        ("7*crab+1 * Korea, Republic of", {7: 0.875, 5: 0.125}),
        ("0,25*crab + 0,75*golden retriever", {7: 0.25, 2: 0.75}),
        ("crab + .5*2 + .5*labrador retriever", {7: 0.5, 2: 0.25, 6: 0.25}),
        ("crab + 2 + crab", {7: 2 / 3, 2: 1 / 3}),
        ("0*2 + crab", {7: 1.0}),
        ("0.2*crab", {7: 1.0}),
        ('"crab" + 0.5*"golden retriever"', {7: 2 / 3, 2: 1 / 3}),
        ('"crab + 2"', {7: 0.5, 2: 0.5}),
        ("Krabbe + Ivory Coast", {7: 0.5, 1: 0.5}),
    ],
)
def test_classes_are_blended(text: str, expected: dict[int, float]) -> None:
    [label] = resolve_labels(text, NAMES, 8, SYNONYMS)
    assert {part.id: weight for part, weight in parts_of(label)} == pytest.approx(expected)
    assert isinstance(label, Blend) == (len(expected) > 1)
    weights = class_weights([label], 8)[0]
    assert weights.sum() == pytest.approx(1)
    assert {i: w for i, w in enumerate(weights.tolist()) if w} == pytest.approx(expected)


def test_blends_stand_in_lists() -> None:
    assert texts("crab; 0.25*crab + .75*2, Korea\n1 + 2") == [
        "7 · crab",
        "0.25*7 · crab + 0.75*2 · golden_retriever",
        "5 · Korea, Republic of",
        "1 · Côte d'Ivoire + 2 · golden_retriever",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("crab + krab", 'No class is called "krab"'),
        ("crab + ", r'A class is missing beside "\+"'),
        ("+ crab", r'A class is missing beside "\+"'),
        ("-0.5*crab + 2", '"7 · crab" has the weight -0.5. A weight must be 0 or more'),
        ("0*crab + 0*2", 'The weights of "7 · crab" and "2 · golden_retriever" add up to 0'),
        ("much*crab + 2", '"much" in "much\\*crab" is no weight'),
        ("1e5*crab + 2", '"1e5" in "1e5\\*crab" is no weight'),
        ("*crab + 2", '"" in "\\*crab" is no weight'),
        ("9" * 400 + "*crab + 2", "is no weight"),
    ],
)
def test_what_is_no_blend_is_explained(text: str, message: str) -> None:
    with pytest.raises(LabelError, match=message):
        texts(text)


def test_a_printed_blend_can_be_typed_again_whatever_the_names_hold() -> None:
    names = [*AWKWARD, "C++", "a+b", "2*b", "+", "0.5*a + 0.5*b", "* "]
    for i in range(len(names)):
        other = (i + 7) % len(names)
        for weights in ((1.0, 1.0), (0.3, 0.7)):
            labels = Label(i, names[i]), Label(other, names[other])
            blend = Blend.of(zip(labels, weights, strict=True))
            printed = f"{blend}; 1 · a; {blend}"
            read = resolve_labels(printed, names, len(names))
            assert read == [blend, Label(1, "a"), blend], printed


def test_entries_tell_where_they_stand_and_what_may_be_meant() -> None:
    text = " crab ;Krab, 5\n 0.5*golden retreiver + .5*2 ; ;crab+2"
    entries = read_entries(text, NAMES, 8)
    assert [text[entry.start : entry.end] for entry in entries] == [e.text for e in entries]
    assert [(entry.text, entry.class_ids) for entry in entries] == [
        ("crab", [7]),
        ("Krab", []),
        ("5", [5]),
        ("golden retreiver", []),
        ("2", [2]),
        ("crab+2", [7, 2]),
    ]
    wrong = entries[3]
    assert wrong.label is None
    assert wrong.error is not None
    assert wrong.error.startswith('No class is called "golden retreiver"')
    assert [label.id for label in wrong.nearest] == [2]
    assert read_entries(" ; ", NAMES, 8) == []


def test_an_ambiguous_entry_offers_the_classes_that_it_may_be() -> None:
    [entry] = read_entries("crane", NAMES, 8)
    assert [label.id for label in entry.nearest] == [0, 3]


def test_one_class_is_asked_for_where_no_other_number_makes_sense() -> None:
    assert resolve_class("ivory coast", NAMES, 8, SYNONYMS).id == 1
    for text in ("crab; 2", "crab + 2"):
        with pytest.raises(LabelError, match="Name one class"):
            resolve_class(text, NAMES, 8)
