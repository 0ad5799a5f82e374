"""The grid: every cell is one kind of filter, with a predicate of its own for each query, drawn from a seed.

Distinct windows and labels per query, so that no cache of bitmaps answers instead of the index.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import numpy as np

from bench.fanns.columns import REGIONS, Among, Both, Either, Never, Predicate, Table, Within

__all__ = ["KINDS", "Cell", "grid"]

KINDS = {
    "EM": "equality",
    "R": "range",
    "EMIS": "set membership",
    "AND": "conjunctions",
    "OR": "disjunctions",
    "NOT": "negations",
    "COR": "correlation with the query",
}
SHARES = (0.9, 0.5, 0.25, 0.1, 0.01, 1e-3, 1e-4, 1e-5)
KERNEL_SHARES = (0.5, 0.1, 0.01, 1e-3)  # the figures on data sets without attributes
_NEAR = 5  # regions of a correlated filter

Rng = np.random.Generator
Draw = Callable[[int, Rng], Predicate]


class Cell(NamedTuple):
    """One kind of filter: predicates[i] belongs to query i."""

    name: str
    kind: str
    predicates: tuple[Predicate, ...]


def grid(table: Table, queries: int) -> list[Cell]:
    """Every cell of a data set, in the order of `KINDS`."""
    made = [
        Cell(name, kind, tuple(draw(i, rng) for i in range(queries)))
        for name, kind, draw in (*_drawn(table), *_real(table), *_made(table), *_correlated(table))
        for rng in [np.random.default_rng(zlib.crc32(name.encode()))]
    ]
    return sorted(made, key=lambda cell: list(KINDS).index(cell.kind))


def _window(table: Table, column: str, share: float | None) -> Draw:
    """A window of this share of the rows by rank, anywhere; None: between two rows drawn, as in the paper."""
    ranked = np.sort(table.columns[column].values)

    def draw(_: int, rng: Rng) -> Within:
        if share is None:
            low, high = sorted(rng.integers(0, table.n, 2).tolist())
        else:
            size = max(1, round(share * table.n))
            low = int(rng.integers(0, table.n - size + 1))
            high = low + size - 1
        return Within(column, int(ranked[low]), int(ranked[high]))

    return draw


def _drawn(table: Table) -> Iterator[tuple[str, str, Draw]]:
    """Windows of a random integer: the selectivities, no correlation with anything."""
    for share in SHARES if table.asked else KERNEL_SHARES:
        yield f"random integer {share:g}", "R", _window(table, "draw", share)


def _of_rows(table: Table, column: str, *, low: float = 0.0, high: float = 1.0, count: int = 1) -> Draw:
    """Values of rows drawn at random, so frequent ones often; only such as this share of the rows has."""
    held = table.columns[column]
    shares = np.bincount(held.values) / table.n
    values = held.values[(shares[held.values] >= low) & (shares[held.values] <= high)]

    def draw(_: int, rng: Rng) -> Among:
        return Among(column, tuple(sorted(set(rng.choice(values, count).tolist()))))

    return draw


def _own(table: Table, column: str) -> Draw:
    """The query's own value; of a list, one of them."""
    held = table.asked[column]

    def draw(i: int, rng: Rng) -> Among:
        value = held.row(i)
        return Among(column, (int(rng.choice(value)) if isinstance(value, list) else value,))

    return draw


def _all(*draws: Draw) -> Draw:
    return lambda i, rng: Both(tuple(draw(i, rng) for draw in draws))


def _any(*draws: Draw) -> Draw:
    return lambda i, rng: Either(tuple(draw(i, rng) for draw in draws))


def _not(draw: Draw) -> Draw:
    return lambda i, rng: Never(draw(i, rng))


def _real(table: Table) -> Iterator[tuple[str, str, Draw]]:
    """The paper's filters and their combinations, on real attributes."""
    if "primary" not in table.asked:
        return
    own, rows, window = partial(_own, table), partial(_of_rows, table), partial(_window, table)

    def authors(_: int, rng: Rng) -> Within:
        return Within("n_authors", int(rng.integers(2, 8)), 10_000)

    yield "number of categories", "EM", rows("n_categories")
    yield "own primary", "EM", own("primary")
    yield "drawn primary", "EM", rows("primary")
    yield "first author", "EM", rows("first_author")
    yield "dates, as in the paper", "R", window("submission", None)
    yield "dates 0.1", "R", window("submission", 0.1)
    yield "dates 0.01", "R", window("submission", 0.01)
    yield "category, as in the paper", "EMIS", rows("categories")
    yield "own category", "EMIS", own("categories")
    yield "category of 20-50 %", "EMIS", rows("categories", low=0.2)
    yield "category of 0.1-1 %", "EMIS", rows("categories", low=0.001, high=0.01)
    yield "primary and dates", "AND", _all(own("primary"), window("submission", 0.5))
    yield "category and dates", "AND", _all(rows("categories"), window("submission", 0.2))
    yield "archive, authors, dates", "AND", _all(rows("archive"), authors, window("submission", 0.2))
    frequent = rows("categories", low=0.2)
    yield "frequent category and comment", "AND", _all(frequent, lambda *_: Among("has_comment", (1,)))
    yield "three categories", "OR", rows("categories", count=3)
    yield "category or dates", "OR", _any(rows("categories"), window("submission", 0.01))
    yield "no comment", "NOT", _not(lambda *_: Among("has_comment", (1,)))
    yield "not own archive", "NOT", _not(own("archive"))
    yield "not a rare category", "NOT", _not(rows("categories", high=0.01))


def _made(table: Table) -> Iterator[tuple[str, str, Draw]]:
    """Filters on attributes made to go with the vectors, against them, and with nothing."""
    if "along" not in table.asked:
        return
    own, rows = partial(_own, table), partial(_of_rows, table)
    size, places = table.n // 10, np.sort(table.columns["along"].values)

    def along(i: int, *, far: bool) -> Within:
        at = int(np.searchsorted(places, table.asked["along"].row(i)))
        low = (0 if at > table.n // 2 else table.n - size) if far else min(max(at - size // 2, 0), table.n - size)
        return Within("along", int(places[low]), int(places[low + size - 1]))

    yield "own label", "EM", own("label")
    yield "drawn label", "EM", rows("label")
    yield "along, beside the query", "R", lambda i, _: along(i, far=False)
    yield "along, far from the query", "R", lambda i, _: along(i, far=True)
    yield "tag, as in the paper", "EMIS", rows("tags")
    yield "tag of 0.1-1 %", "EMIS", rows("tags", low=0.001, high=0.01)
    yield "own label, far along", "AND", _all(own("label"), lambda i, _: along(i, far=True))
    yield "own label and tag", "AND", _all(own("label"), rows("tags"))
    yield "three tags", "OR", rows("tags", count=3)
    yield "not own label", "NOT", _not(own("label"))


def _correlated(table: Table) -> Iterator[tuple[str, str, Draw]]:
    """Regions of the space: those around the query, any, the farthest, and all but those around it."""

    def regions(chosen: Callable[[int, Rng], np.ndarray]) -> Draw:
        return lambda i, rng: Among("region", tuple(sorted(chosen(i, rng).tolist())))

    near = regions(lambda i, _: table.near[i, :_NEAR])
    yield "nearest 5 regions", "COR", near
    yield "any 5 regions", "COR", regions(lambda _, rng: rng.permutation(REGIONS)[:_NEAR])
    yield "farthest 5 regions", "COR", regions(lambda i, _: table.near[i, -_NEAR:])
    yield "all but the nearest 5", "COR", _not(near)
    yield "farthest 50 regions", "COR", regions(lambda i, _: table.near[i, -50:])
