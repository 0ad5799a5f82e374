"""vicinal as it is shipped: filters parsed, planned and answered by a Collection in memory."""
# ruff: noqa: SLF001 - the call without ids and scores is not public

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import vicinal
from bench.datasets import Dataset
from bench.fanns.columns import Among, Both, Either, Never, Predicate, Table, Within
from bench.fanns.engines.base import Filtered, Floats, Line
from vicinal.filter.parse import parse_filter

__all__ = ["text_of"]

_BATCH = 10_000
_EFS: Line = ("default", *(("ef", ef) for ef in (10, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 400)))
_TARGETS: Line = tuple(("recall_target", target) for target in (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.985, 0.99))


def text_of(predicate: Predicate, table: Table) -> str:
    """The filter as an expression."""
    match predicate:
        case Among(name, codes):
            words = [_literal(table.columns[name].word(code)) for code in codes]
            return f"{name} = {words[0]}" if len(words) == 1 else f"{name} in ({', '.join(words)})"
        case Within(name, low, high):
            return f"{name} between {low} and {high}"
        case Never(part):
            return f"not ({text_of(part, table)})"
        case Both(parts):
            return " and ".join(f"({text_of(part, table)})" for part in parts)
        case Either(parts):
            return " or ".join(f"({text_of(part, table)})" for part in parts)


def _literal(word: Any) -> str:
    if isinstance(word, bool):
        return str(word).lower()
    if isinstance(word, str):
        quoted = word.replace("\\", "\\\\").replace("'", "''")
        return f"'{quoted}'"
    return str(word)


class _Planned(Filtered):
    """A collection in a folder, opened with all its pages in memory, as they are after many queries."""

    package = "vicinal"
    saves = True
    lines = (_EFS[1:], _TARGETS, ("default",))
    always = "default"
    caches_bitmaps = False

    def build(self, data: Dataset, table: Table, threads: int) -> None:
        del threads  # all cores
        self.table, self.folder = table, Path(tempfile.mkdtemp()) / "data"
        self.database = vicinal.Database(self.folder)
        made = self.database.create_collection("bench", dim=data.base.shape[1], metric=data.metric)
        self.collection = made
        self._fill(data)
        made.flush()

    def save(self, folder: Path) -> None:
        self.database.close()
        shutil.move(self.folder, folder / "data")

    def open(self, folder: Path, data: Dataset, table: Table) -> None:
        self.table = table
        self.database = vicinal.Database(folder / "data", read_only=True)  # shared by several engines
        self.collection = self.database.collection("bench")
        field: Any = next(iter(self.collection._view.fields.values()))
        assert field.indexed == self.collection._view.n >= len(data.base), "the graph was saved"
        coded = getattr(field.graph, "index", None)
        for mapped in (field.rows.vectors, None if coded is None else coded._arrays.fine):
            if mapped is not None:
                np.add.reduce(mapped[:, ::64], axis=None)  # every page
        self.collection.count("draw >= 0")  # columns are there before the clock starts
        if not self.caches_bitmaps:
            self._forget_bitmaps()

    def _forget_bitmaps(self) -> None:
        """Let each call evaluate its filter; RuntimeError where that is not what happens."""
        cache = self.collection._generation.matcher._attributes._slots
        cache.max_bytes = 0
        self.collection._generation.planned.kept_bits = 0
        known = cache.hits
        for _ in range(2):
            self.collection.count("draw >= 1")
        if cache.hits != known or cache.memory_bytes:
            raise RuntimeError("bitmaps are still kept between calls")

    def _fill(self, data: Dataset) -> None:
        self._upsert(np.arange(len(data.base)), data.base)

    def _upsert(self, ids: Any, vectors: Floats) -> None:
        for first in range(0, len(ids), _BATCH):
            part = ids[first : first + _BATCH]
            payloads = [self.table.payload(int(i)) for i in part]
            self.collection.upsert(part, np.ascontiguousarray(vectors[first : first + _BATCH]), payloads)

    def set(self, setting: Any) -> None:
        self.words: dict[str, Any] = {} if setting == "default" else {setting[0]: setting[1]}

    @property
    def nbytes(self) -> int | None:
        return int(self.collection.info().memory_bytes)


class ByText(_Planned):
    """Collection.query(filter=text), ids out; no bitmap is kept, so that each call evaluates its filter."""

    shares: ClassVar[str | None] = "vicinal"

    def phrase(self, predicate: Predicate) -> Any:
        return text_of(predicate, self.table)

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        words = dict(self.words)
        if "ef" in words:
            words["ef"] = max(words["ef"], k)
        return self.collection.query(vector, k, filter=phrased, with_payload=False, **words).ids


class Cached(ByText):
    """The same with bitmaps kept between calls, as a Collection does by default."""

    caches_bitmaps = True


class Churned(ByText):
    """The same after a fifth of the points were replaced, payload and vector."""

    shares = None

    def _fill(self, data: Dataset) -> None:
        n, some = len(data.base), len(data.base) // 5
        self._upsert(np.arange(n), np.concatenate((data.base[-some:], data.base[some:])))
        self.collection.flush()
        self._upsert(np.arange(some), data.base[:some])


class Kernel(_Planned):
    """The same plan without text, ids and scores: the tree evaluated on columns, planned, answered as slots."""

    def phrase(self, predicate: Predicate) -> Any:
        return parse_filter(text_of(predicate, self.table))

    def query(self, vector: Floats, phrased: Any, k: int) -> Any:
        collection = self.collection
        ef, target = self.words.get("ef"), self.words.get("recall_target")
        ready = collection._generation.planned.ready(collection._view, k, phrased, None, ef, target, False)
        return ready.answer.one(vector)[0]  # rows were inserted in one go: slots are ids
