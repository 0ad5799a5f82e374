"""One multi-vector field of a collection: token matrices, ragged by slot, and their proxies.

Files: rows of tokens as `store` says, one record per slot that says where its tokens end, and, where the field keeps
them, the tokens as they were sent. Slots only ever get behind each other, so no id shifts when points go.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal.batch import DensePart, MultiPart
from vicinal.errors import CorruptData
from vicinal.fields import Cancel, Presence, growable, present_at
from vicinal.index.field_index import CHUNK_ROWS
from vicinal.multivector.proxy_kinds import make_proxies
from vicinal.multivector.stores import encode_tokens, rotated, rotation
from vicinal.schema import Multi
from vicinal.storage.vectors import RowFile
from vicinal.types import TokenRows
from vicinal.view import MultiView

__all__ = ["MultiField", "token_files"]

_RECORD = np.dtype([("end", "<i8"), ("scale", "<f4"), ("sent", "<u4")])  # sent: 0 where as many are stored
_NO_SCALES = np.empty(0, np.float32)


class MultiField:
    """Token matrices, ragged by slot, and their proxies."""

    def __init__(self, name: str, spec: Multi, row_files: Mapping[str, RowFile]) -> None:
        self.name, self.spec = name, spec
        names = list(token_files(name, spec))
        self.files: Mapping[str, RowFile] = {file: row_files[file] for file in names}
        self._tokens, self._ends_file = row_files[names[0]], row_files[names[1]]
        self._originals = row_files[names[2]] if spec.originals else None
        self._ends, self._sent_ends = np.zeros(0, np.int64), np.zeros(0, np.int64)
        self._scales, self._ones = np.zeros(0, np.float32), np.zeros(0, np.float32)
        self._count = 0
        self._presence = Presence()
        self._proxies = make_proxies(spec)
        self._signs = rotation(spec.dim, spec.seed) if spec.store == "bit" else None

    @property
    def indexed(self) -> int:
        """Slots below this have proxies."""
        return self._proxies.n

    def snapshot(self) -> Sequence[bytes | memoryview]:
        """The proxies as bytes."""
        return [self._proxies.encode()]

    def append(self, part: DensePart | MultiPart | None, first: int, count: int) -> None:
        """Append the tokens, encoded as the field says, and where each point's end."""
        assert self._count == first, "slots are appended in order"
        records = np.zeros(count, _RECORD)
        records["end"], records["scale"] = int(self._ends[first - 1]) if first else 0, 1.0
        if isinstance(part, MultiPart):
            records["end"] += part.ends
            records["sent"] = part.sent
            records["scale"] = self._append_tokens(part)
        self._ends_file.append(records.view(np.uint8).reshape(count, _RECORD.itemsize))
        self._take(records, first)
        self._presence.extend(first, count, part is not None)

    def copy(self, other: MultiField, source: MultiView, slots: NDArray[np.intp], first: int) -> None:
        """Append token matrices as another generation stores them."""
        places, counts = _places(source.tokens.ends, slots)
        sent_places, sent = _places(other._sent_ends, slots)
        records = np.zeros(len(slots), _RECORD)
        records["end"] = np.cumsum(counts) + (int(self._ends[first - 1]) if first else 0)
        records["scale"] = source.tokens.scales[slots]
        records["sent"] = np.where(sent == counts, 0, sent)
        self._tokens.append(source.tokens.tokens[places].view(np.uint8))
        if self._originals is not None:
            assert source.originals is not None, "both generations keep what was sent"
            self._originals.append(source.originals.tokens[sent_places].view(np.uint8))
        self._ends_file.append(records.view(np.uint8).reshape(len(slots), _RECORD.itemsize))
        self._take(records, first)
        self._presence.extend(first, len(slots), present_at(source.present, slots))

    def problems(self, n: int) -> list[str]:
        """What does not hold of where tokens end."""
        for ends, file in ((self._ends, self._tokens), (self._sent_ends, self._originals)):
            if file is None or n == 0:
                continue
            if (np.diff(ends[:n], prepend=0) < 0).any() or int(ends[n - 1]) > file.rows:
                return ["the ends of its points do not rise to its tokens"]
        return [f"{self.indexed} slots of {n} have proxies"] if self.indexed > n else []

    def _append_tokens(self, part: MultiPart) -> NDArray[np.float32]:
        tokens = rotated(self._signs, part.tokens)
        rows, scales = encode_tokens(self.spec.store, tokens, part.ends, self.spec.scale)
        self._tokens.append(np.ascontiguousarray(rows).view(np.uint8))
        if self._originals is not None:
            assert part.originals is not None, "the batch was made for this field"
            self._originals.append(np.ascontiguousarray(part.originals).view(np.uint8))
        return scales

    def _take(self, records: NDArray[Any], first: int) -> None:
        stop = first + len(records)
        self._ends, self._scales = growable(self._ends, stop), growable(self._scales, stop)
        self._ends[first:stop], self._scales[first:stop] = records["end"], records["scale"]
        stored = np.diff(records["end"], prepend=self._ends[first - 1] if first else 0)
        counts = np.where(records["sent"] > 0, records["sent"].astype(np.int64), stored)
        before = int(self._sent_ends[first - 1]) if first else 0
        self._sent_ends = growable(self._sent_ends, stop)
        self._sent_ends[first:stop] = before + np.cumsum(counts)
        if self.spec.originals and len(self._ones) < len(self._ends):
            self._ones = np.ones(len(self._ends), np.float32)
        self._count = stop

    def _token_rows(self) -> TokenRows:
        return TokenRows(self._tokens.matrix(self.spec.stored, (self.spec.columns,)), self._ends, self._scales)

    def _sent_rows(self) -> TokenRows | None:
        if self._originals is None:
            return None
        tokens = self._originals.matrix(np.dtype(np.float32), (self.spec.dim,))
        return TokenRows(tokens, self._sent_ends, self._ones)

    def view(self, n: int) -> MultiView:
        """Picture of the first n slots."""
        proxies = self._proxies.picture()
        indexed = proxies.n if proxies else 0
        sent = int(self._sent_ends[n - 1]) if n else 0
        return MultiView(
            self._token_rows(), proxies, indexed, self._presence.bits(n), self._signs, self._sent_rows(), sent
        )

    def rewind(self, n: int) -> None:
        """Forget slots from n on, and their tokens."""
        self._tokens.rewind(int(self._ends[n - 1]) if n else 0)
        if self._originals is not None:
            self._originals.rewind(int(self._sent_ends[n - 1]) if n else 0)
        self._ends_file.rewind(n)
        self._count = n

    def extend_index(self, n: int, cancel: Cancel, dead: NDArray[np.bool_] | None) -> None:  # noqa: ARG002 - all slots
        """Give some or all of the slots up to n proxies."""
        first = self.indexed  # twice as many at most: what was fitted to few points is fitted again
        self._proxies.extend(self._token_rows(), min(n, first + max(first, CHUNK_ROWS)), cancel)

    def retire(self, *_: Any) -> bool:
        """Do nothing: proxies of dead slots are passed over."""
        return False

    def tail_bytes(self, n: int) -> int:
        """Token bytes scanned per query."""
        first = int(self._ends[self.indexed - 1]) if self.indexed else 0
        last = int(self._ends[n - 1]) if n else 0
        return (last - first) * self.spec.row_bytes

    def load(self, n: int, present: NDArray[np.bool_]) -> None:
        """Read where each point's tokens end; CorruptData when that cannot be."""
        self._presence.load(present)
        records = self._ends_file.matrix(np.dtype(np.uint8), (_RECORD.itemsize,))[:n]
        ends = np.ascontiguousarray(records).view(_RECORD).reshape(n)
        self._check_ends(ends)
        self._take(ends, 0)

    def _check_ends(self, records: NDArray[Any]) -> None:
        """Raise CorruptData unless each point's tokens end behind where they begin, inside of what is stored."""
        bounds = np.concatenate(([0], records["end"], [self._tokens.rows]))
        sent = np.where(records["sent"] > 0, records["sent"].astype(np.int64), np.diff(bounds[:-1]))
        fits = self._originals is None or sent.sum() <= self._originals.rows
        if np.any(bounds[1:] < bounds[:-1]) or not fits or not np.all(np.isfinite(records["scale"])):
            raise CorruptData(
                f"{self._ends_file.name}: a point's tokens end before they begin, or behind the last of "
                f"{self._tokens.rows}; restore the collection from a backup",
                field=self._ends_file.name,
            )

    def restore(self, buffer: memoryview | bytes, n: int) -> None:
        """Take a snapshot of proxies."""
        try:
            self._proxies.decode(buffer, self._token_rows(), n)
        except BaseException:
            self._proxies = make_proxies(self.spec)
            raise


def _places(ends: NDArray[np.int64], slots: NDArray[np.intp]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The rows of the tokens of these slots, one slot after another, and how many each has."""
    starts = np.where(slots > 0, ends[slots - 1], 0)
    counts = ends[slots] - starts
    within = np.arange(int(counts.sum())) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.repeat(starts, counts) + within, counts


def token_files(name: str, spec: Multi) -> dict[str, int]:
    """Row files of a multi field, generation 1, and the bytes of a row: tokens, ends, and tokens as sent if kept."""
    stem = name or "tokens"
    files = {f"{stem}-1.tok": spec.row_bytes, f"{stem}-1.off": _RECORD.itemsize}
    return files | {f"{stem}-1.sent": 4 * spec.dim} if spec.originals else files
