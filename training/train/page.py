"""The page of a run: one HTML file in its folder, to be opened from there. It needs no server.

It contains all that it shows but the sample sheets, which lie beside it, and reloads itself while
the run is active.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from ..whole_files import write_text
from .chart import Line, line_chart, smoothed
from .checkpoints.run_folder import SAMPLES, step_name
from .history import History
from .overfitting import best, overfits_since

PAGE = "index.html"
RELOAD_SECONDS = 15
_SHEETS = 24
"""Number of sample sheets on the page."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RunView:
    """What the page shows of a run besides its history."""

    folder: Path
    state: str
    """One word or some, such as training, finished, stopped by SIGINT."""
    running: bool
    step: int
    steps: int
    seconds_left: float | None
    images: str
    """The training images in words."""
    notes: Sequence[str]
    configuration: str
    """As YAML."""
    exports: Sequence[tuple[str, str]]
    """Commands that export the run, each after what it exports."""


def write_page(view: RunView, history: History) -> None:
    """Write the page atomically. Raises ``OSError`` where that fails."""
    write_text(view.folder / PAGE, render(view, history))


def render(view: RunView, history: History) -> str:
    """The page as HTML."""
    share = view.step / max(view.steps, 1)
    reload = f'<meta http-equiv="refresh" content="{RELOAD_SECONDS}">' if view.running else ""
    written = time.strftime("%Y-%m-%d %H:%M:%S")
    name = escape(view.folder.resolve().name)
    rhythm = (
        f"While the run is active, this page is rewritten every {RELOAD_SECONDS} seconds or so."
        if view.running
        else ""
    )
    exports = "".join(
        f"<p>{escape(what)}:</p><pre>{escape(command)}</pre>" for what, command in view.exports
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
{reload}
<title>{share:.0%} · {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{name}</h1>
<p class="state {"running" if view.running else ""}">{escape(view.state)}</p>
</header>
<div class="bar"><div style="width:{100 * share:.2f}%"></div></div>
{_figures(view, history)}
{_warning(history)}
<main>
{_loss(history)}
{_sheets(view)}
<div class="pair">
{_small("Learning rate", "learning_rate", history, ".2g")}
{_small("Tokens per second", "tokens_per_second", history, ",.0f", smooth=True)}
</div>
<section>
<h2>Export</h2>
{exports}
</section>
<section>
<h2>Run</h2>
<ul>{"".join(f"<li>{escape(note)}</li>" for note in (view.images, *view.notes))}</ul>
<details><summary>Configuration</summary>
<pre>{escape(view.configuration)}</pre></details>
</section>
</main>
<footer>Written {written}. {rhythm}</footer>
</body>
</html>
"""


def in_words(seconds: float) -> str:
    """A duration, such as "3 h 20 min"."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours < 48 else f"{hours / 24:.1f} days"


def _figures(view: RunView, history: History) -> str:
    last = history.last
    figures = [("step", f"{view.step:,}", f"of {view.steps:,}")]
    if view.running and view.seconds_left is not None:
        figures.append(("time left", in_words(view.seconds_left), ""))
    if "loss" in last:
        figures.append(("loss", f"{last['loss']:.4f}", "training images"))
    lowest = best(history.measurements)
    if lowest is not None:
        word = f"best {lowest.held_out:.4f} at step {lowest.step:,}"
        figures.append(("held-out loss", f"{last['held_out_loss']:.4f}", word))
    if "epoch" in last:
        figures.append(("epoch", f"{last['epoch']:,.1f}", "passes over the images"))
    if "tokens_per_second" in last:
        speed = f"{last.get('images_per_second', 0):,.1f} images/s"
        figures.append(("tokens/s", f"{last['tokens_per_second']:,.0f}", speed))
    if last.get("skipped_steps"):
        figures.append(("skipped steps", f"{last['skipped_steps']:,.0f}", "unusable gradients"))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(more)}</small></dd></div>"
        for name, value, more in figures
    )
    return f"<dl>{cells}</dl>"


def _warning(history: History) -> str:
    since = overfits_since(history.measurements)
    if since is None:
        return ""
    return (
        f'<p class="warning">Overfits since step {since.step:,}: the loss on held-out images was '
        f"lowest there ({since.held_out:.4f}) and has risen to "
        f"{history.last['held_out_loss']:.4f}, while the training loss fell.</p>"
    )


def _loss(history: History) -> str:
    if "loss" not in history.curves:
        return ""
    raw = history.curves["loss"].points
    lines = [Line("loss", "a", smoothed(raw), backdrop=raw)]
    legend = '<span class="key a">training, smoothed</span>'
    lowest = best(history.measurements)
    if lowest is not None:
        held_out = history.curves["held_out_loss"].points
        lines.append(Line("held-out loss", "b", held_out, dots=True))
        legend += '<span class="key b">held-out images, averaged weights</span>'
    marked = None if lowest is None else (lowest.step, f"best {lowest.held_out:.4f}")
    charts = "".join(
        f'<div class="{name}">'
        + line_chart(lines, digits=".3g", log=name == "log", marked=marked, label="loss over steps")
        + "</div>"
        for name in ("linear", "log")
    )
    return (
        '<section class="loss"><i id="log"></i><h2>Loss</h2>'
        f'<p class="legend">{legend}<span class="scale">scale: <a href="#">linear</a> '
        f'<a href="#log">logarithmic</a></span></p>{charts}</section>'
    )


def _small(title: str, key: str, history: History, digits: str, smooth: bool = False) -> str:
    if key not in history.curves:
        return ""
    points = history.curves[key].points
    line = Line(title, "a", smoothed(points) if smooth else points)
    chart = line_chart([line], digits=digits, from_zero=True, size=(430, 170), label=title)
    return f"<section><h2>{title}</h2>{chart}</section>"


def _sheets(view: RunView) -> str:
    """The newest sheet at full width, and others as thumbnails, spread evenly over the run."""
    folder = view.folder / SAMPLES
    last = f"{step_name(view.step)}.png"
    names = sorted(p.name for p in folder.glob("step-*.png") if p.name <= last)
    if not names:
        return ""
    places = {round(i * (len(names) - 1) / (_SHEETS - 1)) for i in range(_SHEETS)}
    shown = [names[place] for place in sorted(places, reverse=True)]
    thumbnails = "".join(
        f'<a href="{SAMPLES}/{name}"><img src="{SAMPLES}/{name}" alt="" loading="lazy">'
        f"<span>{int(name[5:-4]):,}</span></a>"
        for name in shown
    )
    newest = f"{SAMPLES}/{shown[0]}"
    return (
        f"<section><h2>Samples at step {int(shown[0][5:-4]):,}</h2>"
        f'<a href="{newest}"><img class="sheet" src="{newest}" alt="newest sample sheet"></a>'
        + (f'<div class="strip">{thumbnails}</div>' if len(shown) > 1 else "")
        + "</section>"
    )


_STYLE = """
:root { color-scheme: light dark; --ground: #fbfbfa; --card: #fff; --text: #1d1f23;
  --soft: #6b7078; --edge: #e3e4e6; --a: #2563c9; --b: #d0581b; --warm: #fdf0e4; }
@media (prefers-color-scheme: dark) { :root { --ground: #15171a; --card: #1d2024;
  --text: #e6e7e9; --soft: #969ba3; --edge: #30343a; --a: #6ea8ff; --b: #ff9a5c;
  --warm: #3a2a1c; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 24px 20px 40px; max-width: 980px; background: var(--ground);
  color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
header { display: flex; align-items: baseline; gap: 14px; flex-wrap: wrap; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 15px; margin: 0 0 8px; }
.state { margin: 0; color: var(--soft); }
.state.running::before { content: ""; display: inline-block; width: 8px; height: 8px;
  border-radius: 50%; background: #2ea56a; margin-right: 7px; }
.bar { height: 6px; border-radius: 3px; background: var(--edge); margin: 14px 0 18px;
  overflow: hidden; }
.bar div { height: 100%; background: var(--a); }
dl { display: grid; grid-template-columns: repeat(auto-fit, minmax(132px, 1fr)); gap: 10px;
  margin: 0 0 16px; }
dl div, section { background: var(--card); border: 1px solid var(--edge); border-radius: 10px; }
dl div { padding: 10px 12px; }
dt { color: var(--soft); font-size: 13px; }
dd { margin: 0; font-size: 20px; font-variant-numeric: tabular-nums; }
small { display: block; color: var(--soft); font-size: 12px; }
section { padding: 14px 16px; margin: 0 0 16px; }
.warning { background: var(--warm); border-left: 4px solid var(--b); border-radius: 6px;
  padding: 10px 14px; margin: 0 0 16px; }
.legend { margin: 0 0 4px; color: var(--soft); font-size: 13px; display: flex; gap: 18px;
  flex-wrap: wrap; }
.key::before { content: ""; display: inline-block; width: 18px; height: 3px; margin-right: 7px;
  vertical-align: 4px; }
.key.a::before { background: var(--a); } .key.b::before { background: var(--b); }
.scale { margin-left: auto; } a { color: var(--a); }
#log { position: fixed; top: 0; }
.log { display: none; } #log:target ~ .log { display: block; }
#log:target ~ .linear { display: none; }
.loss div { overflow-x: auto; } .loss svg { min-width: 560px; }
svg { width: 100%; height: auto; display: block; }
svg text { fill: var(--soft); font: 12px system-ui, sans-serif; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.grid { stroke: var(--edge); } .mark { stroke: var(--soft); stroke-dasharray: 3 4; }
polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
polyline.a { stroke: var(--a); } polyline.b { stroke: var(--b); }
polyline.faint { stroke-width: 1; opacity: .3; } circle.b { fill: var(--b); }
.hover { fill: transparent; } .hover:hover { fill: var(--soft); fill-opacity: .12; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(300px, 1fr)); gap: 0 16px; }
.sheet { display: block; max-width: 100%; max-height: 70vh; margin: 0 auto; border-radius: 4px; }
.strip { display: flex; gap: 8px; overflow-x: auto; padding-top: 12px; }
.strip a { flex: none; color: var(--soft); font-size: 12px; text-align: center;
  text-decoration: none; }
.strip img { display: block; height: 96px; border-radius: 3px; }
pre { background: var(--ground); border: 1px solid var(--edge); border-radius: 6px; margin: 6px 0;
  padding: 10px 12px; overflow-x: auto; font: 13px/1.45 ui-monospace, monospace; }
ul { margin: 0 0 10px; padding-left: 20px; } p { margin: 0 0 4px; }
summary { cursor: pointer; } footer { color: var(--soft); font-size: 13px; }
"""
