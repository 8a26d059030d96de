"""The JSON that widgets in the browser ask for, and what is refused to them."""

from __future__ import annotations

import base64
import io
import json
import os
import urllib.error
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from support.graph import BUNDLED
from support.live_client import LiveClient

from comfyui_fitv2 import SOLVERS, Metadata, for_ratio, read_checkpoint, save_checkpoint
from devkit.server import Server


def ask(client: LiveClient, route: str, **query: str) -> Any:
    return client.get(f"/fitv2/{route}?{urllib.parse.urlencode(query)}")


def refusal(client: LiveClient, path: str, body: bytes | None = None) -> tuple[int, str]:
    """The status and the error text of a question that is refused."""
    with pytest.raises(urllib.error.HTTPError) as error:
        client.request(path, body)
    return error.value.code, json.loads(error.value.read())["error"]


def refused(client: LiveClient, route: str, **query: str) -> tuple[int, str]:
    return refusal(client, f"/fitv2/{route}?{urllib.parse.urlencode(query)}")


def test_a_model_says_what_it_was_trained_on(client: LiveClient, bundled_checkpoint: Path) -> None:
    facts = ask(client, "model", checkpoint=BUNDLED)
    metadata = read_checkpoint(bundled_checkpoint).metadata
    assert facts["checkpoint"] == BUNDLED
    assert facts["train_tokens"] == 256
    assert facts["train_length"] == 16
    assert facts["longest_trained_side"] == 27
    assert facts["token_pixels"] == 16
    assert facts["default_extrapolation"] == metadata.config.extrapolation
    assert [entry["name"] for entry in facts["classes"]] == list(metadata.class_names or ())
    assert [entry["id"] for entry in facts["classes"]] == list(range(256))


def test_it_is_asked_under_api_too(client: LiveClient) -> None:
    assert client.get(f"/api/fitv2/model?checkpoint={BUNDLED}")["train_tokens"] == 256


@pytest.fixture
def named(server: Server) -> Iterator[Path]:
    """A checkpoint file to write; it is removed afterwards."""
    path = server.base / "models" / "fit" / "written_again.safetensors"
    yield path
    path.unlink(missing_ok=True)


def test_a_file_that_changes_is_read_again(
    client: LiveClient, named: Path, golden_state, golden_config
) -> None:
    for names in (["old"] * 10, ["new"] * 10):
        save_checkpoint(named, golden_state, Metadata(golden_config, names))
        os.utime(named, ns=(0, named.stat().st_mtime_ns + 10**9))
        facts = ask(client, "model", checkpoint=named.name)
        assert [entry["name"] for entry in facts["classes"]] == names


HOSTILE = [
    "../fit/fitv2_flags256.safetensors",
    "..\\fit\\fitv2_flags256.safetensors",
    "./fitv2_flags256.safetensors",
    "/etc/passwd",
    "C:\\Windows\\win.ini",
    "fitv2_flags256",
    "fitv2_flags256.safetensors\0.txt",
    "\ud7ff\U0001f600" * 100,
    "x" * 4000,
]


@pytest.mark.parametrize("route", ["model", "class_sheet", "labels"])
@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_name_that_the_loader_does_not_list_is_not_found(
    client: LiveClient, route: str, name: str
) -> None:
    status, error = refused(client, route, checkpoint=name, text="France")
    assert status == 404
    assert "refresh the node list" in error
    assert len(error) < 300


def test_an_absolute_path_of_a_listed_file_is_not_found(
    client: LiveClient, bundled_checkpoint: Path
) -> None:
    assert refused(client, "model", checkpoint=str(bundled_checkpoint))[0] == 404


@pytest.mark.parametrize("route", ["model", "class_sheet", "labels"])
def test_a_question_without_a_name_says_what_to_give(client: LiveClient, route: str) -> None:
    assert refused(client, route) == (
        400,
        "Which checkpoint? Give the name that FiT Loader lists.",
    )


def test_a_name_given_twice_is_refused(client: LiveClient) -> None:
    path = f"/fitv2/model?checkpoint={BUNDLED}&checkpoint={BUNDLED}"
    assert refusal(client, path) == (400, "checkpoint was given 2 times. Give it once.")


def test_a_listed_file_that_is_no_fit_is_refused_without_its_path(
    client: LiveClient, named: Path
) -> None:
    named.write_bytes(b"<!doctype html>")
    status, error = refused(client, "model", checkpoint=named.name)
    assert status == 400
    assert error.startswith(f"{named.name}: not a safetensors file")
    assert str(named.parent) not in error


def test_an_unknown_preset_is_refused(client: LiveClient) -> None:
    status, error = refused(client, "model", checkpoint=BUNDLED, preset="fitv2-zz")
    assert status == 400
    assert "fitv2-xl-hr" in error


def test_sizes_are_those_of_the_node(client: LiveClient) -> None:
    ratios = ["1:1", "3:2", "16:9", "2.39:1", "1:3.5"]
    answer = ask(client, "sizes", tokens="256", ratios=",".join(ratios))["sizes"]
    expected = [for_ratio(ratio, 256) for ratio in ratios]
    assert [(s["ratio"], s["width"], s["height"], s["tokens"]) for s in answer] == [
        (ratio, size.width, size.height, size.tokens)
        for ratio, size in zip(ratios, expected, strict=True)
    ]


def test_a_ratio_with_a_comma_is_one_ratio(client: LiveClient) -> None:
    (size,) = ask(client, "sizes", tokens="256", ratios="1,85:1")["sizes"]
    assert (size["width"], size["height"]) == (336, 176)


def test_a_custom_ratio_is_no_size(client: LiveClient) -> None:
    (size,) = ask(client, "sizes", tokens="256", ratio="1,85:1")["sizes"]
    assert (size["width"], size["height"]) == (336, 176)
    for text in ("256x192", "3:2 @ 576", ""):
        (size,) = ask(client, "sizes", tokens="256", ratio=text)["sizes"]
        assert f"'{text}' is not an aspect ratio" in size["error"]


def test_a_size_in_pixels_is_the_nearest_in_whole_tokens(client: LiveClient) -> None:
    (size,) = ask(client, "sizes", tokens="256", ratios="264x300")["sizes"]
    assert (size["width"], size["height"], size["tokens"]) == (256, 304, 304)


def test_a_ratio_that_is_none_has_an_error_and_the_others_a_size(client: LiveClient) -> None:
    good, wide, bad = ask(client, "sizes", tokens="16", ratios="1:1,99:1,wide")["sizes"]
    assert (good["width"], good["height"]) == (64, 64)
    assert wide["error"] == "16 tokens are too few for 99:1: it needs 99 or more."
    assert "'wide' is not a size" in bad["error"]


@pytest.mark.parametrize("ratio", ["", "264x300", "3:2 @ 576", "1:1,3:2"])
def test_a_ratio_alone_is_read_as_the_node_reads_it(client: LiveClient, ratio: str) -> None:
    (size,) = ask(client, "sizes", tokens="256", ratio="2.39:1")["sizes"]
    assert (size["width"], size["height"]) == (384, 160)
    (none,) = ask(client, "sizes", tokens="256", ratio=ratio)["sizes"]
    assert none["error"].startswith(f"{ratio!r} is not an aspect ratio.")


@pytest.mark.parametrize("tokens", ["", "0", "-1", "1.5", "65537", "9" * 3000, "٣", "abc"])
def test_a_budget_that_no_node_takes_is_refused(client: LiveClient, tokens: str) -> None:
    status, error = refused(client, "sizes", tokens=tokens, ratios="1:1")
    assert status == 400
    assert error.startswith("tokens must be a whole number of 1 to 65536")
    assert len(error) < 200


@pytest.mark.parametrize("ratios", ["", ",,", "1:1," * 65])
def test_no_ratio_and_too_many_are_refused(client: LiveClient, ratios: str) -> None:
    assert refused(client, "sizes", tokens="256", ratios=ratios)[0] == 400


def test_labels_are_understood_or_told_why_not_and_what_is_near(client: LiveClient) -> None:
    text = " France;\n0.7*Italy + 0.3*Spain; Frnace"
    entries = ask(client, "labels", checkpoint=BUNDLED, text=text)["entries"]
    assert [text[entry["start"] : entry["end"]] for entry in entries] == [
        entry["text"] for entry in entries
    ]
    one, blend, wrong = entries
    assert one["label"].endswith(" · France")
    assert (len(one["ids"]), len(blend["ids"]), wrong["ids"]) == (1, 2, [])
    assert blend["weights"] == pytest.approx([0.7, 0.3])
    assert one["error"] is None
    assert wrong["label"] is None
    assert "Frnace" in wrong["error"]
    assert "France" in [near["name"] for near in wrong["nearest"]]
    assert ask(client, "labels", checkpoint=BUNDLED, text=" ")["entries"] == []


def test_a_long_text_can_be_posted_and_a_huge_one_is_refused(client: LiveClient) -> None:
    text = "; ".join(["France"] * 3000)
    answer = client.post("/fitv2/labels", {"checkpoint": BUNDLED, "text": text})
    assert len([i for entry in answer["entries"] for i in entry["ids"]]) == 3000
    for size, message in ((100_001, "longer than 100000 characters"), (2**21, "longer than")):
        body = json.dumps({"checkpoint": BUNDLED, "text": "x" * size}).encode()
        status, error = refusal(client, "/fitv2/labels", body)
        assert status == 400
        assert message in error


@pytest.mark.parametrize("body", [b"", b"[]", b'{"text": 1}', b"{" * 10000, b"[" * 100000, b"\xff"])
def test_a_body_that_is_no_object_of_texts_is_refused(client: LiveClient, body: bytes) -> None:
    assert refusal(client, "/fitv2/labels", body) == (
        400,
        "The body must be a JSON object whose values are texts.",
    )


def test_solvers_have_their_own_options(client: LiveClient) -> None:
    answer = ask(client, "solvers")["solvers"]
    assert list(answer) == list(SOLVERS)
    assert answer["euler"] == []
    assert answer["dopri5"] == ["rtol", "atol", "max_evaluations"]
    inputs = client.get("/object_info/FiTSolver")["FiTSolver"]["input"]["required"]
    assert {option for options in answer.values() for option in options} == {*inputs} - {"solver"}


def test_a_class_sheet_is_an_image_with_a_tile_for_each_class(client: LiveClient) -> None:
    assert ask(client, "model", checkpoint=BUNDLED)["has_class_sheet"]
    sheet = ask(client, "class_sheet", checkpoint=BUNDLED)
    kind, _, content = sheet["image"].partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as image:
        columns, rows = image.width // sheet["tile_width"], image.height // sheet["tile_height"]
    assert columns == sheet["columns"]
    assert (rows - 1) * columns < 256 <= rows * columns


def test_a_class_sheet_that_is_missing_or_broken_is_refused(
    client: LiveClient, named: Path, golden_state, golden_config
) -> None:
    save_checkpoint(named, golden_state, Metadata(golden_config, ["x"] * 10))
    assert not ask(client, "model", checkpoint=named.name)["has_class_sheet"]
    status, error = refused(client, "class_sheet", checkpoint=named.name)
    assert status == 404
    assert "written_again.classes.webp" in error
    sheet = named.with_name("written_again.classes.webp")
    sheet.write_bytes(b"RIFF" * 99)
    try:
        status, error = refused(client, "class_sheet", checkpoint=named.name)
    finally:
        sheet.unlink()
    assert (status, error) == (400, "written_again.classes.webp is not a class sheet.")


@pytest.mark.parametrize("run", ["../..", "/etc", "/", "nowhere", "runs/../..", "~/runs"])
def test_a_folder_that_is_no_run_of_the_pack_is_not_found(client: LiveClient, run: str) -> None:
    assert refused(client, "model", run=run, average="") == (404, f'"{run}" is not a run in runs.')
