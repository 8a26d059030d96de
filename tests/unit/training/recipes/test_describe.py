"""What the recipe writes into a checkpoint's metadata: other names of the flags, and what helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from comfyui_fitv2 import FiT, FiTConfig, Metadata, load_checkpoint, resolve_labels, save_checkpoint
from comfyui_fitv2.labels import LabelError
from comfyui_fitv2.recommendation import Recommendation
from training.recipes.flags.describe import RESULTS, DescribeOptions, describe, recommended
from training.recipes.flags.flags import Flag
from training.recipes.flags.other_names import LANGUAGES, emoji, other_names

CONFIG = FiTConfig(hidden_size=32, depth=1, num_heads=2, num_classes=2, adaln_lora_dim=4)


def test_a_country_has_codes_everyday_names_and_names_in_many_languages() -> None:
    korea = other_names(Flag("kr", "Korea, Republic of", Path()))
    assert korea[:4] == ["South Korea", "KR", "KOR", "🇰🇷"]
    assert {"Südkorea", "Corée du Sud", "韩国", "대한민국", "كوريا الجنوبية"} <= set(korea)
    assert {"UK", "GBR", "Great Britain"} <= set(other_names(Flag("gb", "United Kingdom", Path())))
    assert "Áo" not in other_names(Flag("at", "Austria", Path()))  # AO is Angola's code
    assert other_names(Flag("gb-sct", "Scotland", Path())) == ["GB-SCT", emoji("gb-sct")]
    assert len(set(LANGUAGES)) == len(LANGUAGES)


def test_no_name_is_written_twice_or_is_the_flags_own() -> None:
    names = other_names(Flag("fr", "France", Path()))
    assert len({name.casefold() for name in names}) == len(names)
    assert "France" not in names


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A package of two flags."""
    folder = tmp_path / "package"
    (folder / "png1000px").mkdir(parents=True)
    (folder / "countries.json").write_text(json.dumps({"FI": "Finland", "VN": "Viet Nam"}))
    for code in ("fi", "vn"):
        (folder / "png1000px" / f"{code}.png").touch()
    return folder


def weights_in(file: Path) -> tuple[bytes, object]:
    """The bytes of a safetensors file's weights, and the header that says where each is."""
    content = file.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:end])
    del header["__metadata__"]
    return content[end:], header


def test_the_metadata_is_written_and_the_weights_stay_byte_by_byte(
    tmp_path: Path, package: Path
) -> None:
    file = tmp_path / "flags.safetensors"
    metadata = Metadata(CONFIG, ["Viet Nam", "Finland"], training={"step": 3})
    save_checkpoint(file, FiT(CONFIG).bfloat16().state_dict(), metadata)
    before = weights_in(file)
    describe(DescribeOptions(checkpoint=file, flags=package))
    assert weights_in(file) == before
    loaded = load_checkpoint(file)
    assert loaded.metadata.training == {"step": 3}
    known = loaded.class_names, 2, loaded.class_synonyms
    assert list(map(str, resolve_labels("vietnam, Suomi", *known))) == [
        "0 · Viet Nam",
        "1 · Finland",
    ]
    written = file.stat().st_mtime_ns
    describe(DescribeOptions(checkpoint=file, flags=package))
    assert file.stat().st_mtime_ns == written


def test_a_checkpoint_of_other_classes_is_refused(tmp_path: Path, package: Path) -> None:
    file = tmp_path / "other.safetensors"
    save_checkpoint(file, FiT(CONFIG).state_dict(), Metadata(CONFIG, ["Finland", "Atlantis"]))
    before = file.read_bytes()
    with pytest.raises(ValueError, match=r"other classes than these flags: Finland, Atlantis"):
        describe(DescribeOptions(checkpoint=file, flags=package))
    assert file.read_bytes() == before


def row(scale: str, method: str, top_1: str, distance: str) -> str:
    return f"| native | {scale}× | {method} | 20 | 32 | {top_1}% | {distance} |\n"


def test_the_best_method_of_each_size_is_recommended() -> None:
    table = (
        row("1", "none", "99.0", "0.01")
        + row("1.5", "linear", "100.0", "0.119")
        + row("1.5", "frequency-aware", "100.0", "0.161")
        + row("2", "linear", "80.0", "0.100")
        + row("2", "yarn coupled + pro2", "90.0", "0.200")
        + row("3", "yarn coupled + pro2", "50.0", "0.400")
    )
    assert recommended(table) == [
        Recommendation(1.5, "linear"),
        Recommendation(None, "yarn", "pro2", decoupled=False),
    ]
    with pytest.raises(ValueError, match="report --beyond 32"):
        recommended(row("1", "none", "99.0", "0.01"))


def test_the_shipped_results_recommend_linear() -> None:
    assert recommended(RESULTS.read_text(encoding="utf-8")) == [Recommendation(None, "linear")]


EVERYDAY = {
    "USA": "United States",
    "UK": "United Kingdom",
    "South Korea": "Korea, Republic of",
    "North Korea": "Korea, Democratic People's Republic of",
    "Russia": "Russian Federation",
    "Vietnam": "Viet Nam",
    "Laos": "Lao People's Democratic Republic",
    "Syria": "Syrian Arab Republic",
    "Ivory Coast": "Côte d'Ivoire",
    "Czechia": "Czech Republic",
    "Vatican": "Holy See (Vatican City State)",
    "Holland": "Netherlands",
    "Türkiye": "Turkey",
    "DR Congo": "Congo, the Democratic Republic of the",
    "North Macedonia": "Macedonia, the former Yugoslav Republic of",
    "Cabo Verde": "Cape Verde",
    "AO": "Angola",
    "NGA": "Nigeria",
    "U.S.": "United States",
    "🇯🇵": "Japan",
    "Deutschland": "Germany",
    "Allemagne": "Germany",
    "Alemania": "Germany",
    "Germania": "Germany",
    "Alemanha": "Germany",
    "Германия": "Germany",
    "德国": "Germany",
    "ドイツ": "Germany",
    "ألمانيا": "Germany",
}


def test_the_bundled_checkpoint_knows_everyday_names(bundled_checkpoint: Path) -> None:
    loaded = load_checkpoint(bundled_checkpoint)
    known = loaded.class_names, 256, loaded.class_synonyms
    for typed, name in EVERYDAY.items():
        [label] = resolve_labels(typed, *known)
        assert str(label).endswith(f"· {name}"), typed
    both = resolve_labels("Finland, France", *known)
    assert list(map(str, both)) == ["75 · Finland", "76 · France"]
    for typed in ("Korea", "Virgin Islands"):
        with pytest.raises(LabelError, match=f'"{typed}" could be .* or '):
            resolve_labels(typed, *known)
    recommended = loaded.metadata.recommended_extrapolation
    assert recommended == [Recommendation(None, "linear")]


def test_every_iso_code_is_one_class(bundled_checkpoint: Path) -> None:
    loaded = load_checkpoint(bundled_checkpoint)
    known = loaded.class_names, 256, loaded.class_synonyms
    codes = [text for texts in loaded.class_synonyms or () for text in texts if text.isupper()]
    short = [text for text in codes if len(text) in (2, 3) and text.isascii()]
    assert len(short) > 490
    for code in short:
        assert len(resolve_labels(code.lower(), *known)) == 1
