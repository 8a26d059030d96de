"""What the results of a study say, as sections of a page whose headings follow from the numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise, product

from .config import ABLATION, CONVERGENCE, SHAPES, Comparison
from .curves import MEASURES, Model, crossing, exponent, speed
from .spread import HIGHER, LOWER, NO_DIFFERENCE, UNKNOWN, difference

_NOTHING = {
    NO_DIFFERENCE: "no difference beyond the spread",
    UNKNOWN: "one seed, so nothing can be said",
}
_ORDER = (LOWER, HIGHER, NO_DIFFERENCE, UNKNOWN)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def sections(models: Sequence[Model], compared: Sequence[Comparison]) -> list[str]:
    """All sections for which there are results, as lines."""
    lines: list[str] = []
    for section in (
        _convergence(_pairs(models, compared, CONVERGENCE)),
        _sizes(models),
        _ablation(_pairs(models, compared, ABLATION)),
        _shapes(_pairs(models, compared, SHAPES)),
        _all_models(models),
    ):
        lines += [*section, ""] if section else []
    return lines[:-1]


Pair = tuple[str, Model, Model]
"""A change, the model without it, and the one with it."""


def _pairs(models: Sequence[Model], compared: Sequence[Comparison], part: str) -> list[Pair]:
    """The pairs of one size that were both trained."""
    by_name = {(model.variant, model.size): model for model in models}
    return [
        (comparison.change, by_name[comparison.before, size], by_name[comparison.after, size])
        for comparison in compared
        if comparison.part == part
        for size in dict.fromkeys(model.size for model in models)
        if {(comparison.before, size), (comparison.after, size)} <= by_name.keys()
    ]


def _convergence(pairs: Sequence[Pair]) -> list[str]:
    verdicts, rows, unreached = [], [], []
    for (_, slow, fast), measure in product(pairs, MEASURES):
        if not all(curve.track(measure) for model in (slow, fast) for curve in model.curves):
            continue
        found = speed(slow, fast, measure)
        if found is None:
            unreached.append(f"{slow.name} and {fast.name} have no {measure} in common.")
            continue
        verdicts.append(
            {
                HIGHER: f"{fast.name} needs fewer steps than {slow.name} to the same {measure}",
                LOWER: f"{slow.name} needs fewer steps than {fast.name} to the same {measure}",
            }.get(
                found.steps.verdict,
                f"{fast.name} against {slow.name} by {measure}: "
                f"{_NOTHING.get(found.steps.verdict)}",
            )
        )
        to = f"{measure} {found.value:.{4 if measure == 'loss' else 2}f}"
        rows.append([slow.name, fast.name, to, found.steps.text(), found.flops.text()])
    if not pairs:
        return []
    lines = [f"## Speed of convergence: {'; '.join(verdicts) or 'not comparable'}", ""]
    if rows:
        lines += [
            "How many times the steps and the FLOPs of the second model the first one needs to the "
            "lowest held-out loss, and to the lowest distance of generated images, that all runs "
            "of both reach (the paper reports about 2 × the steps for FiT):",
            "",
            *table(["first", "second", "to", "steps", "FLOPs"], rows),
        ]
    return [*lines, *(["", *unreached] if unreached else [])]


def _sizes(models: Sequence[Model]) -> list[str]:
    verdicts, rows = [], []
    for variant in dict.fromkeys(model.variant for model in models):
        for small, large in pairwise(model for model in models if model.variant == variant):
            flops = min(c.points[-1].flops for m in (small, large) for c in m.curves)
            before, after = small.loss_at(flops), large.loss_at(flops)
            if before is None or after is None:
                continue
            change = difference(before, after)
            verdicts.append(
                {
                    LOWER: f"{large.name} beats {small.name}",
                    HIGHER: f"{small.name} beats {large.name}",
                }.get(
                    change.verdict,
                    f"{large.name} against {small.name}: {_NOTHING.get(change.verdict)}",
                )
            )
            crossed = crossing(small.mean, large.mean)
            rows.append(
                [
                    small.name,
                    large.name,
                    f"{flops:.3g}",
                    before.text(),
                    after.text(),
                    change.text(),
                    "–" if crossed is None else f"{crossed:.3g}",
                ]
            )
    if not rows:
        return []
    head = ["smaller", "larger", "FLOPs", "its loss", "loss of the larger", "difference"]
    return [
        f"## Sizes at equal compute: {'; '.join(verdicts)}",
        "",
        "The losses after the same compute, the most that all runs of both have had. The last "
        "column is the compute from which on the mean loss of the larger one is lower.",
        "",
        *table([*head, "larger is lower from"], rows),
    ]


def _ablation(pairs: Sequence[Pair]) -> list[str]:
    if not pairs:
        return []
    sampled = _with_distances(pairs)
    by_loss: dict[str, list[str]] = {verdict: [] for verdict in _ORDER}
    by_distance: dict[str, list[str]] = {verdict: [] for verdict in _ORDER}
    rows = []
    for change, before, after in pairs:
        name = _main_set(before)
        found = difference(before.loss_on(name), after.loss_on(name))
        by_loss[found.verdict].append(change)
        row = [
            change,
            f"{before.name} → {after.name}",
            before.loss_on(name).text(),
            after.loss_on(name).text(),
            f"{found.text()}: {_said(found.verdict)}",
        ]
        for held_out in sampled:
            apart = difference(before.distance_on(held_out), after.distance_on(held_out))
            if held_out == sampled[0]:
                by_distance[apart.verdict].append(change)
            row.append(f"{apart.text(2)}: {_said(apart.verdict)}")
        rows.append(row)
    distances = [f"change of the distance, {held_out}" for held_out in sampled]
    head = ["change", "models", "loss before", "loss after", "change of the loss", *distances]
    return [
        f"## One change at a time, by the held-out loss: {_by(by_loss)}",
        "",
        *(
            [f"By the distance of generated images, {sampled[0]}: {_by(by_distance)}. "]
            if sampled
            else []
        ),
        "Logit-normal times train most where the held-out loss measures most, so for them and for "
        "the rectified flow the distance says more.",
        "",
        *table(head, rows),
    ]


def _shapes(pairs: Sequence[Pair]) -> list[str]:
    lines: list[str] = []
    for change, before, after in pairs:
        rows, verdicts = [], []
        for held_out in before.curves[0].losses:
            found = difference(before.loss_on(held_out), after.loss_on(held_out))
            verdicts.append(f"{held_out} {_said(found.verdict)}")
            row = [
                held_out,
                before.loss_on(held_out).text(),
                after.loss_on(held_out).text(),
                f"{found.text()}: {_said(found.verdict)}",
            ]
            if _with_distances(pairs):
                row += _distance_cells(before, after, held_out)
            rows.append(row)
        head = ["drawings", f"{before.name}: loss", f"{after.name}: loss", "change"]
        if _with_distances(pairs):
            head += [f"{before.name}: distance", f"{after.name}: distance", "change"]
        lines += [
            *([""] if lines else []),
            f"## {change}, size {before.size}: loss on {'; '.join(verdicts)}",
            "",
            *table(head, rows),
        ]
    return lines


def _distance_cells(before: Model, after: Model, held_out: str) -> list[str]:
    if any(held_out not in c.distances for m in (before, after) for c in m.curves):
        return ["–"] * 3
    one, other = before.distance_on(held_out), after.distance_on(held_out)
    apart = difference(one, other)
    return [one.text(2), other.text(2), f"{apart.text(2)}: {_said(apart.verdict)}"]


def _all_models(models: Sequence[Model]) -> list[str]:
    losses = [*models[0].curves[0].losses] if models else []
    distances = [*models[0].curves[0].distances] if models else []
    rows = []
    for model in models:
        end = model.mean.points[-1]
        rows.append(
            [
                model.name,
                f"{model.curves[0].parameters / 1e6:.2f} M",
                ", ".join(str(curve.seed) for curve in model.curves),
                f"{end.step:,}",
                f"{end.flops:.3g}",
                *(model.loss_on(name).text() for name in losses),
                *(model.distance_on(name).text(2) for name in distances),
                f"{exponent(model.mean):.3f}",
                f"{sum(curve.cpu_seconds for curve in model.curves) / 60:.0f}",
            ]
        )
    head = ["model", "parameters", "seeds", "steps", "FLOPs", *(f"loss: {n}" for n in losses)]
    head += [*(f"distance: {n}" for n in distances), "exponent of compute", "CPU minutes"]
    return ["## All models", "", *table(head, rows)]


def _main_set(model: Model) -> str:
    """The held-out set of the curves."""
    return next(iter(model.curves[0].losses))


def _with_distances(pairs: Sequence[Pair]) -> list[str]:
    """The held-out sets whose distance is known of every model of the pairs."""
    curves = [c for _, before, after in pairs for m in (before, after) for c in m.curves]
    return [n for n in curves[0].distances if all(n in c.distances for c in curves)]


def _by(verdicts: Mapping[str, Sequence[str]]) -> str:
    """The changes of each verdict, such as "lower: QK-norm; higher: crops too"."""
    return "; ".join(f"{_said(v)}: {', '.join(names)}" for v, names in verdicts.items() if names)


def _said(verdict: str) -> str:
    return _NOTHING.get(verdict, verdict)
