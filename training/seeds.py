"""Random streams, each named by what decides it: nothing uses a global generator.

A run that resumes, or that is spread over other processes, needs no generator's state: every stream follows from numbers
that are known anyway. Streams of one (seed, epoch) are told apart by their ``Purpose``.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np
import torch


class Purpose(IntEnum):
    """What a stream of (seed, epoch) decides. The numbers are part of a run's identity: never change one."""

    ORDER = 0
    """The order of the examples of an epoch."""
    CROP = 1
    """Which examples are seen cropped."""
    EXAMPLE = 2
    """Everything random about one example: mirroring, label drop, time, posterior and noise."""


def epoch_generator(seed: int, epoch: int, purpose: Purpose) -> np.random.Generator:
    """The stream for all examples of an epoch."""
    return np.random.default_rng([seed, epoch, purpose])


def example_generator(seed: int, epoch: int, index: int) -> torch.Generator:
    """The CPU stream of one example of a latent set in one epoch."""
    return _generator(seed, epoch, Purpose.EXAMPLE, index)


def image_generator(seed: int, index: int) -> torch.Generator:
    """The CPU stream of one image to generate. Neighbouring seeds and indices share nothing."""
    return _generator(seed, index)


def _generator(*entropy: int) -> torch.Generator:
    state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0]))
