"""The page of a study says where its figures come from."""

from dataclasses import replace
from pathlib import Path

from support.study_curves import seeds

from training.scaling.config_file import read_scaling_config
from training.scaling.distances import Quality
from training.scaling.page import About, markdown, write_page

FLOORS = {
    "trained shapes": {
        "other drawings": Quality(0.75, 0.02),
        "reconstructed": Quality(1.5, 0.03),
        "blurred": Quality(30.0, 0.5),
    }
}
ABOUT = About("python -m training.scaling --output runs/x", 2, FLOORS, 6)


def test_a_page_names_its_command_seeds_cost_and_what_is_missing(tmp_path: Path) -> None:
    config = read_scaling_config("laptop")
    curves = seeds(1.0, 0.5)
    write_page(curves, config, ABOUT, tmp_path / "docs" / "scaling")
    text = (tmp_path / "docs" / "scaling" / "README.md").read_text(encoding="utf-8")
    assert text == f"{markdown(curves, config, ABOUT)}\n"
    assert "`python -m training.scaling --output runs/x`. 3 runs, seeds 0, 1, 2, 3.0 hours" in text
    assert "Not finished: 3 of 6 runs" in text
    assert "| trained shapes | 0.75 | 0.020 | 1.50 | 0.030 | 30.00 | 0.500 |" in text
    assert "±" in text
    assert "3:1 and 1:3: 32 drawings of at most 96² pixels" in text
    assert "1,024 tokens a step, Muon and AdamW, the learning rate 0.003 (constant)" in text
    assert "decay 0.99 is" in text


def test_a_finished_study_is_not_called_unfinished() -> None:
    curves = [*seeds(1.0, 0.5), *seeds(2.0, 0.5, variant="FiT")]
    assert "Not finished" not in markdown(curves, read_scaling_config("laptop"), ABOUT)


def test_a_page_ends_with_the_remarks_of_the_study() -> None:
    config = replace(read_scaling_config("quick"), remarks=["Rates were tried.", "And sizes."])
    assert markdown(seeds(1.0, 0.5), config, ABOUT).endswith("- Rates were tried.\n- And sizes.")
    plain = replace(config, remarks=[])
    assert "Remarks" not in markdown(seeds(1.0, 0.5), plain, ABOUT)
