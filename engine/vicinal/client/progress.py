"""Progress with rate and time left: a bar on a terminal, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, Final, Self, TextIO

__all__ = ["Progress", "clock"]

_SECONDS: Final = 2.0


class Progress:
    """Counts up to `total` on a stream, standard error by default.

    Use as a context manager and call `advance`. Nothing is drawn when `shown` is False.
    """

    def __init__(
        self,
        title: str,
        total: int,
        *,
        unit: str = "points",
        shown: bool = True,
        stream: TextIO | None = None,
    ) -> None:
        self._title = title
        self._total = total
        self._unit = unit
        self._shown = shown
        self._stream = stream or sys.stderr
        self._bar: Any = None
        self._began = self._told = time.monotonic()
        self.done = 0

    def __enter__(self) -> Self:
        if self._shown and self._stream.isatty():
            self._bar, self._row = _rich_bar(self._title, self._total, self._unit, self._stream)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        elif self._shown and kind is None:
            self._tell()

    def advance(self, count: int) -> None:
        """Say that `count` more are done."""
        self.done += count
        if self._bar is not None:
            rate = self.done / max(time.monotonic() - self._began, 1e-9)
            self._bar.update(self._row, completed=self.done, rate=f"{rate:,.0f} {self._unit}/s")
        elif self._shown and time.monotonic() - self._told >= _SECONDS and self.done < self._total:
            self._tell()

    def reach(self, done: int) -> None:
        """Say that `done` in all are done; never goes back."""
        self.advance(max(done - self.done, 0))

    def _tell(self) -> None:
        self._told = time.monotonic()
        seconds = max(self._told - self._began, 1e-9)
        rate = self.done / seconds
        left = f", {clock((self._total - self.done) / rate)} left" if 0 < self.done < self._total else ""
        counted = f"{self._title}: {self.done:,} of {self._total:,} {self._unit}"
        self._stream.write(f"{counted}, {rate:,.0f}/s, {clock(seconds)}{left}\n")
        self._stream.flush()


def clock(seconds: float) -> str:
    """Return a duration as people read it: `0.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def _rich_bar(title: str, total: int, unit: str, stream: TextIO) -> tuple[Any, Any]:
    from rich import progress
    from rich.console import Console

    bar = progress.Progress(
        progress.TextColumn("{task.description}"),
        progress.BarColumn(),
        progress.MofNCompleteColumn(),
        progress.TextColumn("{task.fields[rate]}"),
        progress.TimeRemainingColumn(),
        console=Console(file=stream),
    )
    return bar, bar.add_task(title, total=total, rate=f"0 {unit}/s")
