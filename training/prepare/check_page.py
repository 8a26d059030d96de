"""The page of ``--check``: one HTML file that needs nothing else, no script and no network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

import numpy as np

from ..data.remote import address_of
from ..data.sources.listing import counted
from ..whole_files import write_text
from .check import Check
from .check_text import by_reason, headline, notes, shape, short_form
from .options import PrepareOptions

_MARK = "<!-- python -m training.prepare --check -->"
"""By which a page is told from files that people made."""
_CLASSES = 40
_ROWS = 2000
"""Files in a list; more would make the page slow."""

_STYLE = """
:root { color-scheme: light dark; --ink: #1d2330; --soft: #667085; --line: #e4e7ec;
  --card: #fff; --back: #f6f7f9; --bar: #4c6ef5; --bad: #c92a2a; --bad-back: #fff1f0;
  --good: #2b8a3e; --lost: #f08c00; }
@media (prefers-color-scheme: dark) { :root { --ink: #e7e9ee; --soft: #98a2b3; --line: #2f3440;
  --card: #1b1f27; --back: #12151b; --bar: #748ffc; --bad: #ff8787; --bad-back: #2b1a1c;
  --good: #69db7c; --lost: #ffc078; } }
* { box-sizing: border-box }
body { margin: 0; background: var(--back); color: var(--ink);
  font: 15px/1.5 system-ui, "Segoe UI", Roboto, sans-serif; }
main { max-width: 1040px; margin: 0 auto; padding: 40px 20px 80px; }
h1 { font-size: 26px; margin: 0; letter-spacing: -.01em; overflow-wrap: anywhere }
h2 { font-size: 16px; margin: 0 0 14px; }
p { margin: 6px 0 } .soft { color: var(--soft) }
section { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 20px 22px; margin-top: 18px; }
.bad { border-color: var(--bad); background: var(--bad-back) } .bad h2 { color: var(--bad) }
.good h2 { color: var(--good); margin: 0 }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: 12px;
  margin-top: 24px; }
.facts div { background: var(--card); border: 1px solid var(--line); border-radius: 12px;
  padding: 14px 16px; }
.facts b { display: block; font-size: 22px; line-height: 1.25; font-variant-numeric: tabular-nums }
.facts span { color: var(--soft); font-size: 13px }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(380px, 1fr)); gap: 0 18px }
ul { margin: 0; padding-left: 20px } li { margin: 6px 0; overflow-wrap: anywhere }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums }
td { padding: 3px 10px 3px 0; vertical-align: middle; overflow-wrap: anywhere }
td.n { text-align: right; width: 1%; white-space: nowrap; padding-right: 12px }
td.name { width: 30%; max-width: 260px }
.track { display: flex; height: 12px; border-radius: 3px; overflow: hidden }
.track i { background: var(--bar); min-width: 1px } .track .lost { background: var(--lost) }
svg { display: block; width: 100%; height: auto; font: 12px system-ui, sans-serif }
svg rect { fill: var(--bar) } svg text { fill: var(--soft); text-anchor: middle }
svg line { stroke: var(--line) } svg text.count { fill: var(--ink); font-size: 11px }
details { border-top: 1px solid var(--line); padding: 9px 0 } details:first-of-type { border: 0 }
summary { cursor: pointer; overflow-wrap: anywhere } details ul { margin: 8px 0; font-size: 13px }
"""


def write_page(check: Check, options: PrepareOptions) -> None:
    """Write the page and print the short form and where the page is.

    Raises ``ValueError`` where another file has its name.
    """
    path = page_path(options)
    if path.exists() and _MARK not in path.read_text(encoding="utf-8", errors="replace")[:300]:
        raise ValueError(f"{path} exists and is no page of this command. Move it elsewhere.")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, page(check))
    for problem in check.problems:
        print(f"PROBLEM: {problem}")
    print(short_form(check))
    if check.left_out:
        print(f"  {counted(len(check.left_out), 'file')} skipped; the page says why.")
    print(f"The whole check: {path.resolve()}")


def page_path(options: PrepareOptions) -> Path:
    """Beside the folder of the latent set, or else in the current folder."""
    if options.output is not None and not address_of(options.output):
        return options.output.with_name(f"{options.output.name}.check.html")
    return Path(f"{options.images.resolve().name}.check.html")


def page(check: Check) -> str:
    """The whole page as HTML."""
    title = f"Check of {check.images}"
    parts = [
        "<!doctype html>",
        _MARK,
        f'<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<style>{_STYLE}</style></head><body><main>",
        f"<h1>{escape(title)}</h1>",
        f'<p class="soft">{escape(headline(check))}. Image size {check.image_size}: a square image '
        f"has {counted(check.budget, 'token')}.{' Small images are enlarged.' * check.enlarge}</p>",
        _facts(check),
        _problems(check),
        _bulleted("Worth knowing", notes(check)),
        _classes(check),
        '<div class="pair">',
        _section("Tokens per image", _token_histogram(check)),
        _section("Width : height", _ratio_histogram(check)),
        _section("Shorter side in pixels", _side_histogram(check)),
        _section("Formats", _formats(check)),
        "</div>",
        _lists(check),
        "</main></body></html>",
    ]
    return "\n".join(part for part in parts if part)


def _facts(check: Check) -> str:
    usable = check.usable
    sides = np.sort(check.sizes[usable], axis=1)
    median = "–"
    if len(sides):
        shorter, longer = np.median(sides, axis=0).astype(int).tolist()
        median = f"{longer:,} × {shorter:,}"
    size = check.bytes[check.bytes > 0].sum() / 2**30
    facts = [
        (f"{int(usable.sum()):,}", "usable images"),
        (f"{sum(used > 0 for _, used, _ in check.per_class()):,}", "classes with images"),
        (median, "median sides, pixels"),
        (f"{int(check.tokens.sum()):,}", "tokens per epoch, uncropped"),
        (f"{size:.1f} GiB" if size >= 0.1 else f"{size * 1024:.1f} MiB", "files in total"),
        (f"{len(check.unusable) + len(check.left_out):,}", "files not used"),
    ]
    return (
        '<div class="facts">'
        + "".join(f"<div><b>{escape(value)}</b><span>{name}</span></div>" for value, name in facts)
        + "</div>"
    )


def _problems(check: Check) -> str:
    if found := check.problems:
        return _bulleted("To put right first", found, "bad")
    return '<section class="good"><h2>✓ Nothing looks like a mistake</h2></section>'


def _classes(check: Check) -> str:
    classes = [entry for entry in check.per_class() if entry[1] + entry[2]]
    most = max((used + lost for _, used, lost in classes), default=1)
    shown, between = classes, ""
    if len(classes) > _CLASSES:
        ordered = sorted(classes, key=lambda entry: -entry[1])
        half = _CLASSES // 2
        shown = ordered[:half] + ordered[-half:]
        between = f" (the {half} largest and the {half} smallest of {len(classes):,})"
    rows = "".join(
        f'<tr><td class="name">{escape(name)}</td><td class="n">{used:,}</td>'
        f'<td><div class="track">{_bar(used, most)}{_bar(lost, most, "lost")}</div></td></tr>'
        for name, used, lost in shown
    )
    orange = '<p class="soft">Orange: files that cannot be used.</p>' * bool(check.unusable)
    return _section(f"Images per class{between}", f"<table>{rows}</table>{orange}")


def _bar(count: int, most: int, kind: str = "") -> str:
    return f'<i class="{kind}" style="width:{100 * count / most:.2f}%"></i>' if count else ""


def _token_histogram(check: Check) -> str:
    tokens = check.tokens[check.usable]
    edges = np.unique(np.linspace(0, max(check.budget, 1), 9).round().astype(int))
    counts, _ = np.histogram(tokens, np.append(edges[:-1], edges[-1] + 1) + 0.5)
    labels = [
        f"{low + 1}–{high}" if low + 1 < high else f"{high}"
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True)
    ]
    return _histogram(labels, counts.tolist())


def _ratio_histogram(check: Check) -> str:
    sizes = check.sizes[check.usable]
    edges = [1 / 3, 0.5, 0.7, 0.9, 1.12, 1.43, 2, 3]
    labels = ["< 1:3", "1:3", "1:2", "3:4", "1:1", "4:3", "2:1", "3:1", "> 3:1"]
    counts = np.bincount(np.digitize(sizes[:, 0] / sizes[:, 1], edges), minlength=len(labels))
    return _histogram(labels, counts.tolist())


def _side_histogram(check: Check) -> str:
    sides = check.sizes[check.usable].min(axis=1)
    edges = [16, 32, 64, 128, 256, 512, 1024, 2048]
    labels = ["< 16", *(f"{edge}+" for edge in edges)]
    return _histogram(labels, np.bincount(np.digitize(sides, edges), minlength=9).tolist())


def _formats(check: Check) -> str:
    most = max(check.kinds.values(), default=1)
    rows = "".join(
        f'<tr><td class="name">{escape(kind)}</td><td class="n">{count:,}</td>'
        f'<td><div class="track">{_bar(count, most)}</div></td></tr>'
        for kind, count in check.kinds.most_common(10)
    )
    return f"<table>{rows}</table>"


def _histogram(labels: Sequence[str], counts: Sequence[int]) -> str:
    width, height, foot = 440, 150, 22
    step, most = width / len(labels), max([*counts, 1])
    parts = []
    for i, (label, count) in enumerate(zip(labels, counts, strict=True)):
        x, tall = i * step, (height - 20) * count / most
        if count:
            tall = max(tall, 1.5)
            parts.append(
                f'<rect x="{x + 3:.1f}" y="{height - tall:.1f}" width="{step - 6:.1f}" '
                f'height="{tall:.1f}" rx="2"/><text class="count" x="{x + step / 2:.1f}" '
                f'y="{height - tall - 5:.1f}">{_short(count)}</text>'
            )
        parts.append(f'<text x="{x + step / 2:.1f}" y="{height + 16}">{escape(label)}</text>')
    return (
        f'<svg viewBox="0 0 {width} {height + foot}" role="img"><line x1="0" x2="{width}" '
        f'y1="{height}" y2="{height}"/>{"".join(parts)}</svg>'
    )


def _short(count: int) -> str:
    for unit, size in (("M", 10**6), ("k", 10**3)):
        if count >= 10 * size:
            return f"{count / size:.0f}{unit}"
    return f"{count:,}"


def _lists(check: Check) -> str:
    """Every file that is worth a look, in lists that open."""
    parts = [
        *(_list(f"Cannot be used: {reason}", files) for reason, files in by_reason(check.unusable)),
        _list(
            "The same image in several classes",
            [_group(check, group) for group in check.contradictory()],
        ),
        _list("The same bytes", [_group(check, group) for group in check.duplicates]),
        _list("Changes its shape", _shapes(check, check.bent())),
        _list(
            "A side below 16 pixels, enlarged to a token",
            _shapes(check, np.flatnonzero(check.tiny).tolist()),
        ),
        _list("Small", _shapes(check, np.flatnonzero(check.small).tolist())),
        _list("Several frames or pages: the first is used", check.animated),
        *(_list(f"Skipped: {reason}", files) for reason, files in by_reason(check.left_out)),
    ]
    found = "".join(parts)
    return _section("Files to look at", found) if found else ""


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines[:_ROWS])
    if len(lines) > _ROWS:
        items += f"<li>and {len(lines) - _ROWS:,} more</li>"
    heading = f"{escape(title)} <span class='soft'>({len(lines):,})</span>"
    return f"<details><summary>{heading}</summary><ul>{items}</ul></details>"


def _shapes(check: Check, rows: Sequence[int]) -> list[str]:
    return [f"{check.files[row]}: {shape(check, row)}" for row in rows]


def _group(check: Check, group: Iterable[int]) -> str:
    return " = ".join(check.files[row] for row in group)


def _bulleted(title: str, lines: Sequence[str], kind: str = "") -> str:
    if not lines:
        return ""
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return _section(title, f"<ul>{items}</ul>", kind)


def _section(title: str, content: str, kind: str = "") -> str:
    return f'<section class="{kind}"><h2>{escape(title)}</h2>{content}</section>'
