"""What searches under a filter do, counted, and what each count takes.

Counts depend on the index, the query and the filter alone, so plans made of them are the same on every machine and
never depend on a noisy neighbour. Prices turn counts into time. They are constants by kind of code line, measured once
by regression of times on counts (one thread, titles of 384 and images of 784 dimensions). Only their ratios matter,
and these follow the number of instructions that a count takes, not the clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

__all__ = ["Prices", "Work", "prices_of"]


class Work(NamedTuple):
    """Counts of one search, or of several that follow each other when added up."""

    words: float = 0.0  # of 64 bits of the filter, listed
    rows: float = 0.0  # estimated from a list
    settled: float = 0.0  # re-scored
    centres: float = 0.0  # of cells, estimated
    members: float = 0.0  # of cells, asked whether they match
    hops: float = 0.0  # of a walk
    seen: float = 0.0  # estimated in a walk

    def and_then(self, other: Work) -> Work:
        """Both, one after the other."""
        return Work(*(mine + more for mine, more in zip(self, other, strict=True)))


class Prices(NamedTuple):
    """Nanoseconds of each count of `Work`, in its order."""

    word: float
    row: float
    settled: float
    centre: float
    member: float
    hop: float
    seen: float

    def of(self, work: Work) -> float:
        """Nanoseconds of a search."""
        return sum(price * count for price, count in zip(self, work, strict=True))


_DIMS: Final = 384  # of the rows that prices were measured on
_SIGNS = Prices(word=3.0, row=6.4, settled=80.0, centre=7.8, member=1.2, hop=265.0, seen=7.0)
_NIBBLES = Prices(word=3.0, row=3.4, settled=80.0, centre=5.5, member=1.2, hop=250.0, seen=3.6)
_BYTES = Prices(word=3.0, row=2.4, settled=70.0, centre=2.8, member=1.2, hop=200.0, seen=3.5)
_BY_KIND: Final = {"signs": _SIGNS, "nibbles": _NIBBLES, "bytes": _BYTES}
_BY_BYTES: Final = 0.2  # of the price of a row re-scored or expanded, that grows with its dimensions


def prices_of(kind: str, dim: int, *, exact_walk: bool) -> Prices:
    """The prices of an index whose code lines are signs, nibbles or bytes.

    dim: of its rows, as padded. exact_walk: whether expanding a node reads its bytes, too.
    """
    known = _BY_KIND[kind]
    grown = 1 + _BY_BYTES * (dim / _DIMS - 1)
    return known._replace(settled=known.settled * grown, hop=known.hop * (grown if exact_walk else 1.0))
