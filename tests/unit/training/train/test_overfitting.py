"""When a run is said to overfit, and when not."""

import pytest

from training.train.overfitting import Measurement, best, overfits_since


def measurements(held_out: list[float], training: list[float]) -> list[Measurement]:
    pairs = zip(held_out, training, strict=True)
    return [Measurement(100 * i, *losses) for i, losses in enumerate(pairs, start=1)]


FALLING = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5]


@pytest.mark.parametrize(
    ("held_out", "training", "step"),
    [
        ([1.0, 0.9, 0.85, 0.86, 0.87, 0.88], FALLING, 300),
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5], FALLING, None),
        ([1.0, 0.9, 0.85, 0.8501, 0.8502, 0.8503], FALLING, None),
        ([1.0, 0.9, 0.85, 0.84, 0.87, 0.88], FALLING, None),
        ([1.0, 0.9, 0.85, 0.88, 0.84, 0.88], FALLING, None),
        ([1.0, 0.9, 0.85, 0.86, 0.87, 0.88], [1.0, 0.9, 0.8, 0.9, 1.0, 1.1], None),
    ],
    ids=["overfits", "learns", "stands still", "two are worse", "has recovered", "diverges"],
)
def test_overfitting_is_held_out_loss_that_stays_up_while_training_loss_falls(
    held_out: list[float], training: list[float], step: int | None
) -> None:
    found = overfits_since(measurements(held_out, training))
    assert (found and found.step) == step


def test_nothing_is_said_before_anything_is_known() -> None:
    assert overfits_since([]) is best([]) is None
    assert overfits_since([Measurement(1, 0.5, None), Measurement(2, 0.6, 0.1)]) is None
