"""`Index` and `BFIndex`: hnswlib 0.8.0's classes over this engine, in memory, one file to save.

Signatures and distances are hnswlib's (l2: squared; ip: 1 - dot; cosine: 1 - cos), so `import vicinal as hnswlib` does.
What is better: an index grows by itself, a search is safe while another thread adds, filters take arrays, a row with
fewer than k results is filled (label 2**64 - 1, distance infinity) instead of raising, `ef` is saved, vectors come back
as they were added. What differs: vectors with NaN, infinity or, under cosine, of length zero are refused.
"""

from __future__ import annotations

import os
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import LimitExceeded
from vicinal.flat.file_format import Settings
from vicinal.flat.filters import Bitmap
from vicinal.flat.inputs import Refused, as_labels
from vicinal.flat.points import Points, Tell
from vicinal.flat.shared import FlatIndex
from vicinal.limits import EF_CONSTRUCTION_MAX, EF_MAX, K_MAX, M_MAX, M_MIN

__all__ = ["BFIndex", "Bitmap", "Index"]

_ARRAY: Final = np.ndarray
_FLOAT32: Final = np.dtype(np.float32)
_INFINITY: Final = float("inf")
_ONE: Final = np.array(1, np.float32)  # an array: numpy takes longer to look at a scalar
_SEED_END: Final = 1 << 64


class Index(FlatIndex):
    """Approximate nearest neighbours by a graph.

    space: l2, ip or cosine; l1, haversine, or a name given to `vicinal.register_metric`. vectors: where the float32
    rows are, `auto`, `memory` or `file`: searches walk on codes and seldom read them, so from 64 MB on they are in a
    temporary file unless told otherwise. Call `init_index` first to choose the graph's parameters; adding to an index
    that was not initiated takes the defaults.
    """

    _fresh: ClassVar[Settings] = Settings("l2", 1, M=16, ef_construction=200, seed=100, vectors="auto")

    def _take(self, settings: Settings, points: Points | None) -> None:
        super()._take(settings, points)
        self._remember()

    def _remember(self) -> None:
        """Keep at hand what every query needs."""
        self._ef = self._settings.ef
        self._walk_ef = min(self._ef, EF_MAX)

    def init_index(
        self,
        max_elements: int = 0,
        M: int = 16,
        ef_construction: int = 200,
        random_seed: int = 100,
        allow_replace_deleted: bool = False,
    ) -> None:
        """Begin an index without points.

        max_elements: room to make now; the index grows beyond it by itself. M: links per point and level, twice as
        many on the lowest. ef_construction: how thoroughly links are looked for.
        """
        if not M_MIN <= M <= M_MAX:
            raise LimitExceeded(f"M is {M_MIN} to {M_MAX}", field="M", value=M, limit=M_MAX)
        wide = max(ef_construction, M)
        if wide > EF_CONSTRUCTION_MAX:
            raise LimitExceeded(
                f"ef_construction is at most {EF_CONSTRUCTION_MAX}",
                field="ef_construction",
                value=wide,
                limit=EF_CONSTRUCTION_MAX,
            )
        if not 0 <= random_seed < _SEED_END:
            raise Refused("random_seed is 0 to 2**64 - 1", field="random_seed", value=random_seed)
        replaces = bool(allow_replace_deleted)
        self._start(
            self._settings._replace(
                max_elements=max_elements, M=M, ef_construction=wide, seed=random_seed, replaces=replaces
            )
        )

    def add_items(
        self,
        data: Any,
        ids: Any = None,
        num_threads: int = -1,
        replace_deleted: bool = False,
        *,
        progress: Tell | None = None,
    ) -> None:
        """Add vectors (n, dim) or one (dim,); a label that exists is updated, and its last row in `data` counts.

        ids: n labels; None: numbers that follow those given so far. num_threads is accepted and not needed: large
        additions use all cores, with the same bytes on any number. replace_deleted: new labels take the places of
        points marked deleted, whose labels are forgotten. progress: told the share done, 0 to 1.

        Points are found once this returns. Searches meanwhile see the index as it was.
        """
        del num_threads
        if replace_deleted and not self._settings.replaces:
            raise Refused(
                "Replacement of deleted elements is disabled in constructor: pass allow_replace_deleted=True to it",
                field="replace_deleted",
                value=replace_deleted,
            )
        self._add(data, ids, replace=replace_deleted, progress=progress)

    def knn_query(
        self, data: Any, k: int = 1, num_threads: int = -1, filter: Any = None, *, strict: bool = False
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Labels (n, k) uint64 and distances (n, k) float32 of the k nearest points of each query, nearest first.

        data: (n, dim), or (dim,) for one. filter: a function of a label, labels, a bool mask by label, a `Bitmap`, or
        an expression such as "label >= 100 and id != 107"; or a list of those, one per query. Every row has
        min(k, matches) results; the rest is label 2**64 - 1 at infinite distance, or raises Refused (a RuntimeError)
        when `strict`.
        """
        if filter is None and type(data) is _ARRAY and data.dtype is _FLOAT32:
            picture = self._points.picture
            walk = picture.walk
            if walk is not None and 0 < k <= K_MAX:
                found = walk(data, k, self._walk_ef, picture)
                if found is not None:
                    if self._ip:
                        np.add(found[1], _ONE, found[1])
                    return found
        return self._query(data, k, num_threads, filter, self._ef, strict=strict)

    def mark_deleted(self, label: int) -> None:
        """Let no search return the point; it can be unmarked until `compact` or a replacement takes it out."""
        self._points.delete(_one_label(label))

    def unmark_deleted(self, label: int) -> None:
        """Let searches return the point again."""
        self._points.restore(_one_label(label))

    def resize_index(self, new_size: int) -> None:
        """Make room for so many points; never needed, the index grows by itself."""
        if new_size < len(self._points):
            raise Refused(
                "Cannot resize, max element is less than the current number of elements",
                field="new_size",
                value=new_size,
                limit=len(self._points),
            )
        self._settings = self._settings._replace(max_elements=new_size)
        self._points.reserve(new_size)

    def set_ef(self, ef: int) -> None:
        """Choose between speed and recall: larger finds more of the true k and takes longer."""
        if not isinstance(ef, int | np.integer) or ef < 1:
            raise Refused("ef is a whole number from 1 on", field="ef", value=ef, limit=1)
        self._settings = self._settings._replace(ef=min(int(ef), (1 << 32) - 1))
        self._remember()

    def load_index(
        self, path_to_index: str | os.PathLike[str], max_elements: int = 0, allow_replace_deleted: bool = False
    ) -> None:
        """Become the index of a file, of this library or of hnswlib; CorruptData unless every part of it holds.

        A file of hnswlib gets a new graph; it does not keep its space, seed and ef, and under cosine only normalised
        vectors.
        """
        self._opened(self._load(path_to_index, mapped=False), max_elements, allow_replace_deleted)

    def view(self, path_to_index: str | os.PathLike[str]) -> None:
        """Become the index of a file without reading its vectors into memory: they stay in the file.

        The file must not be changed in place while the index lives; saving over it is fine. Adding copies the vectors
        into memory first.
        """
        self._opened(self._load(path_to_index, mapped=True), 0, allow_replace=False)

    def _opened(self, settings: Settings, max_elements: int, allow_replace: bool) -> None:
        room = max_elements if max_elements >= len(self._points) and max_elements else settings.max_elements
        replaces = settings.replaces or bool(allow_replace)
        self._settings = self._settings._replace(max_elements=room, replaces=replaces)
        self._remember()

    @property
    def ef(self) -> int:
        """Effort of a search: larger finds more of the true k and takes longer."""
        return self._ef

    @ef.setter
    def ef(self, ef: int) -> None:
        self.set_ef(ef)

    @property
    def max_elements(self) -> int:
        """As `get_max_elements`."""
        return self.get_max_elements()

    @property
    def element_count(self) -> int:
        """As `get_current_count`."""
        return self.get_current_count()

    @property
    def ef_construction(self) -> int:
        """How thoroughly links are looked for; 0 before `init_index`."""
        return self._settings.ef_construction if self._settings.started else 0

    @property
    def M(self) -> int:  # noqa: N802 - hnswlib's name
        """Links per point and level; 0 before `init_index`."""
        return self._settings.M if self._settings.started else 0


class BFIndex(FlatIndex):
    """Exact nearest neighbours by scanning every point."""

    def init_index(self, max_elements: int = 0) -> None:
        """Begin an index without points, with room for so many; it grows beyond it by itself."""
        self._start(self._settings._replace(max_elements=max_elements))

    def add_items(self, data: Any, ids: Any = None) -> None:
        """Add vectors (n, dim) or one (dim,); a label that exists is updated."""
        self._add(data, ids, replace=False, progress=None)

    def knn_query(
        self, data: Any, k: int = 1, num_threads: int = -1, filter: Any = None, *, strict: bool = False
    ) -> tuple[NDArray[np.uint64], NDArray[np.float32]]:
        """Labels and distances as `Index.knn_query`, always the true nearest."""
        return self._query(data, k, num_threads, filter, 1, strict=strict)

    def delete_vector(self, label: int) -> None:
        """Take a point out; one that is not there is no error."""
        self._points.remove(_one_label(label))

    def load_index(self, path_to_index: str | os.PathLike[str], max_elements: int = 0) -> None:
        """Become the index of a file, of this library or of hnswlib; CorruptData unless every part of it holds."""
        self._load(path_to_index, mapped=False)
        if max_elements >= len(self._points):
            self._settings = self._settings._replace(max_elements=max(max_elements, self._settings.max_elements))


def _one_label(label: Any) -> int:
    if np.ndim(label):
        raise Refused("label is one whole number from 0 to 2**64 - 1", field="label", value=label)
    return int(as_labels([label], "label")[0])
