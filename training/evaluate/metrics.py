"""FID, sFID, IS, precision and recall of features, computed by torch-fidelity.

torch-fidelity documents only ``calculate_metrics``, which measures whole folders with one network.
The functions imported here are not part of its public interface; they were checked with version
0.4.0. Nothing else in the trainer uses more of it than the base classes of feature extractors.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch_fidelity.metric_fid import (
    KEY_METRIC_FID,
    fid_features_to_statistics,
    fid_statistics_to_metric,
)
from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, isc_features_to_metric
from torch_fidelity.metric_prc import (
    KEY_METRIC_PRECISION,
    KEY_METRIC_RECALL,
    prc_features_to_metric,
)

INCEPTION_METRICS: tuple[str, ...] = ("FID", "sFID", "IS", "precision", "recall")
RANDOM_FEATURE_METRICS: tuple[str, ...] = (
    "random-feature distance",
    "spatial random-feature distance",
    "random-feature score",
    "precision",
    "recall",
)
"""The same metrics, in the same order, of features that are not the Inception network's."""
LOWER_IS_BETTER = (*INCEPTION_METRICS[:2], *RANDOM_FEATURE_METRICS[:2])
NEIGHBOURS = 3
"""For precision and recall the neighbourhood of an image reaches to its third nearest neighbour
(arXiv 1904.06991)."""
_SPLITS, _SPLIT_SEED = 10, 2020

Statistics = dict[str, np.ndarray]
"""Mean ``mu`` (features,) and covariance ``sigma`` (features, features)."""


def feature_statistics(features: Tensor) -> Statistics:
    """The statistics of ``features`` (images, features), computed in fp64."""
    return fid_features_to_statistics(features.double())


def frechet_distance(one: Statistics, other: Statistics) -> float:
    """The Fréchet distance of two Gaussians (arXiv 1706.08500): FID for Inception's features.

    Rounding can make that of equal sets slightly negative; it is 0 then.
    """
    return max(fid_statistics_to_metric(one, other, verbose=False)[KEY_METRIC_FID], 0.0)


def inception_score(logits: Tensor) -> float:
    """The inception score (arXiv 1606.03498) of ``logits`` (images, classes)."""
    splits = min(_SPLITS, len(logits) // 2)
    return isc_features_to_metric(logits, splits, rng_seed=_SPLIT_SEED)[KEY_METRIC_ISC_MEAN]


def precision_and_recall(generated: Tensor, reference: Tensor) -> tuple[float, float]:
    """Improved precision and recall (arXiv 1904.06991) of features (images, features)."""
    metrics = prc_features_to_metric(
        generated, reference, prc_neighborhood=NEIGHBOURS, save_cpu_ram=True, verbose=False
    )
    return metrics[KEY_METRIC_PRECISION], metrics[KEY_METRIC_RECALL]
