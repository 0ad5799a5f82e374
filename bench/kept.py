"""What a run has measured so far, so that a run that was broken off goes on where it stopped.

Kept under `bench/.cache/runs` for one suite, data set, list of engines, settings, code and processor; a run with
anything else begins anew, because one result must come from one state of the code and one machine. Which cells of a
grid a run is asked for makes no difference: they add up.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

from bench import metrics

__all__ = ["Kept", "Unfinished"]

RUNS = Path(__file__).parent / ".cache" / "runs"
ASIDE = ("lock", "hold", "fresh", "seconds", "cells")  # options that change nothing that is measured


class Unfinished(RuntimeError):
    """The time of `--seconds` is over; the same command goes on."""


class Kept:
    """Measured parts by key, on disk as soon as they are there."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.machine = metrics.machine()
        words = {key: value for key, value in vars(options).items() if key not in ASIDE}
        machine = {key: value for key, value in self.machine.items() if key != "commit"}  # its code is in it
        self.meant = json.loads(json.dumps({**words, "machine": machine}, default=str))
        self.path = RUNS / f"{options.suite}-{options.dataset}.json"
        self.end = None if options.seconds is None else monotonic() + options.seconds
        self.parts: dict[str, Any] = {}
        if self.path.exists() and not options.fresh:
            found = json.loads(self.path.read_text())
            if found["meant"] == self.meant:
                self.parts = found["parts"]
                print(f"going on with {', '.join(self.parts) or 'nothing'}", flush=True)

    def put(self, key: str, value: Any) -> None:
        """Keep one part."""
        self.parts[key] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_suffix(".new")
        fresh.write_text(json.dumps({"meant": self.meant, "parts": self.parts}))
        fresh.replace(self.path)

    def get(self, key: str, measure: Callable[..., Any], *words: Any) -> Any:
        """Give a part, measured now by `measure(*words)` unless kept; Unfinished when no time is left for it."""
        if key not in self.parts:
            self.check()
            self.put(key, measure(*words))
        return self.parts[key]

    def check(self) -> None:
        """Raise Unfinished when the time is over."""
        if self.end is not None and monotonic() > self.end:
            raise Unfinished(f"kept under {self.path}: run the same command again to go on")

    def done(self) -> None:
        """Forget the parts once the result is written."""
        self.path.unlink(missing_ok=True)
