"""Moving averages of the trained weights, in fp32, one per decay."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

_YOUNG = 10


class EMA:
    """Averages of ``parameters`` by name; sharded weights have sharded averages.

    After n updates the decay is min(decay, (1 + n) / (10 + n)): an average that is younger than its
    horizon would mostly be the initial weights.
    """

    def __init__(self, parameters: Mapping[str, Tensor], decays: Iterable[float]) -> None:
        self.parameters = dict(parameters)
        self.averages = {
            decay: {name: value.detach().float().clone() for name, value in self.parameters.items()}
            for decay in decays
        }
        self.updates = 0

    @torch.no_grad()
    def update(self) -> None:
        """Move every average towards the parameters."""
        values = [value.detach().float() for value in self.parameters.values()]
        for decay, average in self.averages.items():
            step = get_ema_multi_avg_fn(min(decay, (1 + self.updates) / (_YOUNG + self.updates)))
            step(list(average.values()), values, None)
        self.updates += 1

    @contextmanager
    def in_place(self, decay: float) -> Iterator[None]:
        """Within it the parameters are the average; afterwards they are restored bit for bit."""
        saved = {name: value.detach().clone() for name, value in self.parameters.items()}
        try:
            self._write(self.averages[decay])
            yield
        finally:
            self._write(saved)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self.parameters.items():
            parameter.copy_(values[name])
