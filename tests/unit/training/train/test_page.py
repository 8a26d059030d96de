"""The page of a run: what is on it, and that it needs nothing from elsewhere."""

import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from support.training_runs import small_config

from training.train import train
from training.train.chart import Line, line_chart, smoothed
from training.train.history import History
from training.train.page import PAGE, RunView, in_words, render

VOID = {"meta", "img", "line", "polyline", "circle", "rect", "br"}


class Reader(HTMLParser):
    """Checks that tags are closed in their order, and collects links."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.links += [value or "" for key, value in attrs if key in ("href", "src")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    assert not reader.open
    return reader


def page_of(run: Path, *, running: bool = True, steps: int = 40, overfits: bool = False) -> str:
    history = History(run, 0)
    for step in range(1, 1 + steps):
        history.add(step, {"loss": 2 / step, "learning_rate": 1e-4, "tokens_per_second": 100.0})
        if step % 5 == 0:
            held_out = 0.5 + (step / 100 if overfits else 1 / step)
            history.add(step, {"held_out_loss": held_out, "training_loss": 2 / step})
    view = RunView(
        folder=run,
        state="training",
        running=running,
        step=steps,
        steps=100,
        seconds_left=7300.0,
        images="3 images of <2> classes",
        notes=["a & b"],
        configuration="steps: 100",
        exports=[("The newest checkpoint", "python -m training.export --run 'a b'")],
    )
    return render(view, history)


def test_a_page_is_whole_and_refers_only_to_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    for step in (10, 20, 50):
        (tmp_path / "samples" / f"step-{step:08d}.png").write_bytes(b"")
    page = page_of(tmp_path)
    links = read(page).links
    assert {link for link in links if not link.startswith("#")} == {
        "samples/step-00000010.png",
        "samples/step-00000020.png",
    }
    assert "<script" not in page
    assert not re.search(r"https?://", page)
    assert "url(" not in page
    assert "3 images of &lt;2&gt; classes" in page
    assert "a &amp; b" in page
    assert "2 h 2 min" in page
    assert "prefers-color-scheme: dark" in page


def test_a_page_reloads_itself_until_the_run_ends(tmp_path: Path) -> None:
    assert 'http-equiv="refresh"' in page_of(tmp_path)
    assert 'http-equiv="refresh"' not in page_of(tmp_path, running=False)


def test_overfitting_stands_on_the_page(tmp_path: Path) -> None:
    assert "Overfits since step 5:" in page_of(tmp_path, overfits=True)
    assert "Overfits" not in page_of(tmp_path)


def test_a_page_without_figures_is_a_page(tmp_path: Path) -> None:
    read(page_of(tmp_path, steps=0))


def test_a_run_writes_its_page_and_one_that_resumes_continues_it(
    data: Path, tmp_path: Path
) -> None:
    options = ["--logging.every=1", "--samples.every=3", "--samples.steps=1"]
    train(small_config(data, tmp_path, *options, "--steps=3"))
    page = (tmp_path / PAGE).read_text("utf-8")
    assert "finished at step 3" in page
    assert "samples/step-00000003.png" in read(page).links
    train(small_config(data, tmp_path, *options, "--steps=5", "--resume=latest"))
    assert [step for step, _ in History(tmp_path, 9).curves["loss"].points] == [1, 2, 3, 4, 5]
    assert "finished at step 5" in (tmp_path / PAGE).read_text("utf-8")


def test_a_page_that_cannot_be_written_is_said_once_and_does_not_end_the_run(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / PAGE / "folder").mkdir(parents=True)
    assert train(small_config(data, tmp_path, "--logging.every=1")) == 0
    assert capsys.readouterr().out.count("cannot write") == 1


def test_a_run_that_fails_does_not_look_as_if_it_went_on(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object) -> None:
        raise ValueError

    monkeypatch.setattr("training.train.run.training_step", fail)
    with pytest.raises(ValueError):  # noqa: PT011
        train(small_config(data, tmp_path))
    page = (tmp_path / PAGE).read_text("utf-8")
    assert "ended by an error at step 0" in page
    assert 'http-equiv="refresh"' not in page


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[1.0], [1.0, 1.0], [0.0, 0.5], [1e-7, 1e4], [-1.0, -3.0], [3e-5, 5e-5]]
)
def test_a_chart_stays_within_its_frame(values: list[float], log: bool) -> None:
    points = [(10 * i, value) for i, value in enumerate(values)]
    text = line_chart([Line("a<b", "a", points, backdrop=points, dots=True)], log=log, label="x")
    if log and max(values) <= 0:
        assert text == ""
        return
    svg = ElementTree.fromstring(text)
    numbers = [
        tuple(map(float, pair.split(",")))
        for line in svg.iter("polyline")
        for pair in line.attrib["points"].split()
    ]
    assert numbers
    assert all(0 <= x <= 860 and 0 <= y <= 300 for x, y in numbers)
    titles = [title.text or "" for title in svg.iter("title")]
    assert titles[0].startswith("a<b ")


def test_smoothing_keeps_a_constant_and_starts_at_the_first_value() -> None:
    assert smoothed([(i, 2.0) for i in range(99)]) == [(i, pytest.approx(2.0)) for i in range(99)]
    assert smoothed([(0, 5.0), (1, 1.0)])[0] == (0, 5.0)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(4, "4 s"), (600, "10 min"), (7300, "2 h 2 min"), (3599, "1 h 0 min"), (864000, "10.0 days")],
)
def test_durations_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
