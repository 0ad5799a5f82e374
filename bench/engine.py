"""The parent's side of a worker process, saved indexes, and interleaved rounds over several engines."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Self

from bench import datasets, metrics
from bench.rivals import OURS, interpreter

__all__ = ["Engine", "EngineFailed", "busy", "interleaved", "names", "saved", "started", "undisturbed"]

INDEXES = Path(__file__).parent / ".cache" / "indexes"


class EngineFailed(RuntimeError):
    """The engine ended early or cannot do what was asked; the reason goes into the result."""


class Engine:
    """One worker process: a context manager, so that no process outlives its suite."""

    def __init__(self, name: str, dataset: str, queries: int, k: int) -> None:
        self.name = name
        words = [interpreter(name), "-m", "bench.worker", name, dataset, str(queries), str(k)]
        self.worker = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.rounds: list[list[dict[str, Any]]] = []
        self.facts: dict[str, Any] = {}

    def ask(self, do: str, **words: Any) -> Any:
        """Send a command and wait for its answer."""
        assert self.worker.stdin is not None
        assert self.worker.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self.worker.stdin.write(json.dumps({"do": do, **words}) + "\n")
            self.worker.stdin.flush()
        for line in self.worker.stdout:
            if line.startswith(("{", "[{")):  # some engines print words of their own
                answer = json.loads(line)
                if isinstance(answer, dict) and "unsupported" in answer:
                    raise EngineFailed(answer["unsupported"])
                return answer
        raise EngineFailed(f"ended early with {self.worker.wait()}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.worker.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            self.worker.stdin.close()
        self.worker.wait()

    def curve(self) -> dict[str, Any]:
        """Medians and quartiles over rounds (the first one warms up and gives recall)."""
        points = []
        for i, first in enumerate(self.rounds[0]):
            low, middle, high = metrics.quartiles([r[i]["seconds"] for r in self.rounds[1:]])
            points.append(
                {
                    "setting": first["setting"],
                    "recall": first["recall"],
                    "qps": 1 / middle,
                    "qps_quartiles": [1 / high, 1 / low],
                }
            )
        return {**self.facts, "points": points, "qps_at": metrics.at_recalls(points)}


def names(options: argparse.Namespace) -> list[str]:
    """Ours first, then the rivals asked for."""
    return [*options.ours, *options.rivals]


def saved(name: str, options: argparse.Namespace, dataset: str | None = None) -> tuple[Path, dict[str, Any]]:
    """Folder of the engine's index of a data set, built in a fresh process unless it is there; and how it was built.

    Ours are built anew each time, since their code changes.
    """
    dataset = dataset or options.dataset
    folder = INDEXES / dataset / name
    record = folder.with_suffix(".json")
    if name in OURS or not record.exists():
        shutil.rmtree(folder, ignore_errors=True)
        with busy(options.lock), Engine(name, dataset, options.queries, options.k) as engine:
            built = engine.ask("build", threads=options.threads, save=str(folder))
        record.write_text(json.dumps(built))
    facts: dict[str, Any] = json.loads(record.read_text())
    return folder, facts


def started(name: str, options: argparse.Namespace) -> Engine:
    """A process with the index opened from its file, or built in place where the engine cannot be saved."""
    datasets.prepare(options.dataset)
    try:
        folder, built = saved(name, options)
    except EngineFailed as reason:
        if "saved" not in str(reason):
            raise
        folder, built = Path(), {}
    engine = Engine(name, options.dataset, options.queries, options.k)
    try:
        with busy(options.lock):
            if built:
                engine.facts = {"build": built, "open": engine.ask("open", folder=str(folder))}
            else:
                engine.facts = {"build": engine.ask("build", threads=options.threads, save=None)}
    except EngineFailed:
        engine.__exit__()
        raise
    return engine


def interleaved(options: argparse.Namespace, wanted: Sequence[str], threads: int) -> dict[str, Any]:
    """Curves of all engines, rounds interleaved so that a busy moment hits all of them alike."""
    results: dict[str, Any] = {}
    engines = []
    with contextlib.ExitStack() as stack:
        for name in wanted:
            try:
                engines.append(stack.enter_context(started(name, options)))
                print(f"{name}: {engines[-1].facts}", flush=True)
            except EngineFailed as reason:
                results[name] = {"failed": str(reason)}
                print(f"{name}: left out, {reason}", flush=True)
        with undisturbed(options.lock):
            for number in range(options.rounds + 1):
                for engine in list(engines):
                    try:
                        engine.rounds.append(engine.ask("round", threads=threads))
                    except EngineFailed as reason:
                        results[engine.name] = {"failed": str(reason)}
                        engines.remove(engine)
                print(f"round {number} of {options.rounds}", flush=True)
        return {**{engine.name: engine.curve() for engine in engines}, **results}


def undisturbed(lock: Path | None) -> contextlib.AbstractContextManager[None]:
    """Hold a lock file alone while something is timed."""
    return _held(lock, fcntl.LOCK_EX)


def busy(lock: Path | None) -> contextlib.AbstractContextManager[None]:
    """Hold it together with other heavy jobs, which wait while somebody times."""
    return _held(lock, fcntl.LOCK_SH)


@contextlib.contextmanager
def _held(lock: Path | None, mode: int) -> Iterator[None]:
    if lock is None:
        yield
        return
    with lock.open("a") as file:
        fcntl.flock(file, mode)
        yield
