"""FID, sFID, IS, precision and recall of a set of pictures, by torch-fidelity's functions."""

from __future__ import annotations

from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_statistics_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

from .feature_set import NEIGHBOURS, FeatureSet, Statistics

METRICS = ("FID", "sFID", "IS", "precision", "recall")
LOWER_IS_BETTER = ("FID", "sFID")


def compare(drawn: FeatureSet, reference: FeatureSet) -> dict[str, float]:
    """Each of ``METRICS`` of ``drawn`` pictures against a ``reference``."""
    neighbours = prc_features_to_metric(
        drawn.pooled,
        reference.pooled,
        prc_neighborhood=NEIGHBOURS,
        save_cpu_ram=True,
        verbose=False,
    )
    return {
        "FID": _frechet_distance(drawn.pooled_statistics, reference.pooled_statistics),
        "sFID": _frechet_distance(drawn.spatial_statistics, reference.spatial_statistics),
        "IS": drawn.inception_score,
        "precision": neighbours[KEY_METRIC_PRECISION],
        "recall": neighbours[KEY_METRIC_RECALL],
    }


def _frechet_distance(one: Statistics, other: Statistics) -> float:
    return fid_statistics_to_metric(one, other, verbose=False)[KEY_METRIC_FID]
