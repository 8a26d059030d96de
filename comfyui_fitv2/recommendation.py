"""Which extrapolation a checkpoint recommends beyond its trained size, as its metadata says it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from .untrusted_json import is_finite_number


@dataclass(frozen=True, slots=True)
class Recommendation:
    """The extrapolation that was measured to be best for images up to a size.

    Raises ``ValueError`` for an ``up_to`` that is not a finite number above 1, and for fields of
    another type. ``require_known`` checks the names.
    """

    up_to: float | None
    """Largest factor of the longer side, in trained lengths; None for all that are larger."""
    method: str
    """One of ``extrapolation.ALL_METHODS``."""
    attention_scale: str = "none"
    """One of ``extrapolation.ATTENTION_SCALES``."""
    decoupled: bool = True
    """Whether height and width are stretched independently."""

    def __post_init__(self) -> None:
        if self.up_to is not None and not (is_finite_number(self.up_to) and self.up_to > 1):
            raise ValueError(f"up_to must be a number above 1 or null, not {self.up_to!r}")
        for name, kind in (("method", str), ("attention_scale", str), ("decoupled", bool)):
            value = getattr(self, name)
            if not isinstance(value, kind):
                raise ValueError(f"{name} must be a {kind.__name__}, not {value!r}")

    def to_dict(self) -> dict[str, Any]:
        """All fields, for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Recommendation:
        """Raises ``TypeError`` for unknown and missing fields, and ``ValueError`` as the class."""
        if not isinstance(values, Mapping):
            raise TypeError(f"a recommendation must be an object, not {type(values).__name__}")
        return cls(**values)
