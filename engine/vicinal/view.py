"""View: one immutable picture of a collection for readers.

A reader takes the current View once and never waits for the writer. Arrays behind it may gain rows, but the first
`n` slots never change; deaths come with a new bitmap in a new View.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import all_bits, word_count
from vicinal.types import Bits, PointId, Rows, TokenRows

if TYPE_CHECKING:
    from vicinal.index.field_index import Searcher
    from vicinal.multivector.proxies import ProxyPicture

__all__ = [
    "Changes",
    "DenseView",
    "IdColumn",
    "MultiView",
    "View",
]


class IdColumn(NamedTuple):
    """slot -> id: `numbers` (capacity,) uint64, and `texts` for the slots whose id is a string."""

    numbers: NDArray[np.uint64]
    texts: Mapping[int, str]

    def at(self, slots: NDArray[np.integer]) -> list[PointId]:
        """Ids of the given slots, in order."""
        numbers: list[PointId] = self.numbers.take(slots).tolist()  # sooner than by an index
        if not self.texts:
            return numbers
        texts = self.texts
        return [texts.get(s, number) for s, number in zip(slots.tolist(), numbers, strict=True)]


class Changes(NamedTuple):
    """Payloads replaced since the collection was opened: change i gave slot `slots[i]` a new one in commit `seqs[i]`.

    Commits ascend; entries from `total` on belong to later Views.
    """

    slots: NDArray[np.uint32]
    seqs: NDArray[np.int64]
    total: int


NO_CHANGES = Changes(np.zeros(0, np.uint32), np.zeros(0, np.int64), 0)


@dataclass(frozen=True, slots=True)
class DenseView:
    """A dense field: its rows, and the graph over slots below `indexed`."""

    rows: Rows
    graph: Searcher | None
    indexed: int
    present: Bits | None  # None: every point has this vector


@dataclass(frozen=True, slots=True)
class MultiView:
    """A multi-vector field: its tokens, and the proxies of slots below `indexed`.

    `signs`: of the rotation that stored bits and queries take. `originals`: tokens as they were sent, where they are
    kept; `sent` is how many were, before pooling.
    """

    tokens: TokenRows
    proxies: ProxyPicture | None
    indexed: int
    present: Bits | None
    signs: NDArray[np.float32] | None
    originals: TokenRows | None
    sent: int


@dataclass(frozen=True, slots=True)
class View:
    """Everything a query needs, of one commit: `n` slots, of which those in `dead` are not alive."""

    seq: int
    n: int
    alive: int
    dead: Bits | None  # None: none is dead
    ids: IdColumn
    fields: Mapping[str, DenseView | MultiView]
    changes: Changes = NO_CHANGES
    prepared: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)  # see `ready`
    stretched: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)  # see `ready`

    def forget(self) -> None:
        """Plan anew what comes next."""
        self.prepared.clear()
        self.stretched.clear()

    def with_field(self, name: str, moved: DenseView | MultiView) -> View:
        """The same picture with one field's index moved on."""
        return replace(self, fields={**self.fields, name: moved})

    def allowed(self, present: Bits | None, filter_bits: Bits | None) -> Bits | None:
        """Slots that may be returned: alive, with the field, matching; not to be written to. None means all n."""
        if self.dead is None and present is None and filter_bits is None:
            return None
        words = word_count(self.n)
        bits = all_bits(self.n) if filter_bits is None else filter_bits[:words]  # which has no bit set beyond n
        if self.dead is not None:
            bits = bits & ~self.dead[:words]
        if present is not None:
            bits = bits & present[:words]
        return bits
