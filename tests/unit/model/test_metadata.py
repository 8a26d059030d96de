"""The JSON of a checkpoint: what is written is read back, and so is what older versions wrote."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from comfyui_fitv2 import FiTConfig, LatentFormat, Metadata
from comfyui_fitv2.metadata import SD_LATENT_FORMAT
from comfyui_fitv2.recommendation import Recommendation


def recommending(*values: object) -> dict:
    return {"recommended_extrapolation": list(values)}


CONFIG = FiTConfig(hidden_size=32, depth=2, num_heads=2, num_classes=2, adaln_lora_dim=4)
FACTORS = [[0.1, 0.2, 0.3]] * 4
PRODUCTS = [[0.1, 0.2, 0.3]] * 30
BIAS = [0.0, 0.0, 0.1]


@pytest.mark.parametrize(
    "latent_format",
    [
        None,
        SD_LATENT_FORMAT,
        LatentFormat(0.5, FACTORS, BIAS),
        LatentFormat(0.5, PRODUCTS, BIAS, "products"),
        LatentFormat(0.5, FACTORS, None, "products"),
    ],
)
def test_metadata_is_read_back_as_it_was_written(latent_format: LatentFormat | None) -> None:
    metadata = Metadata(
        CONFIG,
        ["a", "b · ü"],
        latent_format,
        {"steps": 7},
        [["ä", "A, B"], []],
        [Recommendation(1.5, "linear"), Recommendation(None, "yarn", "pro2", False)],
    )
    assert Metadata.from_json(metadata.to_json()) == metadata


def test_what_is_not_known_is_not_written() -> None:
    assert json.loads(Metadata(CONFIG).to_json()) == {"config": asdict(CONFIG)}
    assert LatentFormat(0.5).to_dict() == {"scale_factor": 0.5}


@pytest.mark.parametrize(
    ("old", "kind"),
    [
        ({"scale_factor": 0.5}, "linear"),
        ({"scale_factor": 0.5, "latent_rgb_factors": FACTORS}, "linear"),
        ({"scale_factor": 0.5, "latent_rgb_factors": PRODUCTS}, "products"),
    ],
)
def test_older_files_tell_the_preview_by_the_number_of_factors(old: dict, kind: str) -> None:
    text = json.dumps({"config": asdict(CONFIG), "latent_format": old})
    assert Metadata.from_json(text).latent_format == LatentFormat(**old, preview_kind=kind)


def test_a_configuration_of_an_older_file_may_lack_newer_fields() -> None:
    least = ("hidden_size", "depth", "num_heads", "num_classes", "adaln_lora_dim")
    old = {name: getattr(CONFIG, name) for name in least}
    assert Metadata.from_json(json.dumps({"config": old})).config == CONFIG


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[]", "malformed 'fitv2' metadata"),
        ("{}", "malformed 'fitv2' metadata"),
        ('{"config": {"depth": 1}}', "incomplete configuration"),
        ({"latent_format": {"scale": 1}}, "malformed 'fitv2' metadata"),
        ({"latent_format": {"scale_factor": 1, "preview_kind": "x"}}, "unknown preview_kind 'x'"),
        ({"class_names": ["a"]}, "1 class names for 2 classes"),
        ({"class_synonyms": [["a"]]}, "1 lists of class synonyms for 2 classes"),
        ({"class_synonyms": ["ab", "cd"]}, "class_synonyms must be a list of lists of texts"),
        ({"class_synonyms": {"0": ["a"]}}, "class_synonyms must be a list of lists of texts"),
        ({"class_synonyms": [["a"], ["\ud800"]]}, "class_synonyms must be a list of lists"),
        ({"class_synonyms": [["a"], [3]]}, "class_synonyms must be a list of lists of texts"),
        (recommending({"method": "linear"}), "malformed .*up_to"),
        (recommending({"up_to": 2, "method": "magic"}), "'magic' is unknown"),
        (recommending({"up_to": 2, "method": "auto"}), "must name a method, not 'auto'"),
        (recommending({"up_to": 1, "method": "ntk"}), "up_to must be a number above 1"),
        (recommending({"up_to": True, "method": "ntk"}), "up_to must be a number above 1"),
        (recommending({"up_to": 1e999, "method": "ntk"}), "up_to must be a number above 1"),
        (recommending({"up_to": 2, "method": ["ntk"]}), "method must be a str"),
        (recommending({"up_to": 2, "method": "ntk", "decoupled": 1}), "decoupled must be a bool"),
        (recommending({"up_to": 2, "method": "ntk", "best": 1}), "malformed .*best"),
        (recommending("ntk"), "malformed .*a recommendation must be an object"),
        ({"recommended_extrapolation": "ntk"}, "malformed .*must be a list"),
        (
            recommending({"up_to": None, "method": "ntk"}, {"up_to": 2, "method": "ntk"}),
            "must grow from one to the next",
        ),
    ],
)
def test_what_is_not_such_metadata_is_explained(text: str | dict, message: str) -> None:
    if isinstance(text, dict):
        text = json.dumps({"config": asdict(CONFIG), **text})
    with pytest.raises(ValueError, match=message):
        Metadata.from_json(text)


@pytest.mark.parametrize(
    ("latent_format", "vae", "name", "words"),
    [
        (None, None, None, "the VAE of Stable Diffusion 1.x"),
        (LatentFormat(0.5), None, None, "the VAE that it was trained with"),
        (LatentFormat(0.5), "", None, "the VAE that it was trained with"),
        (LatentFormat(0.5), ["tiny"], None, "the VAE that it was trained with"),
        (LatentFormat(0.5), "tiny", "fit_tiny_vae", "the VAE fit_tiny_vae"),
        (LatentFormat(0.5), "my_vae.safetensors", "my_vae", "the VAE my_vae"),
        (None, "stabilityai/sd-vae-ft-ema", "sd-vae-ft-ema", "the VAE sd-vae-ft-ema"),
    ],
)
def test_the_vae_for_a_models_latents_is_told(
    latent_format: LatentFormat | None, vae: object, name: str | None, words: str
) -> None:
    training = {"config": {"samples": {"vae": vae}}}
    metadata = Metadata(FiTConfig.preset("fitv2-b"), None, latent_format, training)
    assert (metadata.vae_name, metadata.vae) == (name, words)
