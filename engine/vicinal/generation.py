"""Generation: a collection's files, their writer and all that is derived from them, exchanged as one.

Compaction makes another generation and puts it in the place of the first. A call that began before goes on with the
generation it took, whose files are kept until nothing in this process refers to it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal.answers import vectors_of
from vicinal.bits import slots_from_bits
from vicinal.indexer import Indexer
from vicinal.maintenance import COLUMNS, Opened, close_files, load_columns, save_snapshot
from vicinal.matching import Matcher
from vicinal.ready import Preparer
from vicinal.types import Hits, Payload, Point, PointId
from vicinal.view import View
from vicinal.writer import Writer

__all__ = ["FilterLike", "Generation", "Home", "matcher_of"]


FilterLike = Mapping[str, Any] | str | Any | None


class Home(Protocol):
    """Where the generations of collections lie, and which of them counts."""

    def new_place(self) -> tuple[str, Path | None]:
        """A name that no generation has yet, and its directory, which is not made yet; None in memory."""

    def switch(self, collection: str, uid: str) -> None:
        """Let the collection's name lead to generation `uid`, durably.

        StorageFull: it leads where it did. After another error that is not known until the directory is opened again.
        """


def matcher_of(opened: Opened, *, read_only: bool = False) -> Matcher:
    """The columns over a collection's payloads."""
    kept = not read_only and opened.directory is not None
    return Matcher(opened.catalog, load_columns(opened), partial(save_snapshot, opened, COLUMNS) if kept else None)


class Generation:
    """The parts of an open collection. Nothing in them refers to it: whoever holds it is using it."""

    def __init__(
        self,
        opened: Opened,
        watch: Callable[[View], None],
        *,
        read_only: bool = False,
        matcher: Matcher | None = None,
    ) -> None:
        self.opened = opened
        self.writer = Writer(opened.catalog, opened.fields, opened.view, opened.dead, read_only=read_only)
        self.matcher = matching = matcher_of(opened, read_only=read_only) if matcher is None else matcher
        self.planned = Preparer(opened.schema, matching.bits, matching.stretch)
        kept = not read_only and opened.directory is not None
        save = partial(save_snapshot, opened) if kept else None
        self.indexer = Indexer(self.writer, opened.fields, save, matching.keep_up, watch)

    @property
    def view(self) -> View:
        """The newest published View."""
        return self.writer.view

    def matching(self, view: View, filter: FilterLike) -> NDArray[np.uint32]:
        """The slots that are alive and match, ascending."""
        allowed = view.allowed(None, self.matcher.bits(filter, view))
        return np.arange(view.n, dtype=np.uint32) if allowed is None else slots_from_bits(allowed, view.n)

    def page(
        self, view: View, filter: FilterLike, limit: int, offset: PointId | None
    ) -> tuple[NDArray[np.int64], PointId | None]:
        """One page of slots by id, and the id after it; see `Collection.scroll`."""
        slots = self.matching(view, filter).astype(np.int64)
        order = [(isinstance(i, str), i, s) for i, s in zip(view.ids.at(slots), slots.tolist(), strict=True)]
        if offset is not None:
            order = [entry for entry in order if entry[:2] >= (isinstance(offset, str), offset)]
        order.sort(key=lambda entry: entry[:2])
        rest = order[limit][1] if len(order) > limit else None
        return np.array([entry[2] for entry in order[:limit]], np.int64), rest

    def _payloads(self, view: View, slots: NDArray[Any]) -> list[Payload | None]:
        texts = self.opened.catalog.payloads(slots.tolist(), view.seq)
        return [None if text is None else orjson.loads(text) for text in texts]

    def points(self, view: View, slots: NDArray[Any], with_payload: bool, with_vectors: bool) -> list[Point]:
        """What is stored at these slots, in order."""
        ids = view.ids.at(slots)
        payloads = self._payloads(view, slots) if with_payload else [None] * len(ids)
        vectors = vectors_of(self.opened.schema, view, slots) if with_vectors else [None] * len(ids)
        return [Point(*row) for row in zip(ids, payloads, vectors, strict=True)]

    def hits(
        self,
        view: View,
        slots: NDArray[np.uint32],
        scores: NDArray[np.float32],
        with_payload: bool,
        with_vectors: bool,
        explain: Mapping[str, Any] | None,
    ) -> Hits:
        """An answer with what was asked for beside ids and scores."""
        return Hits(
            view.ids.at(slots),
            scores,
            self._payloads(view, slots) if with_payload else None,
            vectors_of(self.opened.schema, view, slots) if with_vectors else None,
            explain=explain,
        )

    def close(self) -> None:
        """Finish queued writes, stop the indexer, save snapshots, close the files."""
        self.writer.close()
        self.indexer.close()
        self.planned.checks.close()
        if self.indexer.failure is None:
            self.matcher.close(self.writer.view)
        close_files(self.opened, seq=self.writer.view.seq)

    def stop(self) -> None:
        """Stop threads and save nothing; its files stay open for calls that go on."""
        self.writer.close()
        self.indexer.close(save=False)
        self.planned.checks.close()
