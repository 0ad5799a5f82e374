"""Value types that every layer may use; they import nothing of ours but limits."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BackupInfo",
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
    "VerifyReport",
]

PointId = int | str
Payload = dict[str, Any]
Bits = NDArray[np.uint64]  # bit s & 63 of word s >> 6 belongs to slot s
Rerank = Literal["int8", "float32", "none"]


class Metric(StrEnum):
    """How two vectors compare; see `design` words: distance is internal, score is what users see.

    distance: l2 is the squared Euclidean distance, dot is -<x, y>, cosine is 1 - cos(x, y); of bits, hamming is how
    many differ and jaccard is 1 - |both| / |either|; l1 is the sum of |x - y|, haversine the kilometres between two
    (latitude, longitude) in degrees. Metrics that `vicinal.register_metric` was given are members too, of this
    process: `Metric("name")` finds them, iteration shows those built in.
    """

    COSINE = "cosine"
    DOT = "dot"
    L2 = "l2"
    HAMMING = "hamming"
    JACCARD = "jaccard"
    L1 = "l1"
    HAVERSINE = "haversine"

    @classmethod
    def _missing_(cls, value: object) -> Metric | None:
        return _REGISTERED.get(value)

    @classmethod
    def declare(cls, name: str) -> Metric:
        """The member of that name, made when there is none."""
        found = _REGISTERED.get(name)
        if found is None:
            found = str.__new__(cls, name)
            found._name_ = found._value_ = name
            _REGISTERED[name] = found
        return found

    @property
    def is_coded(self) -> bool:
        """Whether large graphs under it are walked on codes."""
        return self in _CODED

    @property
    def is_function(self) -> bool:
        """Whether it is computed by a function of two float32 vectors."""
        return self not in _CODED and self not in _OF_BITS

    @property
    def of_bits(self) -> bool:
        """Whether rows are bits, packed eight to a byte."""
        return self in _OF_BITS


_REGISTERED: dict[object, Metric] = {}
_CODED = frozenset({Metric.COSINE, Metric.DOT, Metric.L2})
_OF_BITS = frozenset({Metric.HAMMING, Metric.JACCARD})


class Rows(NamedTuple):
    """The vectors of one dense field, by slot.

    `vectors` is (capacity, dim), C-contiguous, of the field's dtype; rows beyond the reader's n hold nothing. Bits are
    packed as `numpy.packbits` does, (capacity, dim / 8) uint8, which the metric tells from bytes.
    `inv_norms` is (capacity,) float32: 1 / |x| under cosine, unused (length 0) otherwise.
    """

    vectors: NDArray[Any]
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
    """One result. `score` as Qdrant: cosine, dot and MaxSim larger is nearer, otherwise smaller is."""

    id: PointId
    score: float
    payload: Payload | None = None
    vector: Any = None


class Hits(Sequence[Hit]):
    """The answer to one query, best first.

    `ids` and `scores` ((n,) float32) are there at once; a `Hit` is made when it is looked at, because making ten of
    them takes as long as finding them. `complete` is True when it holds min(k, matches) points, which the engine
    promises; a remote or deadline-bound search may say False. `explain` holds the plan when it was asked for, and
    `token_scores` a matrix (m, t) float32 for each hit: products of the query's tokens with the point's.
    """

    __slots__ = ("_payloads", "_vectors", "complete", "explain", "ids", "scores", "token_scores")

    def __init__(
        self,
        ids: list[PointId],
        scores: NDArray[np.float32],
        payloads: Sequence[Payload | None] | None = None,
        vectors: Sequence[Any] | None = None,
        *,
        complete: bool = True,
        explain: Mapping[str, Any] | None = None,
        token_scores: Sequence[NDArray[np.float32]] | None = None,
    ) -> None:
        self.ids = ids
        self.scores = scores
        self._payloads = payloads
        self._vectors = vectors
        self.complete = complete
        self.explain = explain
        self.token_scores = token_scores

    @classmethod
    def of(cls, hits: Iterable[Hit], **options: Any) -> Hits:
        """An answer from hits that exist already; `options` as the constructor's."""
        rows = list(hits)
        scores = np.array([h.score for h in rows], np.float32)
        payloads, vectors = [h.payload for h in rows], [h.vector for h in rows]
        return cls([h.id for h in rows], scores, payloads, vectors, **options)

    def __len__(self) -> int:
        return len(self.ids)

    @overload
    def __getitem__(self, index: int) -> Hit: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Hit, ...]: ...
    def __getitem__(self, index: int | slice) -> Hit | tuple[Hit, ...]:
        if isinstance(index, slice):
            return tuple(self[i] for i in range(*index.indices(len(self))))
        payload = None if self._payloads is None else self._payloads[index]
        vector = None if self._vectors is None else self._vectors[index]
        return Hit(self.ids[index], float(self.scores[index]), payload, vector)

    def __iter__(self) -> Iterator[Hit]:
        return (self[i] for i in range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hits) and tuple(self) == tuple(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Hits({list(self)})"


@dataclass(frozen=True, slots=True)
class CollectionInfo:
    """What `info` tells; counts are of one commit (`seq`).

    `fields` maps a field's name to its declaration and state (dim, metric, indexed rows, tail rows, bytes), `columns`
    a payload key to the bytes in memory by which filters on it are answered.
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
    columns: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """What a deep check of one collection found; `problems` says in words what does not hold, empty when all does.

    `seq` is the commit looked at, `points` its living points, `slots` all of its rows, `bytes` what was read and
    compared with checksums; 0 when the collection could not be opened.
    """

    name: str
    problems: Sequence[str] = ()
    seq: int = 0
    points: int = 0
    slots: int = 0
    bytes: int = 0

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems


@dataclass(frozen=True, slots=True)
class BackupInfo:
    """A backup that was written: where, its size, and the points of each collection in it."""

    path: str
    bytes: int
    collections: Mapping[str, int]
