from __future__ import annotations

import io
from typing import Any

import pytest

from vicinal.client.progress import Progress, clock


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_plain_lines_elsewhere_than_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("vicinal.client.progress.time.monotonic", lambda: now[0])
    stream = io.StringIO()
    with Progress("insert", 1000, stream=stream) as bar:
        for _ in range(4):
            now[0] += 1.5
            bar.advance(250)
    assert stream.getvalue().splitlines() == [
        "insert: 500 of 1,000 points, 167/s, 3.0 s, 3.0 s left",
        "insert: 1,000 of 1,000 points, 167/s, 6.0 s",
    ]


def test_a_bar_on_a_terminal() -> None:
    stream = Terminal()
    with Progress("insert", 10, stream=stream) as bar:
        bar.reach(4)
        bar.reach(3)
        bar.advance(6)
    assert bar.done == 10
    assert "10/10" in stream.getvalue()


def test_nothing_when_not_shown_and_no_last_line_after_an_error() -> None:
    stream = io.StringIO()
    with Progress("insert", 10, shown=False, stream=stream) as bar:
        bar.advance(10)
    with pytest.raises(RuntimeError), Progress("insert", 10, stream=stream):
        raise RuntimeError
    assert not stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.04, "0.0 s"), (9.94, "9.9 s"), (59.4, "59 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_as_people_read_them(seconds: Any, text: str) -> None:
    assert clock(seconds) == text
