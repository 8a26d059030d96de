"""Made-up results of a study."""

from training.scaling.curves import Curve, Point


def power_law(
    scale: float,
    exponent: float,
    variant: str = "FiTv2",
    size: str = "S",
    seed: int = 0,
    flops_per_step: int = 10,
    parameters: int = 1000,
) -> Curve:
    """A run whose loss falls as ``scale`` · step^−``exponent``.

    The distance is ten times that, and the error a tenth.
    """
    points = [
        Point(
            step,
            step * flops_per_step,
            scale * step**-exponent,
            10 * scale * step**-exponent if step >= 8 else None,
            0.1 * scale * step**-exponent if step >= 8 else None,
        )
        for step in (2**i for i in range(8))
    ]
    end = points[-1].loss
    return Curve(
        variant,
        size,
        seed,
        parameters,
        points,
        losses={"trained shapes": end, "larger": 2 * end},
        distances={"trained shapes": 10 * end},
        errors={"trained shapes": 0.1 * end},
        cpu_seconds=3600,
    )


def seeds(
    scale: float,
    exponent: float,
    spread: float = 0.01,
    *,
    variant: str = "FiTv2",
    size: str = "S",
    parameters: int = 1000,
) -> list[Curve]:
    """Three runs whose scales differ by a share of ``spread``."""
    return [
        power_law(
            scale * (1 + spread * (seed - 1)),
            exponent,
            variant,
            size,
            seed,
            parameters=parameters,
        )
        for seed in range(3)
    ]
