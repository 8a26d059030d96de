from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from training import processes
from training.processes import join_processes, on_main


def test_processes_that_cannot_share_work_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert join_processes("cpu").num_processes == 1
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(ValueError, match="4 processes were started, and they cannot share work"):
        join_processes("cpu")


def test_an_action_of_the_main_process_is_done_by_it_alone() -> None:
    done: list[str] = []
    main: Any = SimpleNamespace(is_main_process=True, num_processes=1)
    other: Any = SimpleNamespace(is_main_process=False, num_processes=1)
    on_main(main, lambda: done.append("main"))
    on_main(other, lambda: done.append("other"))
    assert done == ["main"]


def test_where_the_main_process_fails_the_others_end(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ValueError("the reason")

    monkeypatch.setattr(
        processes, "broadcast_object_list", lambda _: [True]
    )  # what every process hears
    with pytest.raises(ValueError, match="the reason"):
        on_main(SimpleNamespace(is_main_process=True, num_processes=2), fail)  # type: ignore[arg-type]
    with pytest.raises(SystemExit):
        on_main(SimpleNamespace(is_main_process=False, num_processes=2), fail)  # type: ignore[arg-type]
