from __future__ import annotations

import struct

import numpy as np
import pytest
from crc32c import crc32c
from tests.support.vectors_oracle import clustered, rows_of

from vicinal.errors import CorruptData, FormatTooNew
from vicinal.index.check import check_graph
from vicinal.index.hnsw import HnswIndex, search_graph
from vicinal.types import HnswParams, Metric

PARAMS = HnswParams(M=4, ef_construction=40)
N, DIM = 300, 8
HEADER = 64


@pytest.fixture(scope="module")
def vectors():
    made = clustered(N, DIM, 1)
    made[100:130] = made[7]
    return made


@pytest.fixture(scope="module")
def encoded(vectors):
    index = HnswIndex(Metric.L2, DIM, PARAMS)
    index.extend(rows_of(Metric.L2, vectors), N)
    return index.encode()


def _decode(buffer, slots: int = N) -> HnswIndex:
    return HnswIndex.decode(buffer, Metric.L2, DIM, PARAMS, slots)


def _resealed(buffer: bytearray) -> bytes:
    """The bytes with every checksum made right again: what a clever attacker would send."""
    n, upper, M = struct.unpack_from("<QQI", buffer, 16)
    at = HEADER
    for size in (n, 4 * n, 8 * M * n, 4 * M * upper):
        start = crc32c(buffer[at : at + 4] + buffer[at + 8 : at + 16])
        struct.pack_into("<I", buffer, at + 4, crc32c(bytes(buffer[at + 16 : at + 16 + size]), start))
        at += 16 + size
    struct.pack_into("<I", buffer, HEADER - 4, crc32c(bytes(buffer[: HEADER - 4])))
    return bytes(buffer)


def test_there_and_back(encoded, vectors):
    index = _decode(encoded)
    assert index.n == N
    assert index.encode() == encoded
    assert not check_graph(index.picture()).problems
    slots, _ = search_graph(index.picture(), Metric.L2, rows_of(Metric.L2, vectors), vectors[3], 1, 50, limit=N)
    assert slots.tolist() == [3]


def test_a_memoryview_and_more_slots_than_the_graph_has(encoded):
    assert _decode(memoryview(bytearray(encoded)), N + 50).n == N


def test_building_goes_on_where_it_stopped(encoded):
    vectors = clustered(N + 200, DIM, 1)
    vectors[100:130] = vectors[7]
    rows = rows_of(Metric.L2, vectors)
    one = HnswIndex(Metric.L2, DIM, PARAMS)
    one.extend(rows, N)
    two = _decode(one.encode())
    for index in (one, two):
        index.extend(rows, N + 200)
    assert one.encode() == two.encode()
    assert not check_graph(two.picture()).problems


def test_an_empty_graph():
    empty = HnswIndex(Metric.L2, DIM, PARAMS).encode()
    assert len(empty) == HEADER + 4 * 16
    index = _decode(empty, 0)
    index.extend(rows_of(Metric.L2, clustered(9, DIM, 1)), 9)
    assert index.n == 9


@pytest.mark.parametrize("seed", range(4))
def test_every_flipped_bit_is_found(encoded, seed):
    for position in np.random.default_rng(seed).integers(0, len(encoded) * 8, 500):
        damaged = bytearray(encoded)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CorruptData):
            _decode(bytes(damaged))


def test_every_flipped_bit_of_the_header_is_found(encoded):
    for position in range(HEADER * 8):
        damaged = bytearray(encoded)
        damaged[position // 8] ^= 1 << (position % 8)
        with pytest.raises(CorruptData):
            _decode(bytes(damaged))


def test_truncated_anywhere_or_with_more_behind(encoded):
    for length in [*range(200), *range(200, len(encoded), 97)]:
        with pytest.raises(CorruptData):
            _decode(encoded[:length])
    with pytest.raises(CorruptData):
        _decode(encoded + b"\0")


def test_a_newer_format_is_named(encoded):
    newer = bytearray(encoded)
    struct.pack_into("<I", newer, 8, 2)
    with pytest.raises(FormatTooNew, match="format 2"):
        _decode(_resealed(newer))


def test_of_another_collection(encoded):
    with pytest.raises(CorruptData, match="299 slots"):
        _decode(encoded, N - 1)
    with pytest.raises(CorruptData, match="M is 5"):
        HnswIndex.decode(encoded, Metric.L2, DIM, HnswParams(M=5), N)


SECTION_1 = HEADER + 16
SECTION_2 = SECTION_1 + N + 16
SECTION_3 = SECTION_2 + 4 * N + 16
SECTION_4 = SECTION_3 + 4 * 2 * PARAMS.M * N + 16


def _entry(encoded) -> int:
    return int(struct.unpack_from("<Q", encoded, 40)[0])


@pytest.mark.parametrize(
    ("offset", "kind", "value", "reason"),
    [
        (SECTION_3, "<I", N, "beyond"),
        (SECTION_3, "<I", 0, "itself"),
        (SECTION_3, "<I", 0xFFFFFFFF, "after its end"),
        (SECTION_3 + 32 * 150, "<I", 0x80000000 | 20, "older"),
        (SECTION_3, "<I", 105, "without saying so"),
        (SECTION_3, "<I", 0x80000000 | 105, "two places"),
        (SECTION_2, "<I", 0xFFFFFF00, "beyond the upper levels"),
        (SECTION_1, "<B", 31, "level"),
        (SECTION_4, "<I", N, "beyond"),
        (40, "<Q", N, "entry point"),
        (40, "<Q", (1 << 64) - 1, "entry point"),
        (36, "<I", 29, "top"),
        (36, "<I", 31, "cannot be"),
        (16, "<Q", 1 << 60, "cannot be"),
        (24, "<Q", 1 << 60, "cannot be"),
        (24, "<Q", 9, "do not fit"),
        (32, "<I", 1, "cannot be"),
        (32, "<I", 1 << 31, "cannot be"),
        (56, "<I", 1, "never written"),
        (48, "<Q", 1 << 60, "where the header says"),
        (48, "<Q", 0, "where the header says"),
        (HEADER, "<I", 9, "kind 9"),
        (HEADER + 8, "<Q", 1 << 60, "section 1"),
        (SECTION_2 - 8, "<Q", 0, "section 2"),
        (SECTION_3 - 8, "<Q", (1 << 64) - 1, "section 3"),
        (SECTION_4 - 8, "<Q", 1 << 32, "section 4"),
    ],
)
def test_sound_checksums_around_a_bad_graph(encoded, offset, kind, value, reason):
    crafted = bytearray(encoded)
    struct.pack_into(kind, crafted, offset, value)
    if 16 <= offset < 36:  # the sizes: seal the header only
        struct.pack_into("<I", crafted, HEADER - 4, crc32c(bytes(crafted[: HEADER - 4])))
        with pytest.raises(CorruptData, match=reason):
            _decode(bytes(crafted))
        return
    with pytest.raises(CorruptData, match=reason):
        _decode(_resealed(crafted))


def test_a_link_to_a_slot_that_is_not_on_the_level(encoded):
    levels = np.frombuffer(encoded, np.uint8, N, SECTION_1)
    low = int(np.flatnonzero(levels == 0)[0])
    upper = np.frombuffer(encoded, "<u4", -1, SECTION_4)
    place = int(np.flatnonzero(upper != 0xFFFFFFFF)[0])
    crafted = bytearray(encoded)
    struct.pack_into("<I", crafted, SECTION_4 + 4 * place, low)
    with pytest.raises(CorruptData, match="not on its level"):
        _decode(_resealed(crafted))
