"""A coded index comes back from bytes as it was, without being fitted again, and damage never reaches a kernel."""

from __future__ import annotations

import json
import mmap
import struct
from typing import Any

import numpy as np
import pytest
from crc32c import crc32c

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index import coded, coded_snapshot, field_index
from vicinal.index.field_index import FieldIndex
from vicinal.index.mapped import is_mapped
from vicinal.types import HnswParams, Metric, Rows

N = 2500
KINDS = {"bytes": (24, 24, Metric.COSINE), "nibbles": (120, 20, Metric.L2), "signs": (400, 400, Metric.DOT)}


def _index(kind: str) -> tuple[Any, Rows]:
    dim, rank, metric = KINDS[kind]
    rng = np.random.default_rng(dim)
    vectors = (rng.standard_normal((N, rank)) @ rng.standard_normal((rank, dim))).astype(np.float32)
    norms = (1 / np.linalg.norm(vectors, axis=1)).astype(np.float32) if metric is Metric.COSINE else np.empty(0, "f4")
    rows = Rows(vectors, norms)
    index = FieldIndex(metric, dim, HnswParams(), coded_from=N)
    index.extend(rows, N, lambda: False)
    return index, rows


@pytest.fixture(scope="module", params=sorted(KINDS))
def saved(request):
    index, rows = _index(request.param)
    assert index.searcher().index.info["code"] == request.param
    return index, rows, index.encode()


def _again(like: Any, rows: Rows, content: bytes | memoryview) -> Any:
    index = FieldIndex(like._metric, like._dim, HnswParams(), coded_from=N)
    index.decode(content, rows, N)
    return index


def test_nothing_is_fitted_again(saved, monkeypatch):
    index, rows, content = saved

    def fits(*_: Any, **__: Any) -> None:
        raise AssertionError("fitted again")

    monkeypatch.setattr(coded, "choose", fits)
    monkeypatch.setattr(coded.CodedIndex, "measure_efforts", fits)
    again = _again(index, rows, content)
    assert again.encode() == content
    before, after = index._large, again._large
    assert after.efforts == before.efforts
    assert len(after.efforts.measured) > 0
    assert after.info == before.info
    np.testing.assert_array_equal(after._arrays.rows.bytes, before._arrays.rows.bytes)
    np.testing.assert_array_equal(after._arrays.lines.bytes, before._arrays.lines.bytes)


def test_it_grows_on_from_the_same_entry(saved):
    index, rows, content = saved
    wider = Rows(np.concatenate((rows.vectors, rows.vectors[:40] * np.float32(1.01))), np.tile(rows.inv_norms, 2))
    indexes = [_again(index, rows, content) for _ in range(2)]
    indexes[0]._entry = index._entry
    assert indexes[1]._entry == index._entry
    for grown in indexes:
        grown.extend(wider, N + 40, lambda: False)
    assert indexes[0].encode() == indexes[1].encode()


def _text(content: bytes) -> tuple[int, dict[str, Any]]:
    """Length and content of a snapshot's text."""
    size = struct.unpack_from("<Q", content, 16)[0]
    return size, json.loads(content[40 : 40 + size])


def _forged(content: bytes, told: dict[str, Any]) -> bytes:
    """The snapshot with another text, its checksums right."""
    body = content[40 + _text(content)[0] :]
    text = json.dumps(told).encode()
    text += b" " * (-(40 + len(text)) % 64)
    total = 40 + len(text) + len(body)
    head = struct.pack("<8sIIQQI", b"VICCODES", coded_snapshot.FORMAT, 0x01020304, len(text), total, crc32c(text))
    return head + struct.pack("<I", crc32c(head)) + text + body


def _set(*path: Any, value: Any) -> Any:
    def change(told: dict[str, Any]) -> None:
        at: Any = told["about"]["tree"]
        for part in path[:-1]:
            at = at[part]
        at[path[-1]] = value

    return change


_CHOICE = ("choice", "fields")
FORGED = {
    "another dimension": _set(*_CHOICE, "frame", "fields", "dim", value=7),
    "another metric": _set(*_CHOICE, "frame", "fields", "metric", value="hamming"),
    "no scale": _set(*_CHOICE, "frame", "fields", "scale", value=float("nan")),
    "a number for an array": _set(*_CHOICE, "cells", "fields", "norms", value=1.0),
    "the wrong array": _set(*_CHOICE, "cell_nodes", value={"array": 0}),
    "no such array": _set(*_CHOICE, "cell_nodes", value={"array": 99}),
    "no such class": _set(*_CHOICE, "codec", "kind", value="Popen"),
    "an unknown field": _set(*_CHOICE, "codec", "fields", "extra", value=1),
    "more bits": _set(*_CHOICE, "codec", "fields", "query", "fields", "projected", value=1 << 20),
    "another walk": _set("efforts", "fields", "exact_walk", value=None),
    "an effort beyond its bits": _set(
        "efforts", "fields", "measured", 0, "fields", "effort", "fields", "pool", value=1 << 20
    ),
    "an effort that is no number": _set(
        "efforts", "fields", "measured", 0, "fields", "effort", "fields", "settle", value="9"
    ),
    "an entry outside": _set("entry", value=N),
}


def test_forging_nothing_is_accepted(saved):
    index, rows, content = saved
    assert _forged(content, _text(content)[1]) == content
    assert _again(index, rows, _forged(content, _text(content)[1])).n == N


@pytest.mark.parametrize("what", sorted(FORGED))
def test_what_does_not_fit_is_refused_although_its_checksums_hold(saved, what):
    index, rows, content = saved
    told = _text(content)[1]
    if what == "more bits" and told["about"]["tree"]["choice"]["fields"]["codec"]["kind"] == "ByteCodec":
        pytest.skip("bytes have no bits")
    FORGED[what](told)
    with pytest.raises(CorruptData):
        _again(index, rows, _forged(content, told))


def test_more_slots_than_there_are_are_refused(saved):
    index, _, content = saved
    with pytest.raises(CorruptData, match=f"{N} slots of {N - 1}"):
        coded_snapshot.decode(content, index._metric, index._dim, N - 1)
    assert coded_snapshot.decode(content, index._metric, index._dim, N).entry == index._entry


def test_links_beyond_the_slots_are_refused(saved):
    index, rows, _ = saved
    fitted = index._large.fitted(0, index._removed)
    links = fitted.links.copy()
    links[5, 0] = N
    with pytest.raises(CorruptData, match="slot"):
        _again(index, rows, coded_snapshot.encode(fitted._replace(links=links)))


def test_any_flipped_byte_is_refused(saved):
    index, rows, content = saved
    for at in [*range(64), *np.random.default_rng(1).integers(64, len(content), 60).tolist()]:
        flipped = bytearray(content)
        flipped[at] ^= 0x10
        try:
            again = _again(index, rows, bytes(flipped))
        except (CorruptData, FormatTooNew):
            continue
        assert content[at] in b"\0 ", f"byte {at} is not padding"
        assert again.encode() == content


def test_another_metric_or_width_is_refused(saved):
    index, rows, content = saved
    other = Metric.L2 if index._metric is not Metric.L2 else Metric.DOT
    for metric, dim in ((other, index._dim), (index._metric, index._dim + 1)):
        with pytest.raises(CorruptData):
            field_index.FieldIndex(metric, dim, HnswParams()).decode(content, rows, N)


def test_a_newer_format_says_so(saved):
    index, rows, content = saved
    head = content[:8] + struct.pack("<I", coded_snapshot.FORMAT + 1) + content[12:36]
    with pytest.raises(FormatTooNew):
        _again(index, rows, head + struct.pack("<I", crc32c(head)) + content[40:])


@pytest.fixture(scope="module")
def with_plane():
    index, rows = _index("signs")
    return index, rows, b"".join(index.chunks())


def _mapped(content: bytes, path: Any) -> memoryview:
    path.write_bytes(content)
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))


def test_second_bytes_stay_in_a_mapped_file_until_the_index_grows(with_plane, tmp_path):
    index, rows, content = with_plane
    again = _again(index, rows, _mapped(content, tmp_path / "graph"))
    before, after = index._large, again._large
    fine = after._arrays.fine
    assert is_mapped(fine)
    assert fine.ctypes.data % 64 == 0  # read a cache line at a time
    assert not fine.flags.writeable
    np.testing.assert_array_equal(fine, before._arrays.fine[:N])
    assert after.memory_bytes == before.memory_bytes - fine.nbytes
    for query in rows.vectors[:20] + np.float32(0.1):
        found = [one.search(query, 10, 50, rows=rows) for one in (before, after)]
        np.testing.assert_array_equal(*found)
    assert b"".join(again.chunks()) == content
    wider = Rows(np.concatenate((rows.vectors, rows.vectors[:40] * np.float32(1.01))), rows.inv_norms)
    again.extend(wider, N + 40, lambda: False)
    grown = after._arrays.fine
    assert not is_mapped(grown)
    np.testing.assert_array_equal(grown[:N], fine)
    assert grown[N : N + 40].any()
    after.search(rows.vectors[0], 10, 50, rows=wider)


def test_second_bytes_that_were_rounded_otherwise_are_made_again(with_plane):
    index, rows, _ = with_plane
    fitted = index._large.fitted(index._entry, index._removed)
    plane = index._large._arrays.fine[:N].copy()
    plane[7, 3] ^= 1
    again = _again(index, rows, coded_snapshot.encode(fitted._replace(plane=plane)))
    fine = again._large._arrays.fine
    assert fine.flags.writeable
    assert fine.ctypes.data % 64 == 0
    np.testing.assert_array_equal(fine, index._large._arrays.fine[:N])
    for other in (plane[:-1], plane[:, 64:], plane.view(np.int8), plane[:0]):
        with pytest.raises(CorruptData):
            _again(index, rows, coded_snapshot.encode(fitted._replace(plane=other)))
