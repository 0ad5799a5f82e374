"""Attributes of a data set's rows and queries as typed columns, and predicates over them."""

from __future__ import annotations

from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench import datasets
from bench.datasets import ORDER_SEED, data_root

__all__ = ["Among", "Both", "Column", "Either", "Never", "Predicate", "Table", "Within", "load", "mask_of"]

SEED = 17  # of the synthetic columns
REGIONS = 100  # k-means clusters of the rows: labels that go with the vectors
_SAMPLE, _STEPS = 10_000, 8  # rows and rounds of that k-means
_ARXIV = "arxiv-minilm-384"
_DRAWN = "mixture-96"
_LABELS, _TAGS, _LIST_MOST, _ASTRAY = 24, 200, 4, 0.3  # anchors, words of a list, its length, share of false labels


class Among(NamedTuple):
    """The column's value is, or its values have, one of these codes."""

    column: str
    codes: tuple[int, ...]


class Within(NamedTuple):
    """low <= value <= high."""

    column: str
    low: int
    high: int


class Both(NamedTuple):
    """All parts hold."""

    parts: tuple[Predicate, ...]


class Either(NamedTuple):
    """One part holds."""

    parts: tuple[Predicate, ...]


class Never(NamedTuple):
    """The part does not hold."""

    part: Predicate


Predicate = Among | Within | Both | Either | Never


class Column:
    """One number per row, or several (`ends`); `words` are what the numbers stand for, if anything."""

    def __init__(
        self, values: NDArray[Any], ends: NDArray[np.int64] | None = None, words: tuple[Any, ...] | None = None
    ) -> None:
        self.values, self.ends, self.words = values, ends, words

    @cached_property
    def _postings(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Rows by code, and where each code's rows begin."""
        assert self.ends is not None, "only lists have postings"
        owners = np.repeat(np.arange(len(self.ends)), np.diff(self.ends, prepend=0))
        order = np.argsort(self.values, kind="stable")
        counts = np.bincount(self.values)
        return owners[order], np.concatenate((np.zeros(1, np.int64), np.cumsum(counts)))

    def having(self, code: int) -> NDArray[np.int64]:
        """Rows of a list column that have a code."""
        rows, starts = self._postings
        return rows[starts[code] : starts[code + 1]] if code + 1 < len(starts) else rows[:0]

    def row(self, i: int) -> Any:
        """What one row holds: codes of a list, or one."""
        if self.ends is None:
            return int(self.values[i])
        return self.values[self.ends[i - 1] if i else 0 : self.ends[i]].tolist()

    def word(self, code: int) -> Any:
        """What a code stands for."""
        return code if self.words is None else self.words[code]

    def shown(self, i: int) -> Any:
        """What one row holds, in words."""
        held = self.row(i)
        return [self.word(code) for code in held] if isinstance(held, list) else self.word(held)

    def taken(self, rows: NDArray[np.int64]) -> Column:
        """The same column of these rows, in their order."""
        if self.ends is None:
            return Column(self.values[rows], None, self.words)
        parts = [self.row(int(i)) for i in rows]
        ends = np.cumsum([len(part) for part in parts])
        return Column(np.concatenate([np.array(part, np.int32) for part in parts]), ends, self.words)


class Table(NamedTuple):
    """n rows' columns, the queries' own, and the regions nearest to each query, nearest first."""

    n: int
    columns: dict[str, Column]
    asked: dict[str, Column]
    near: NDArray[np.int64]

    def payload(self, i: int) -> dict[str, Any]:
        """A row as a document."""
        return {name: column.shown(i) for name, column in self.columns.items()}


def mask_of(predicate: Predicate, table: Table, rows: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """The rows (n,) that satisfy a predicate: what a user of a library that wants a bitmap would write in numpy.

    rows: those asked about, None: all.
    """
    match predicate:
        case Among(name, codes):
            return _among(table.columns[name], codes, table.n, rows)
        case Within(name, low, high):
            values = table.columns[name].values
            values = values if rows is None else values[rows]
            return np.asarray((values >= low) & (values <= high))
        case Never(part):
            return ~mask_of(part, table, rows)
        case Both(parts):
            return np.asarray(np.logical_and.reduce([mask_of(part, table, rows) for part in parts]))
        case Either(parts):
            return np.asarray(np.logical_or.reduce([mask_of(part, table, rows) for part in parts]))


def _among(column: Column, codes: tuple[int, ...], n: int, rows: NDArray[np.int64] | None) -> NDArray[np.bool_]:
    if column.ends is None:
        values = column.values if rows is None else column.values[rows]
        mask = values == codes[0]
        for code in codes[1:]:
            mask |= values == code
        return np.asarray(mask)
    if rows is not None:
        return np.array([not {*codes}.isdisjoint(column.row(int(i))) for i in rows], np.bool_)
    mask = np.zeros(n, np.bool_)
    for code in codes:
        mask[column.having(code)] = True
    return mask


def load(data: datasets.Dataset) -> Table:
    """Columns of a prepared data set: real ones where there are any, synthetic ones always."""
    n, rng = len(data.base), np.random.default_rng(SEED)
    centres = _centres(data.base)
    columns = {
        "draw": Column(rng.permutation(n).astype(np.int32)),
        "region": Column(_nearest(data.base, centres)[:, 0]),
    }
    asked: dict[str, Column] = {}
    whole = data.name.partition("@")[0]
    if whole == _ARXIV:
        order = np.random.default_rng(ORDER_SEED).permutation
        real = _arxiv("attributes")
        rows = order(len(real["submission"].values))[:n]
        words = {name: {word: code for code, word in enumerate(c.words or ())} for name, c in real.items()}
        asked = _arxiv("query_attributes", words)
        for name, column in real.items():  # the queries may have words that no row has
            columns[name] = Column(column.values, column.ends, asked[name].words).taken(rows)
    if whole == _DRAWN:
        more, asked = _correlated(data)
        columns |= more
    return Table(n, columns, asked, _nearest(np.asarray(data.queries), centres))


def _correlated(data: datasets.Dataset) -> tuple[dict[str, Column], dict[str, Column]]:
    """Columns of rows and queries: a label near them, mostly; a rank along one direction; tags that go with nothing."""
    rng = np.random.default_rng(SEED + 1)
    anchors = np.asarray(data.base[rng.permutation(len(data.base))[:_LABELS]])
    direction = rng.standard_normal((data.base.shape[1],)).astype(np.float32)
    sorted_places = np.sort(data.base @ direction)
    frequencies = 1 / np.arange(1, _TAGS + 1)
    made = []
    for rows in (data.base, np.asarray(data.queries)):
        labels = _nearest(rows, anchors)[:, 0]
        astray = rng.random(len(rows)) < _ASTRAY
        labels[astray] = rng.integers(0, _LABELS, int(astray.sum()))
        along = np.searchsorted(sorted_places, rows @ direction).astype(np.int32)
        counts = rng.integers(1, _LIST_MOST + 1, len(rows))
        tags = [
            np.unique(part) for part in np.split(
                rng.choice(_TAGS, int(counts.sum()), p=frequencies / frequencies.sum()), np.cumsum(counts)[:-1]
            )
        ]  # fmt: skip
        lists = Column(np.concatenate(tags).astype(np.int32), np.cumsum([len(part) for part in tags]))
        made.append({"label": Column(labels.astype(np.int32)), "along": Column(along), "tags": lists})
    return made[0], made[1]


def _centres(base: NDArray[np.float32]) -> NDArray[np.float32]:
    """Lloyd's k-means on a sample."""
    rng = np.random.default_rng(SEED)
    rows = np.asarray(base[np.sort(rng.permutation(len(base))[:_SAMPLE])])
    centres = rows[rng.permutation(len(rows))[:REGIONS]]
    for _ in range(_STEPS):
        owner = _nearest(rows, centres)[:, 0]
        for i in np.unique(owner):
            centres[i] = rows[owner == i].mean(axis=0)
    return centres


def _nearest(rows: NDArray[np.float32], centres: NDArray[np.float32]) -> NDArray[np.int64]:
    """Every row's centres, nearest first."""
    squares = (centres**2).sum(axis=1)
    parts = [np.argsort(squares - 2 * rows[i : i + 10_000] @ centres.T, axis=1) for i in range(0, len(rows), 10_000)]
    return np.concatenate(parts).astype(np.int64)


def _arxiv(file: str, known: dict[str, dict[Any, int]] | None = None) -> dict[str, Column]:
    """The real columns; words that the rows do not have get codes of their own, which no row has."""
    from pyarrow import parquet

    path = data_root() / _ARXIV / f"{file}.parquet"
    if not path.exists():
        raise datasets.DatasetMissing(f"{path.name} is not in the data folder")
    table = parquet.read_table(path).to_pydict()
    columns = {}
    for name in ("primary", "archive", "first_author", "has_comment"):
        columns[name] = _coded(table[name], None if known is None else known[name])
    for name in ("submission", "n_categories", "n_authors"):
        columns[name] = Column(np.array(table[name], np.int32))
    lists = [sorted(set(words)) for words in table["categories"]]
    flat = _coded([word for words in lists for word in words], None if known is None else known["categories"])
    ends = np.cumsum([len(words) for words in lists])
    columns["categories"] = Column(flat.values, ends, flat.words)
    return columns


def _coded(values: list[Any], known: dict[Any, int] | None) -> Column:
    codes = dict(known or {word: i for i, word in enumerate(sorted(set(values)))})
    for word in values:
        codes.setdefault(word, len(codes))
    return Column(np.array([codes[word] for word in values], np.int32), None, tuple(codes))
