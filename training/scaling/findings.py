"""What the results of a study say: sections of a page that begin with what the numbers show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise, product

from .config import ABLATION, CONVERGENCE, OPTIONS, SHAPES, Comparison
from .curves import DIGITS, MEASURES, Measure, Model, crossing, exponent, speed
from .spread import HIGHER, LOWER, NO_DIFFERENCE, UNKNOWN, difference

_NOTHING = {
    NO_DIFFERENCE: "no difference beyond the spread",
    UNKNOWN: "one seed, so nothing can be said",
}
_LOGIT_NORMAL = (
    "Logit-normal times train most where the held-out loss measures most, so for them and for the "
    "rectified flow the distance and the error say more."
)
_OF: dict[Measure, str] = {
    "loss": "held-out loss",
    "distance": "distance of generated images",
    "error": "error of generated images",
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
        _options(_pairs(models, compared, OPTIONS)),
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
        to = f"{measure} {found.value:.{DIGITS[measure]}f}"
        rows.append([slow.name, fast.name, to, found.steps.text(), found.flops.text()])
    if not pairs:
        return []
    lines = ["## Speed of convergence", "", *_claims(verdicts or ["Not comparable"]), ""]
    if rows:
        lines += [
            "How many times the steps and the FLOPs of the second model the first one needs to the "
            "lowest held-out loss, and to the lowest distance and error of generated images, that "
            "all runs of both reach (the paper reports about 2 × the steps for FiT):",
            "",
            *table(["first", "second", "to", "steps", "FLOPs"], rows),
        ]
    return [*lines, *(["", *unreached] if unreached else [])]


def _sizes(models: Sequence[Model]) -> list[str]:
    verdicts, rows = [], []
    for variant in dict.fromkeys(model.variant for model in models):
        ladder = [model for model in models if model.variant == variant]
        of_variant = pairwise(sorted(ladder, key=lambda model: model.curves[0].parameters))
        for (small, large), measure in product(of_variant, MEASURES):
            flops = min(c.points[-1].flops for m in (small, large) for c in m.curves)
            before, after = small.at(flops, measure), large.at(flops, measure)
            if before is None or after is None:
                continue
            change = difference(before, after)
            verdicts.append(
                {
                    LOWER: f"{large.name} beats {small.name} by {measure}",
                    HIGHER: f"{small.name} beats {large.name} by {measure}",
                }.get(
                    change.verdict,
                    f"{large.name} against {small.name} by {measure}: "
                    f"{_NOTHING.get(change.verdict)}",
                )
            )
            crossed = crossing(small.mean, large.mean) if measure == "loss" else None
            digits = DIGITS[measure]
            rows.append(
                [
                    small.name,
                    large.name,
                    f"{flops:.3g}",
                    measure,
                    before.text(digits),
                    after.text(digits),
                    change.text(digits),
                    "–" if crossed is None else f"{crossed:.3g}",
                ]
            )
    if not rows:
        return []
    head = ["smaller", "larger", "FLOPs", "measure", "of the smaller", "of the larger"]
    return [
        "## Sizes at equal compute",
        "",
        *_claims(verdicts),
        "",
        "After the same compute, the most that all runs of both have had. The last column is the "
        "compute from which on the mean loss of the larger one is lower.",
        "",
        *table([*head, "difference", "larger is lower from"], rows),
    ]


def _ablation(pairs: Sequence[Pair]) -> list[str]:
    return _changes(pairs, "One change at a time", _LOGIT_NORMAL)


def _options(pairs: Sequence[Pair]) -> list[str]:
    return _changes(pairs, "Training options", "")


def _changes(pairs: Sequence[Pair], title: str, note: str) -> list[str]:
    """A section on pairs that differ by one change each: a row per pair and measure."""
    if not pairs:
        return []
    measures: list[Measure] = [m for m in MEASURES if _measured(pairs, m)]
    said: dict[Measure, dict[str, list[str]]] = {
        measure: {verdict: [] for verdict in _ORDER} for measure in measures
    }
    rows = []
    for (change, before, after), measure in product(pairs, measures):
        for held_out in _measured(pairs, measure)[: 1 if measure == "loss" else None]:
            one, other = before.end(measure, held_out), after.end(measure, held_out)
            found = difference(one, other)
            if held_out == _main_set(before):
                said[measure][found.verdict].append(change)
            digits = DIGITS[measure]
            rows.append(
                [
                    change,
                    f"{before.name} → {after.name}",
                    f"{measure}, {held_out}",
                    one.text(digits),
                    other.text(digits),
                    f"{found.text(digits)}: {_said(found.verdict)}",
                ]
            )
    return [
        f"## {title}",
        "",
        *_claims(
            f"By the {_OF[measure]}, {_main_set(pairs[0][1])}: {_by(said[measure])}"
            for measure in measures
        ),
        *(["", note] if note else []),
        "",
        *table(["change", "models", "measure", "before", "after", "difference"], rows),
    ]


def _shapes(pairs: Sequence[Pair]) -> list[str]:
    lines: list[str] = []
    for change, before, after in pairs:
        rows = []
        said: dict[Measure, dict[str, list[str]]] = {}
        for measure in MEASURES:
            for held_out in _measured(pairs, measure):
                one, other = before.end(measure, held_out), after.end(measure, held_out)
                found = difference(one, other)
                of_measure = said.setdefault(measure, {verdict: [] for verdict in _ORDER})
                of_measure[found.verdict].append(held_out)
                digits = DIGITS[measure]
                rows.append(
                    [
                        measure,
                        held_out,
                        one.text(digits),
                        other.text(digits),
                        f"{found.text(digits)}: {_said(found.verdict)}",
                    ]
                )
        lines += [
            *([""] if lines else []),
            f"## {change}, size {before.size}",
            "",
            *_claims(f"By the {_OF[measure]}, {_by(of)}" for measure, of in said.items()),
            "",
            *table(["measure", "drawings", before.name, after.name, "difference"], rows),
        ]
    return lines


def _all_models(models: Sequence[Model]) -> list[str]:
    first = models[0].curves[0]
    ends: list[tuple[Measure, str]] = [(m, name) for m in MEASURES for name in first.ends(m)]
    rows = []
    for model in models:
        last = model.mean.points[-1]
        rows.append(
            [
                model.name,
                f"{model.curves[0].parameters / 1e6:.2f} M",
                ", ".join(str(curve.seed) for curve in model.curves),
                f"{last.step:,}",
                f"{last.flops:.3g}",
                *(model.end(measure, name).text(DIGITS[measure]) for measure, name in ends),
                f"{exponent(model.mean):.3f}",
                f"{sum(curve.cpu_seconds for curve in model.curves) / 60:.0f}",
            ]
        )
    head = ["model", "parameters", "seeds", "steps", "FLOPs"]
    head += [*(f"{measure}: {name}" for measure, name in ends), "exponent of compute"]
    return ["## All models", "", *table([*head, "CPU minutes"], rows)]


def _claims(sentences: Iterable[str]) -> list[str]:
    return [f"- {sentence}." for sentence in sentences]


def _main_set(model: Model) -> str:
    """The held-out set of the curves."""
    return next(iter(model.curves[0].losses))


def _measured(pairs: Sequence[Pair], measure: Measure) -> list[str]:
    """The held-out sets on which every model of the pairs was measured."""
    curves = [c for _, before, after in pairs for m in (before, after) for c in m.curves]
    return [n for n in curves[0].ends(measure) if all(n in c.ends(measure) for c in curves)]


def _by(verdicts: Mapping[str, Sequence[str]]) -> str:
    """The changes of each verdict, such as "lower: QK-norm; higher: crops too"."""
    return "; ".join(f"{_said(v)}: {', '.join(names)}" for v, names in verdicts.items() if names)


def _said(verdict: str) -> str:
    return _NOTHING.get(verdict, verdict)
