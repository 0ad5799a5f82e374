"""Lists of slots for scans: what a word appends, and the members of a chunk that match."""

from __future__ import annotations

import numpy as np
import pytest
from tests.support.other_processor import run_again_on

from vicinal.kernels import njit
from vicinal.kernels.scan_lists import CHUNK, SPARE, append_word, list_chunk, nonzero_words

RNG = np.random.default_rng(3)
WORDS = [0, 1, 1 << 63, (1 << 64) - 1, *(int(w) for w in RNG.integers(0, 1 << 63, 20)), (1 << 17) - 1, (1 << 16) - 1]
SPARSE = [1 << int(i) | 1 << int(j) for i, j in RNG.integers(0, 64, (20, 2))]


@njit(cache=False)
def _append(word, first, out, count):
    return append_word(word, first, out, count)


@njit(cache=False)
def _chunk(chunk, limit, allowed, out, count):
    return list_chunk(chunk, limit, allowed, out, count)


@njit(cache=False)
def _nonzero(words):
    return nonzero_words(words)


@pytest.mark.parametrize("words", [WORDS, SPARSE, [*SPARSE, *WORDS]])
def test_words_append_their_bits_in_order(words: list[int]) -> None:
    out, count, true = np.full(64 * len(words) + SPARE, 9, np.uint32), 0, []
    for at, word in enumerate(words):
        signed = word - (1 << 64) if word >> 63 else word
        count = _append(signed, 64 * at + 1000, out.ctypes.data, count)
        true += [64 * at + 1000 + bit for bit in range(64) if word >> bit & 1]
        assert count == len(true)
        assert out[count + SPARE :].tolist() == [9] * (len(out) - count - SPARE)
    assert out[:count].tolist() == true


@pytest.mark.parametrize("limit", [0, 300, 1000])
@pytest.mark.parametrize("among", [False, True])
def test_chunks_append_their_slots_that_match(limit: int, among: bool) -> None:
    bits = RNG.integers(0, 1 << 63, 16).astype(np.uint64)
    chunk = np.full(16, 0xFFFFFFFF, np.uint32)
    chunk[:12] = RNG.permutation(1000)[:12]
    chunk[CHUNK] = 77
    out = np.full(3 + SPARE, 9, np.uint32)
    count, following = _chunk(chunk.ctypes.data, limit, bits.ctypes.data if among else 0, out.ctypes.data, 2)
    true = [s for s in chunk[:12].tolist() if s < limit and (not among or int(bits[s >> 6]) >> (s & 63) & 1)]
    assert (out[2:count].tolist(), following) == (true, 77)
    assert out[:2].tolist() == [9, 9]


def test_words_that_hold_anything_are_told() -> None:
    words = np.array([0, 1, 0, 1 << 63, 0, 0, 5, 0], np.uint64)
    assert _nonzero(words.ctypes.data) == 0b01001010


@pytest.mark.parametrize("name", ["haswell"])
def test_other_bodies_list_the_same(name, tmp_path):
    run_again_on(name, tmp_path, __file__, picked="append or told")
