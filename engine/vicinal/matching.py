"""Which slots of a View match a filter: attribute columns kept up to the View, and the tree evaluated over them.

Columns hold every slot's payload as it was when the slot was taken in. Payloads changed later have columns of their
own, one row per change, and the newest change that a View knows overrides the slot's row. When there are many, all
columns are read anew.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from vicinal.bits import bits_from_mask, bits_from_slots, mask_from_bits
from vicinal.filter.cache import BitmapCache
from vicinal.filter.column_snapshot import Loaded, decode, encode
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import SlotsOf, evaluate
from vicinal.filter.facets import Counts, Tally, tally
from vicinal.filter.model import Filter
from vicinal.filter.normal import normalise
from vicinal.filter.parse import parse_filter
from vicinal.filter.path import Path, values_at
from vicinal.filter.stretch import Stretch, stretch_of
from vicinal.storage.catalog import Catalog
from vicinal.types import Bits, PointId
from vicinal.view import NO_CHANGES, Changes, View

__all__ = ["Matcher"]

Cancel = Callable[[], bool]
SaveColumns = Callable[[Sequence[bytes | memoryview], int], bool]  # False: it could not be saved


def never() -> bool:
    """The cancel of a call that must come to its end."""
    return False


CHUNK_ROWS: Final = 4096  # payloads read at once when columns catch up with the catalogue
SAVE_FROM: Final = 20_000  # slots more than were saved, and
SAVE_SHARE: Final = 0.1  # their share, from which columns are saved again; fewer slots are not worth a file
FOLD_FROM: Final = 4096  # changes, and
FOLD_SHARE: Final = 0.125  # their share of the slots, from which reading all columns anew costs less than keeping them


class Matcher:
    """Columns are derived from the catalogue's payloads, by `keep_up` in the background or by the first filter."""

    def __init__(self, catalog: Catalog, saved: memoryview | None = None, save: SaveColumns | None = None) -> None:
        self._catalog = catalog
        self._save = save
        loaded = None if saved is None else _loaded(saved, catalog)
        self._attributes = _Attributes(catalog, NO_CHANGES, loaded)
        self._saved = (0, 0) if loaded is None else (loaded.columns.n, loaded.seq)  # slots and commit
        self._tried = self._saved[0]  # a full disk is not written to again after every commit

    @property
    def memory_bytes(self) -> int:
        """Bytes of the columns and of remembered bitmaps."""
        return self._attributes.memory_bytes

    @property
    def bytes_by_key(self) -> dict[str, int]:
        """Bytes of the column of each key, changes of payloads aside."""
        return self._attributes.bytes_by_key

    def bits(self, filter: Mapping[str, Any] | str | Filter | None, view: View) -> Bits | None:
        """Bitmap of the slots below view.n that match, dead ones included; None when there is no filter."""
        tree = parse_filter(filter)
        return None if tree is None else self._attributes.bits(tree, view)

    def stretch(self, tree: Filter, view: View) -> Stretch | None:
        """The filter as stretches of sorted columns; None unless it asks for such, and no payload was changed."""
        return self._attributes.stretch(tree, view)

    def tally(self, path: Path, allowed: Bits, view: View) -> Tally:
        """How many of the allowed slots have each value at the path."""
        return self._attributes.tally(path, allowed, view)

    def texts(self, digests: Counts, path: Path, view: View) -> Counter[str]:
        """The same counts under the texts, from the payloads of slots that have them."""
        return self._attributes.texts(digests, path, view)

    def keep_up(self, view: View, cancel: Cancel) -> None:
        """Take in what the View has more than the columns, sort what is not sorted; for a background thread."""
        attributes = self._attributes
        attributes.extend(view, cancel)
        if attributes.rewritten(view) >= max(FOLD_FROM, int(view.n * FOLD_SHARE)):
            attributes = _Attributes(self._catalog, view.changes)
            attributes.extend(view, cancel)
            self._attributes = attributes
        if not cancel():
            attributes.seal()
            if view.n - self._tried >= max(SAVE_FROM, int(view.n * SAVE_SHARE)):
                self._save_now(view)

    def close(self, view: View) -> None:
        """Save the columns if they hold more than was saved; nothing may write any more."""
        if view.n >= SAVE_FROM and self._saved != (view.n, view.seq) and self._attributes.holds(view):
            self._save_now(view)

    def _save_now(self, view: View) -> None:
        if self._save is not None:
            columns, stale = self._attributes.stamped(view)
            self._tried = view.n
            if self._save(encode(columns, view.seq, stale), view.n):
                self._saved = (view.n, view.seq)


class _Attributes:
    """Columns of all slots, and of the payload changes after the first `skipped.total`, which no column needs."""

    def __init__(self, catalog: Catalog, skipped: Changes, loaded: Loaded | None = None) -> None:
        self._catalog = catalog
        self._slots = BitmapCache(Columns() if loaded is None else loaded.columns)
        self._rewritten = np.zeros(0, np.uint32)  # slots whose rows are those of `_rows` instead, see `_loaded`
        self._rows = BitmapCache(Columns(self._slots.columns.salt))
        self._changes = BitmapCache(Columns(self._slots.columns.salt))
        self._skipped = skipped.total
        self._log = skipped  # the newest seen
        self._stops: list[int] = []  # slots [stops[i-1], stops[i]) are held as of commit seqs[i]
        self._seqs: list[int] = []
        if loaded is not None:
            self._stops, self._seqs = [loaded.columns.n], [loaded.seq]
            self._rewritten = loaded.stale
            self._rows.columns.extend(catalog.payloads(loaded.stale.tolist(), catalog.last.seq))
        self._catching_up = threading.Lock()

    @property
    def memory_bytes(self) -> int:
        parts = (self._slots, self._rows, self._changes)
        return sum(cache.memory_bytes + cache.columns.memory_bytes for cache in parts)

    @property
    def bytes_by_key(self) -> dict[str, int]:
        return self._slots.columns.bytes_by_key

    def changed(self, view: View) -> int:
        return view.changes.total - self._skipped

    def rewritten(self, view: View) -> int:
        return self.changed(view) + self._rewritten.size

    def holds(self, view: View) -> bool:
        return self._slots.columns.n >= view.n and self._changes.columns.n >= self.changed(view)

    def stamped(self, view: View) -> tuple[Columns, NDArray[np.uint32]]:
        """The columns of all slots, and the slots whose payloads they hold as older than the View."""
        return self._slots.columns, np.union1d(self._rewritten, self._known(view))

    def seal(self) -> None:
        self._slots.columns.seal()

    def extend(self, view: View, cancel: Cancel = never) -> None:
        """Take in slots and changes up to the View's; a cancelled call stops at a chunk."""
        if self.holds(view):
            return
        with self._catching_up:
            if view.changes.total > self._log.total:
                self._log = view.changes
            while (first := self._slots.columns.n) < view.n and not cancel():
                stop = min(first + CHUNK_ROWS, view.n)
                payloads = self._catalog.payload_range(first, stop, view.seq)
                self._stops.append(stop)
                self._seqs.append(view.seq)
                self._slots.columns.extend(payloads)
            self._extend_changes(view)

    def _extend_changes(self, view: View) -> None:
        slots, seqs, total = view.changes
        while (first := self._skipped + self._changes.columns.n) < total:
            seq = int(seqs[first])
            stop = first + int(np.searchsorted(seqs[first:total], seq, "right"))
            self._changes.columns.extend(self._catalog.payloads(slots[first:stop].tolist(), seq))

    def bits(self, tree: Filter, view: View) -> Bits:
        """As `Matcher.bits`."""
        self.extend(view)
        bits = self._slots.evaluate(tree, lambda ids: self._slots_of(ids, view), view.n)
        known = view.changes
        if self._rewritten.size:
            rows = self._rows.evaluate(tree, self._rows_of(self._rewritten, view), self._rewritten.size)
            bits = _replaced(bits, self._rewritten, np.arange(self._rewritten.size), rows, view.n)
        if known.total > self._skipped:
            bits = self._overridden(bits, tree, view)
        if self._log.total > known.total:
            bits = self._taken_back(bits, tree, view)
        return bits

    def stretch(self, tree: Filter, view: View) -> Stretch | None:
        """As `Matcher.stretch`."""
        self.extend(view)
        found = stretch_of(normalise(tree), self._slots.columns, view.n)
        # asked afterwards: what columns hold as later than the View was logged before it was taken in
        changed = self._rewritten.size or max(self._log.total, view.changes.total) > self._skipped
        return None if changed else found

    def _overridden(self, bits: Bits, tree: Filter, view: View) -> Bits:
        """The bits, with the newest change of each slot in place of what the columns hold."""
        slots, rows = self._newest(view)
        known = self._known(view)
        matching = self._changes.evaluate(tree, self._rows_of(known, view), len(known))
        return _replaced(bits, slots, rows, matching, view.n)

    def _known(self, view: View) -> NDArray[np.uint32]:
        """The slot of each change that the View knows."""
        return view.changes.slots[self._skipped : view.changes.total]

    def _newest(self, view: View) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """The changed slots, and for each the row of the newest change that the View knows."""
        known = self._known(view)
        rows = len(known) - 1 - np.unique(known[::-1], return_index=True)[1]
        return known[rows], rows

    def _taken_back(self, bits: Bits, tree: Filter, view: View) -> Bits:
        """The bits, for a reader of an older View than some columns were read at."""
        slots, columns = self._older(view)
        if not slots.size:
            return bits
        matching = evaluate(tree, columns, self._rows_of(slots, view), len(slots))
        return _replaced(bits, slots, np.arange(len(slots)), matching, view.n)

    def _older(self, view: View) -> tuple[NDArray[np.uint32], Columns]:
        """The slots that the columns hold as later than the View, and columns of what it knows of them, by row."""
        slots = self._log.slots[view.changes.total : self._log.total]
        seqs = self._log.seqs[view.changes.total : self._log.total]
        below = slots < view.n
        slots, seqs = slots[below], seqs[below]
        slots = np.unique(slots[seqs <= self._held(slots)])
        columns = Columns(self._slots.columns.salt)
        columns.extend(self._catalog.payloads(slots.tolist(), view.seq))
        return slots, columns

    def tally(self, path: Path, allowed: Bits, view: View) -> Tally:
        """As `Matcher.tally`: each slot is counted in the columns that hold what the View knows of it."""
        self.extend(view)
        mask = mask_from_bits(allowed, view.n).copy()
        older, columns = self._older(view)
        found = tally(columns, path, bits_from_mask(mask[older]), older)
        mask[older] = False
        slots, rows = self._newest(view)
        known = self._known(view)
        changed = bits_from_slots(rows[mask[slots]], len(known))
        found.add(tally(self._changes.columns, path, changed, known))
        mask[slots] = False
        rewritten = bits_from_mask(mask[self._rewritten])
        found.add(tally(self._rows.columns, path, rewritten, self._rewritten))
        mask[self._rewritten] = False
        found.add(tally(self._slots.columns, path, bits_from_mask(mask), None))
        return found

    def texts(self, digests: Counts, path: Path, view: View) -> Counter[str]:
        """As `Matcher.texts`."""
        texts: Counter[str] = Counter()
        payloads = self._catalog.payloads(digests.first.tolist(), view.seq)
        for (digest, slots), payload in zip(digests.pairs(), payloads, strict=True):
            assert payload is not None, "a slot that was counted has a payload"
            said = [text for text in values_at(orjson.loads(payload), path) if isinstance(text, str)]
            texts[said[self._slots.columns.digests(said).index(digest)]] = slots
        return texts

    def _held(self, slots: NDArray[np.uint32]) -> NDArray[np.int64]:
        """The commit whose payload the columns hold, for each slot."""
        return np.array([self._seqs[bisect_right(self._stops, slot)] for slot in slots.tolist()], np.int64)

    def _rows_of(self, slots: NDArray[np.uint32], view: View) -> SlotsOf:
        """Which of these slots belong to ids."""

        def rows_of(ids: Sequence[PointId]) -> NDArray[np.uint32]:
            return np.flatnonzero(np.isin(slots, self._slots_of(ids, view))).astype(np.uint32)

        return rows_of

    def _slots_of(self, ids: Sequence[PointId], view: View) -> NDArray[np.uint32]:
        slots = self._catalog.slots_at(list(ids), view.seq)
        return np.array([s for s in slots if s is not None], np.uint32)


def _loaded(saved: memoryview, catalog: Catalog) -> Loaded | None:
    """The columns that were saved, and all slots whose payloads changed since; None if they cannot be trusted.

    Saved are the columns of all slots and not those of changes: few payloads change, and these are read again.
    """
    try:
        loaded = decode(saved)
    except Exception:  # noqa: BLE001 - derived, whatever is wrong with it: the payloads are read again
        return None
    n, seq, last = loaded.columns.n, loaded.seq, catalog.last
    if n > last.rows or seq > last.seq:
        return None
    return loaded._replace(stale=np.union1d(loaded.stale, catalog.changed_slots(n, seq)).astype(np.uint32))


def _replaced(bits: Bits, slots: NDArray[np.uint32], rows: NDArray[np.integer], matching: Bits, n: int) -> Bits:
    """A copy of the bits in which slot slots[i] is set as bit rows[i] of `matching` is."""
    if not slots.size:
        return bits
    at = rows.astype(np.uint64)
    found = (matching[at >> np.uint64(6)] >> (at & np.uint64(63))) & np.uint64(1) == 1
    cleared: Bits = bits & ~bits_from_slots(slots, n)
    cleared |= bits_from_slots(slots[found], n)
    return cleared
