"""What the results of a study say: sections of a page that begin with what the numbers show."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise, product

from .config import ABLATION, CONVERGENCE, PARTS, SHAPES, Comparison
from .curves import DIGITS, MEASURES, Measure, Model, crossing, exponent, speed, variants_of
from .spread import HIGHER, LOWER, NO_DIFFERENCE, UNKNOWN, Spread, difference

SIZES = "sizes"
_NOTHING = {
    NO_DIFFERENCE: "no difference beyond the spread",
    UNKNOWN: "nothing can be said of one seed",
}
_LOGIT_NORMAL = (
    "Logit-normal times train most where the held-out loss measures most, so for them and for the "
    "rectified flow the distance and the error say more."
)
_OF: dict[Measure, str] = {
    "loss": "Held-out loss",
    "distance": "Distance of generated images",
    "error": "Error of generated images",
}
_ORDER = (LOWER, HIGHER, NO_DIFFERENCE, UNKNOWN)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """The lines of a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def sections(models: Sequence[Model], compared: Sequence[Comparison]) -> list[str]:
    """All sections for which there are results, as lines."""
    lines: list[str] = []
    for title, section in (
        (CONVERGENCE, _convergence(_pairs(models, compared, CONVERGENCE))),
        (SIZES, _sizes(_rungs(models))),
        (ABLATION, _ablation(_pairs(models, compared, ABLATION))),
        (SHAPES, _shapes(_pairs(models, compared, SHAPES))),
        ("", _all_models(models)),
    ):
        plot = [f"![The models of this section]({title}.png)", ""] if title and section else []
        lines += [*section[:2], *plot, *section[2:], ""] if section else []
    return lines[:-1]


def plotted(models: Sequence[Model], compared: Sequence[Comparison]) -> dict[str, list[Model]]:
    """The models of each section that has a plot, by the name of its file without ``.png``."""
    shown = {SIZES: {model.name for rung in _rungs(models) for model in (rung.small, rung.large)}}
    for part in PARTS:
        shown[part] = {m.name for _, *pair in _pairs(models, compared, part) for m in pair}
    return {
        part: [model for model in models if model.name in names]
        for part, names in shown.items()
        if names
    }


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
        if size in comparison.sizes or not comparison.sizes
        if {(comparison.before, size), (comparison.after, size)} <= by_name.keys()
    ]


def _convergence(pairs: Sequence[Pair]) -> list[str]:
    said: _Said = {}
    unreached: dict[str, list[Measure]] = {}
    rows = []
    for (_, slow, fast), measure in product(pairs, MEASURES):
        if not all(curve.track(measure) for model in (slow, fast) for curve in model.curves):
            continue
        found = speed(slow, fast, measure)
        if found is None:
            unreached.setdefault(f"{slow.name} and {fast.name}", []).append(measure)
            continue
        wins = "{} needs fewer steps than {} to the same "
        sentence = _around(fast, slow, wins, found.steps.verdict, HIGHER)
        said.setdefault(sentence, []).append(measure)
        to = f"{measure} {found.value:.{DIGITS[measure]}f}"
        rows.append([slow.name, fast.name, to, found.steps.text(), found.flops.text()])
    if not pairs:
        return []
    lines = ["## Speed of convergence", "", *_claims(_sentences(said) or ["Not comparable"]), ""]
    if rows:
        lines += [
            "How many times the steps and the FLOPs of the second model the first one needs to the "
            "lowest held-out loss, and to the lowest distance and error of generated images, that "
            "all runs of both reach (the paper reports about 2 × the steps for FiT):",
            "",
            *table(["first", "second", "to", "steps", "FLOPs"], rows),
        ]
    if unreached:
        what = "; ".join(f"{pair} by {_listed(of)}" for pair, of in unreached.items())
        lines += ["", f"Not compared, because one run begins below the lowest of another: {what}."]
    return lines


@dataclass(frozen=True, slots=True)
class _Rung:
    """Two neighbouring sizes of a variant, by one measure after the same compute."""

    small: Model
    large: Model
    measure: Measure
    flops: int
    """The most that all runs of both have had."""
    before: Spread
    """Of the smaller one."""
    after: Spread
    """Of the larger one."""


def _rungs(models: Sequence[Model]) -> list[_Rung]:
    """The neighbours of every variant that has several sizes, by every measure they share."""
    rungs = []
    for variant in variants_of(models):
        ladder = [model for model in models if model.variant == variant]
        neighbours = pairwise(sorted(ladder, key=lambda model: model.curves[0].parameters))
        for (small, large), measure in product(neighbours, MEASURES):
            flops = min(c.points[-1].flops for m in (small, large) for c in m.curves)
            before, after = small.at(flops, measure), large.at(flops, measure)
            if before is not None and after is not None:
                rungs.append(_Rung(small, large, measure, flops, before, after))
    return rungs


def _sizes(rungs: Sequence[_Rung]) -> list[str]:
    if not rungs:
        return []
    said: _Said = {}
    rows = []
    for rung in rungs:
        small, large, measure = rung.small, rung.large, rung.measure
        change = difference(rung.before, rung.after)
        sentence = _around(large, small, "{} beats {} by ", change.verdict, LOWER)
        said.setdefault(sentence, []).append(measure)
        crossed = crossing(small.mean, large.mean) if measure == "loss" else None
        digits = DIGITS[measure]
        rows.append(
            [
                small.name,
                large.name,
                f"{rung.flops:.3g}",
                measure,
                rung.before.text(digits),
                rung.after.text(digits),
                change.text(digits),
                "–" if crossed is None else f"{crossed:.3g}",
            ]
        )
    head = ["smaller", "larger", "FLOPs", "measure", "of the smaller", "of the larger"]
    return [
        "## Sizes at equal compute",
        "",
        *_claims(_sentences(said)),
        "",
        "After the same compute, the most that all runs of both have had. The last column is the "
        "compute from which on the mean loss of the larger one is lower.",
        "",
        *table([*head, "difference", "larger is lower from"], rows),
    ]


def _ablation(pairs: Sequence[Pair]) -> list[str]:
    """A row per pair and measure."""
    if not pairs:
        return []
    measures: list[Measure] = [m for m in MEASURES if _measured(pairs, m)]
    said: dict[Measure, dict[str, list[str]]] = {
        measure: {verdict: [] for verdict in _ORDER} for measure in measures
    }
    sets = _measured(pairs, "loss")
    one_size = len({before.size for _, before, _ in pairs}) == 1
    rows = []
    for (change, before, after), measure in product(pairs, measures):
        cells = dict.fromkeys(sets, "–")
        for held_out in _measured(pairs, measure):
            found = difference(before.end(measure, held_out), after.end(measure, held_out))
            if held_out == _main_set(before):
                named = change if one_size else f"{change} at {before.size}"
                said[measure][found.verdict].append(named)
            text = found.text(DIGITS[measure])
            cells[held_out] = f"**{text}**" if found.verdict in (LOWER, HIGHER) else text
        rows.append([change, f"{before.name} → {after.name}", measure, *cells.values()])
    return [
        "## One change at a time",
        "",
        *_claims(
            f"{_OF[measure]}, {_main_set(pairs[0][1])}: {_by(said[measure], 'with')}"
            for measure in measures
        ),
        "",
        _LOGIT_NORMAL,
        "",
        "The difference that each change makes at the end of training, with its 95 % interval; "
        "below 0 is better, and bold is beyond the spread:",
        "",
        *table(["change", "models", "measure", *sets], rows),
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
            *_claims(f"{_OF[measure]}: {_by(of, 'on')}" for measure, of in said.items()),
            "",
            *table(["measure", "drawings", before.name, after.name, "difference"], rows),
        ]
    return lines


def _all_models(models: Sequence[Model]) -> list[str]:
    rows, ends = [], []
    sets = list(models[0].curves[0].losses)
    for model in models:
        last = model.mean.points[-1]
        rows.append(
            [
                model.name,
                f"{model.curves[0].parameters / 1e6:.2f} M",
                ", ".join(str(curve.seed) for curve in model.curves),
                f"{last.step:,}",
                f"{last.flops:.3g}",
                f"{exponent(model.mean):.3f}",
                f"{sum(curve.cpu_seconds for curve in model.curves) / 60:.0f}",
            ]
        )
        for measure in MEASURES:
            measured = models[0].curves[0].ends(measure)
            if measured:
                texts = (
                    model.end(measure, name).text(DIGITS[measure]) if name in measured else "–"
                    for name in sets
                )
                ends.append([model.name, measure, *texts])
    head = ["model", "parameters", "seeds", "steps", "FLOPs", "exponent of compute", "CPU minutes"]
    return [
        "## All models",
        "",
        *table(head, rows),
        "",
        "At the end of training, by the drawings that were measured on:",
        "",
        *table(["model", "measure", *sets], ends),
    ]


_Said = dict[tuple[str, str], list[Measure]]
"""Sentences: what comes before and after the measures of which it is true."""


def _around(one: Model, other: Model, wins: str, verdict: str, better: str) -> tuple[str, str]:
    """What stands before and after the measures: ``one`` wins where the verdict is ``better``."""
    if verdict not in (HIGHER, LOWER):
        return f"{one.name} against {other.name} by ", f": {_NOTHING.get(verdict)}"
    first, second = (one, other) if verdict == better else (other, one)
    return wins.format(first.name, second.name), ""


def _sentences(said: _Said) -> list[str]:
    return [f"{before}{_listed(measures)}{after}" for (before, after), measures in said.items()]


def _listed(names: Sequence[str]) -> str:
    """Such as "loss, distance and error"."""
    *first, last = names
    return f"{', '.join(first)} and {last}" if first else last


def _claims(sentences: Iterable[str]) -> list[str]:
    return [f"- {sentence}." for sentence in sentences]


def _main_set(model: Model) -> str:
    """The held-out set of the curves."""
    return next(iter(model.curves[0].losses))


def _measured(pairs: Sequence[Pair], measure: Measure) -> list[str]:
    """The held-out sets on which every model of the pairs was measured."""
    curves = [c for _, before, after in pairs for m in (before, after) for c in m.curves]
    return [n for n in curves[0].ends(measure) if all(n in c.ends(measure) for c in curves)]


def _by(verdicts: Mapping[str, Sequence[str]], link: str) -> str:
    """What has each verdict, such as "lower with QK-norm; higher with crops too"."""
    parts = [f"{_said(v)} {link} {', '.join(names)}" for v, names in verdicts.items() if names]
    return "; ".join(parts)


def _said(verdict: str) -> str:
    return _NOTHING.get(verdict, verdict)
