"""The parent's side of a worker process, and saved indexes."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, Self

from bench import datasets
from bench.locks import busy
from bench.rivals import OURS, interpreter

__all__ = ["Engine", "EngineFailed", "forget_ours", "indexed", "names", "opened", "saved"]

INDEXES = Path(__file__).parent / ".cache" / "indexes"


class EngineFailed(RuntimeError):
    """The engine ended early or cannot do what was asked; the reason goes into the result."""


class Engine:
    """One worker process: a context manager, so that no process outlives its suite."""

    module: ClassVar[str] = "bench.worker"
    environment: ClassVar[dict[str, str]] = {}

    def __init__(self, name: str, dataset: str, queries: int, k: int) -> None:
        self.name = name
        words = [interpreter(name), "-m", self.module, name, dataset, str(queries), str(k)]
        surroundings = {**os.environ, **self.environment}
        self.worker = subprocess.Popen(
            words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=surroundings
        )

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
        assert self.worker.stdout is not None
        self.worker.stdout.close()
        self.worker.wait()


def names(options: argparse.Namespace) -> list[str]:
    """Ours first, then the rivals asked for."""
    return [*options.ours, *options.rivals]


def saved(name: str, options: argparse.Namespace, lock: Sequence[Path] | None = None) -> tuple[Path, dict[str, Any]]:
    """Folder of the engine's index of a data set, built in a fresh process unless it is there; and how it was built.

    Ours are built anew by each run, since their code changes. lock: instead of the options', while building.
    """
    own = f"{name}-{os.getpid()}" if name in OURS else name
    folder = INDEXES / options.dataset / own
    record = folder.with_suffix(".json")
    if not record.exists():
        shutil.rmtree(folder, ignore_errors=True)
        locks = options.lock if lock is None else lock
        with busy(locks), Engine(name, options.dataset, options.queries, options.k) as engine:
            built = engine.ask("build", threads=options.threads, save=str(folder))
        record.write_text(json.dumps(built))
    facts: dict[str, Any] = json.loads(record.read_text())
    return folder, facts


def forget_ours() -> None:
    """Remove what `saved` built for this run alone."""
    for folder in INDEXES.glob(f"*/*-{os.getpid()}"):
        shutil.rmtree(folder)
        folder.with_suffix(".json").unlink(missing_ok=True)


def indexed(name: str, options: argparse.Namespace) -> tuple[Engine | None, dict[str, Any]]:
    """Build what needs no quiet: how it was built, and the process that holds the index if it cannot be saved."""
    datasets.prepare(options.dataset)
    try:
        return None, saved(name, options)[1]
    except EngineFailed as reason:
        if "saved" not in str(reason):
            raise
    engine = Engine(name, options.dataset, options.queries, options.k)
    try:
        with busy(options.lock):
            return engine, engine.ask("build", threads=options.threads, save=None)
    except EngineFailed:
        engine.__exit__()
        raise


def opened(name: str, options: argparse.Namespace) -> tuple[Engine, dict[str, Any]]:
    """A process with the index opened from its file, and its facts; the caller sees to quiet: some tune themselves."""
    folder, built = saved(name, options, lock=())
    engine = Engine(name, options.dataset, options.queries, options.k)
    try:
        return engine, {"build": built, "open": engine.ask("open", folder=str(folder))}
    except EngineFailed:
        engine.__exit__()
        raise
