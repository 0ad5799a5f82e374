"""Value types that every layer may use; they import nothing of ours but limits."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Bits",
    "CollectionInfo",
    "Hit",
    "Hits",
    "HnswParams",
    "Metric",
    "Payload",
    "Point",
    "PointId",
    "Rerank",
    "Rows",
    "TokenRows",
]

PointId = int | str
Payload = dict[str, Any]
Bits = NDArray[np.uint64]  # bit s & 63 of word s >> 6 belongs to slot s
Rerank = Literal["int8", "float32", "none"]


class Metric(StrEnum):
    """How two vectors compare; see `design` words: distance is internal, score is what users see.

    distance: l2 is the squared Euclidean distance, dot is -<x, y>, cosine is 1 - cos(x, y).
    """

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"


class Rows(NamedTuple):
    """The vectors of one dense field, by slot.

    `vectors` is (capacity, dim) float32, C-contiguous; rows beyond the reader's n hold nothing.
    `inv_norms` is (capacity,) float32: 1 / |x| under cosine, unused (length 0) otherwise.
    """

    vectors: NDArray[np.float32]
    inv_norms: NDArray[np.float32]


class TokenRows(NamedTuple):
    """The token matrices of one multi-vector field, ragged, by slot.

    `tokens` is (capacity, dim) int8 or float32; tokens of slot s are rows ends[s-1]..ends[s]
    (ends[-1] = 0), empty where the point has no such field. `scales` is (slots,) float32: value =
    scale * int8 for int8 tokens, 1 for float32.
    """

    tokens: NDArray[Any]
    ends: NDArray[np.int64]
    scales: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HnswParams:
    """M: links per node on upper levels, 2M on level 0; ef_construction: beam width of insertion."""

    M: int = 16
    ef_construction: int = 200
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Point:
    """A stored point. `vector` is None unless asked for; a dict of field to array for named fields."""

    id: PointId
    payload: Payload | None = None
    vector: Any = None


@dataclass(frozen=True, slots=True)
class Hit:
    """One result. `score` as Qdrant: cosine, dot and MaxSim larger is nearer, l2 smaller is nearer."""

    id: PointId
    score: float
    payload: Payload | None = None
    vector: Any = None


@dataclass(frozen=True, slots=True)
class Hits(Sequence[Hit]):
    """The answer to one query, best first.

    `complete` is True when it holds min(k, matches) points, which the engine promises; a remote or
    deadline-bound search may say False. `explain` holds the plan when it was asked for.
    """

    hits: tuple[Hit, ...]
    complete: bool = True
    explain: Mapping[str, Any] | None = None

    @property
    def ids(self) -> list[PointId]:
        """Ids, best first."""
        return [h.id for h in self.hits]

    @property
    def scores(self) -> NDArray[np.float32]:
        """Scores (n,) float32, best first."""
        return np.array([h.score for h in self.hits], np.float32)

    def __len__(self) -> int:
        return len(self.hits)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        return self.hits[index]

    def __iter__(self) -> Iterator[Hit]:
        return iter(self.hits)


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What `info` tells; counts are of one commit (`seq`).

    `fields` maps a field's name to its declaration and state (dim, metric, indexed rows, tail rows, bytes).
    """

    name: str
    points: int
    seq: int
    slots: int
    indexed: int
    tail: int
    disk_bytes: int
    memory_bytes: int
    read_only: bool = False
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
