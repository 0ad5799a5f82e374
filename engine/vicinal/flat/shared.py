"""What `Index` and `BFIndex` have in common: adding, asking, saving."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from vicinal.casting import check_dim, check_vectors
from vicinal.errors import LimitExceeded
from vicinal.flat import saved
from vicinal.flat.file_format import Settings, parse
from vicinal.flat.filters import allowed_by, filters_of_rows
from vicinal.flat.inputs import Refused, as_labels, as_rows, as_vectors, metric_of
from vicinal.flat.picture import Picture, answering, answering_lazily, label_matrix
from vicinal.flat.points import Points, Tell
from vicinal.index.row_room import KEEP
from vicinal.limits import DIM_MAX, ID_MAX, SLOTS_MAX
from vicinal.searching import Answer, Batch, answer_all
from vicinal.types import Metric

__all__ = ["FlatIndex"]

_LAZY_ROWS: Final = 256  # a query asks a function about some hundreds of points; so many queries share the answers
_RESERVED_BYTES: Final = 1 << 30  # of room made in advance; more is made when it is needed
TOO_FEW: Final = "Cannot return the results in a contiguous 2D array. Probably ef or M is too small"
Answered = tuple[NDArray[np.uint64], NDArray[np.float32]]


class FlatIndex:
    """An index whose points have labels of 0 to 2**64 - 1.

    vectors: where the float32 rows are: `memory`, `file` (an unlinked temporary one), or `auto`: a file from 64 MB on
    where a folder for temporary files lies on a disk.
    """

    _fresh: ClassVar[Settings] = Settings("l2", 1)  # of an index nobody initiated, but for its space and dim

    def __init__(self, space: str, dim: int, *, vectors: str | None = None) -> None:
        metric = metric_of(space)
        kept = self._fresh.vectors if vectors is None else vectors
        if kept not in KEEP:
            raise Refused(f"vectors is one of {KEEP}, not {vectors!r}", field="vectors", value=vectors, limit=KEEP)
        if not isinstance(dim, int | np.integer) or not 1 <= dim <= DIM_MAX:
            raise LimitExceeded(f"dim is 1 to {DIM_MAX}, not {dim!r}", field="dim", value=dim, limit=DIM_MAX)
        check_dim(metric, int(dim))
        self.num_threads = os.cpu_count() or 1
        self._take(self._fresh._replace(space=space, dim=int(dim), vectors=kept), None)

    def _take(self, settings: Settings, points: Points | None) -> None:
        """Become an index of these settings and points."""
        self._settings = settings
        metric = metric_of(settings.space)
        if points is None:
            points = Points(metric, settings.dim, saved.params_of(settings), settings.vectors)
        self._points = points
        self._metric = metric
        self._ip = metric is Metric.DOT

    @property
    def space(self) -> str:
        """`l2`, `ip`, `cosine`, `l1`, `haversine` or the name of a registered metric."""
        return self._settings.space

    @property
    def dim(self) -> int:
        """Dimensions of every vector."""
        return self._settings.dim

    def _start(self, settings: Settings) -> None:
        if self._settings.started:
            raise Refused("The index is already initiated.", field="max_elements", value=settings.max_elements)
        if not 0 <= settings.max_elements <= SLOTS_MAX:
            raise LimitExceeded(
                f"max_elements is 0 to {SLOTS_MAX}",
                field="max_elements",
                value=settings.max_elements,
                limit=SLOTS_MAX,
            )
        self._take(settings._replace(started=True), None)
        self._points.reserve(min(settings.max_elements, _RESERVED_BYTES // (4 * self.dim)))

    def _add(self, data: Any, ids: Any, *, replace: bool, progress: Tell | None) -> None:
        vectors, inv_norms = as_vectors(data, self.dim, self._metric)
        labels = None if ids is None else as_labels(ids)
        if labels is not None and len(labels) != len(vectors):
            raise Refused(
                f"The input label shape {len(labels)} does not match the input data vector shape {len(vectors)}",
                field="ids",
                value=len(labels),
                limit=len(vectors),
            )
        if len(self._points) + len(vectors) > SLOTS_MAX:
            raise LimitExceeded(f"an index holds {SLOTS_MAX} points", field="data", limit=SLOTS_MAX)
        if not self._settings.started:
            self._settings = self._settings._replace(started=True)
        self._points.add(vectors, inv_norms, labels, replace=replace, tell=progress)

    # queries

    def _query(self, data: Any, k: int, threads: int, filter: Any, ef: int, *, strict: bool) -> Answered:
        queries = as_rows(data, self.dim)
        if not isinstance(k, int | np.integer) or k < 1:
            raise Refused(f"k is a whole number from 1 on, not {k!r}", field="k", value=k, limit=1)
        if k > SLOTS_MAX:
            raise LimitExceeded(f"k is at most {SLOTS_MAX}", field="k", value=k, limit=SLOTS_MAX)
        picture, answers = self._answers(filter, len(queries), int(k), ef)
        batch = answer_all(
            queries,
            int(k),
            answers,
            threads if threads > 0 else self.num_threads,
            lambda: check_vectors(queries, self._metric, "data"),
        )
        if strict and (batch.counts < k).any():
            row = int(np.argmax(batch.counts < k))
            raise Refused(f"{TOO_FEW}: row {row} has {batch.counts[row]} of {k}", field="k", value=k)
        return self._finished(picture, batch)

    def _finished(self, picture: Picture, batch: Batch) -> Answered:
        distances = batch.distances
        if self._ip:
            distances += np.float32(1)
        return label_matrix(batch, picture), distances

    def _answers(self, filter: Any, rows: int, k: int, ef: int) -> tuple[Picture, list[Answer]]:
        """A picture and how its queries are answered: one answer for all rows, or one for each."""
        if filter is not None:
            self._points.expect_filters()
        filters = filters_of_rows(filter, rows)
        if filters is None:
            picture, answer = self._answer(filter, rows, k, ef, None)
            return picture, [answer]
        picture = self._points.picture
        known: dict[int, Answer] = {}
        for one in filters:
            if id(one) not in known:
                known[id(one)] = self._answer(one, 1, k, ef, picture)[1]
        return picture, [known[id(one)] for one in filters]

    def _answer(self, filter: Any, rows: int, k: int, ef: int, picture: Picture | None) -> tuple[Picture, Answer]:
        picture = picture or self._points.picture
        pinned = picture

        def whole() -> Answer:
            bits = allowed_by(filter, pinned, self._points)
            return answering(pinned, k, ef, bits, narrowed=filter is not None)

        if callable(filter) and rows * _LAZY_ROWS < picture.alive_count:
            return picture, answering_lazily(picture, k, ef, filter, whole)
        return picture, whole()

    # points

    def get_max_elements(self) -> int:
        """How many points were announced, or are there if they are more."""
        return max(self._settings.max_elements, len(self._points))

    def get_current_count(self) -> int:
        """How many labels there are, those marked deleted included."""
        return len(self._points)

    def get_ids_list(self) -> list[int]:
        """Every label, those marked deleted included."""
        found: list[int] = self._points.all_labels().tolist()
        return found

    def get_items(self, ids: Any = None, return_type: str = "numpy") -> Any:
        """The vectors of labels as they were added, (n, dim) float32 or nested lists; none without `ids`.

        LabelNotFound when one is missing or marked deleted.
        """
        if return_type not in {"numpy", "list"}:
            raise Refused('return_type should be "numpy" or "list"', field="return_type", value=return_type)
        if ids is not None and not isinstance(ids, set | frozenset) and np.ndim(ids) == 0:
            raise Refused("get_items accepts a list of indices and returns a list of vectors", field="ids", value=ids)
        vectors = self._points.vectors_of(as_labels([] if ids is None else ids))
        return vectors if return_type == "numpy" else vectors.tolist()

    def __len__(self) -> int:
        """Points that a search may return."""
        return self._points.picture.alive_count

    def __contains__(self, label: object) -> bool:
        return isinstance(label, int | np.integer) and 0 <= int(label) <= ID_MAX and self._points.is_alive(int(label))

    def __getitem__(self, label: Any) -> NDArray[np.float32]:
        """The vector of a label (dim,), or those of several (n, dim), as they were added."""
        found: NDArray[np.float32] = self.get_items(label if np.ndim(label) else [label])
        return found if np.ndim(label) else found[0]

    @property
    def stats(self) -> dict[str, Any]:
        """Points that can be found, points marked deleted, how they are searched, and bytes of memory by part.

        layout: `scan` without a graph, `float`, `coded` or `cells`; codec: which code, why, and the recall it costs.
        """
        picture = self._points.picture
        graph = picture.graph
        return {
            "points": picture.alive_count,
            "deleted": len(self._points) - picture.alive_count,
            "layout": graph.layout if graph is not None else "scan",
            "codec": dict(graph.codec) if graph is not None else None,
            "memory": self.memory_usage(),
        }

    def __repr__(self) -> str:
        return f"<vicinal.{type(self).__name__}(space={self.space!r}, dim={self.dim}){self._state()}>"

    def _state(self) -> str:
        return f": {len(self)} points, {self.memory_usage()['total'] / 1e6:.1f} MB"

    def set_num_threads(self, num_threads: int) -> None:
        """How many threads answer a batch of queries when a call does not say."""
        self.num_threads = num_threads

    def compact(self) -> None:
        """Take points marked deleted out for good, and what updates left behind; searches go on meanwhile."""
        self._points.compact(drop_deleted=True)

    def memory_usage(self) -> dict[str, int]:
        """Bytes of memory by part (vectors, graph, labels) and in `total`, and bytes `mapped` from a file.

        What is mapped is in memory while nothing else needs the room; the system takes it back by itself.
        """
        parts = self._points.memory()
        return {**parts, "total": sum(parts.values()) - parts["mapped"]}

    # files

    def _saved_settings(self) -> Settings:
        return self._settings._replace(threads=max(int(self.num_threads), 0))

    def save_index(self, path_to_index: str | os.PathLike[str]) -> None:
        """Write one file, checksummed; after a crash the path holds all of it or what was there before."""
        saved.save(path_to_index, self._saved_settings(), self._points)

    def index_file_size(self) -> int:
        """Bytes that `save_index` would write."""
        return saved.file_bytes(self._settings, self._points)

    def _load(self, path: str | os.PathLike[str], *, mapped: bool) -> Settings:
        settings, points = saved.load_file(path, self._settings, mapped=mapped)
        self._take(settings._replace(started=True), points)
        return settings

    def to_bytes(self) -> bytes:
        """The bytes that `save_index` writes."""
        return saved.pack(self._saved_settings(), self._points)

    @classmethod
    def from_bytes(cls, content: bytes, vectors: str | None = None) -> Self:
        """The index of `to_bytes`; CorruptData unless every length and checksum holds. vectors: as for a new index."""
        parts = parse(memoryview(content), "these bytes")
        settings = parts.settings
        index = cls(settings.space, settings.dim, vectors=vectors)
        if bool(settings.M) != bool(cls._fresh.M):
            raise Refused("these bytes are of the other kind of index: Index or BFIndex", field="content")
        settings = settings._replace(vectors=index._settings.vectors)
        index._take(*saved.revive(parts._replace(settings=settings), settings.space, "these bytes"))
        index.num_threads = settings.threads or index.num_threads
        return index

    def __reduce__(self) -> tuple[Callable[[bytes, str], Self], tuple[bytes, str]]:
        return type(self).from_bytes, (self.to_bytes(), self._settings.vectors)
