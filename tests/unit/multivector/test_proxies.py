"""Proxies of both kinds: codes against plain numpy, growth, and their snapshots."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.support.maxsim_oracle import make_points, unit_rows

from vicinal.errors import CorruptData
from vicinal.multivector import coded_vectors
from vicinal.multivector.lemur import _SAMPLE, QueryTokens
from vicinal.multivector.proxies import ProxyIndex
from vicinal.multivector.proxy_kinds import make_proxies
from vicinal.multivector.tokens import quantise_tokens
from vicinal.schema import Multi
from vicinal.types import TokenRows

KINDS = [
    Multi(24),
    Multi(24, proxy="lemur"),
    *(Multi(24, proxy="fde", proxy_bits=bits, repetitions=5, simhash_projections=3) for bits in (1, 4, 8, 32)),  # type: ignore[arg-type]
]


def _stored(counts: Any, seed: int = 1, dim: int = 24, spare: int = 50) -> TokenRows:
    """Rows as a field keeps them: with room behind the last point, where `ends` holds nothing."""
    tokens, ends = make_points(np.random.default_rng(seed), np.asarray(counts), dim)
    codes, scales = quantise_tokens(tokens, ends)
    return TokenRows(codes, np.pad(ends, (0, spare)), np.pad(scales, (0, spare)))


def _nearest(index: ProxyIndex[Any], query: NDArray[np.float32], n: int) -> Any:
    picture = index.picture()
    assert picture is not None
    return [part.tolist() for part in picture.nearest(query, 9, range(n))]


def _levels(codes: coded_vectors.CodedVectors) -> NDArray[np.int64]:
    """What lines stand for, unpacked as the kernel's page says."""
    lines = codes.lines[: codes.n]
    if codes.bits == 8:
        return 2 * lines.astype(np.int64) - 255
    if codes.bits == 1:
        return 2 * np.unpackbits(lines, axis=1, bitorder="little").astype(np.int64) - 1
    pieces = lines.reshape(codes.n, -1, 64)
    return 2 * np.concatenate([pieces & 15, pieces >> 4], axis=2).reshape(codes.n, -1).astype(np.int64) - 15


@pytest.mark.parametrize("bits", [1, 4, 8])
@pytest.mark.parametrize("dim", [5, 256, 700])
def test_products_are_those_of_the_levels(bits: int, dim: int) -> None:
    rng = np.random.default_rng(dim)
    vectors = rng.standard_normal((40, dim)).astype(np.float32) * rng.uniform(0.1, 9, (40, 1)).astype(np.float32)
    vectors[7] = 0
    codes = coded_vectors.append(coded_vectors.empty(dim, bits, seed=3), vectors[:25])
    codes = coded_vectors.append(codes, vectors[25:])
    query = rng.standard_normal(dim).astype(np.float32)
    slots, found = coded_vectors.nearest(codes, query, 40, range(40))
    rotated = coded_vectors._rotated(codes, np.vstack([vectors, query]))
    assert np.allclose(rotated @ rotated.T, np.vstack([vectors, query]) @ np.vstack([vectors, query]).T, atol=1e-2)
    unit = np.abs(rotated[-1]).max() / 127
    values = _levels(codes)
    factors = np.einsum("ij,ij->i", rotated[:-1], rotated[:-1]) / np.maximum((rotated[:-1] * values).sum(axis=1), 1e-30)
    expected = factors * unit * (values @ np.rint(rotated[-1] / unit).astype(np.int64))
    assert np.allclose(found, expected[slots], rtol=1e-3, atol=1e-3)
    assert found[slots == 7] == 0
    true = vectors @ query
    error = np.sqrt(np.mean((found - true[slots]) ** 2 / np.maximum((vectors[slots] ** 2).sum(axis=1), 1e-9)))
    assert error < {1: 1.0, 4: 0.2, 8: 0.05}[bits] * np.linalg.norm(query) / np.sqrt(max(dim, 256)) * 1.5


def test_floats_are_kept_as_they_are() -> None:
    vectors = np.random.default_rng(0).standard_normal((2_500, 6)).astype(np.float32)
    codes = coded_vectors.append(coded_vectors.empty(6, 32, seed=3), vectors)
    slots, found = coded_vectors.nearest(codes, vectors[3], 2_500, range(2_500))
    assert np.allclose(found, (vectors @ vectors[3])[slots], atol=1e-5)
    assert np.all(np.diff(found) <= 0)


@pytest.mark.parametrize("spec", KINDS)
def test_points_added_later_get_the_same_proxies(spec: Multi) -> None:
    counts = np.random.default_rng(2).integers(0, 9, 700)
    rows, query = _stored(counts), unit_rows(np.random.default_rng(3), 4, 24)
    once, steps = make_proxies(spec), make_proxies(spec)
    once.extend(rows, 700)
    for stop in (0, 600, 650, 700):
        steps.extend(rows, stop)
        assert steps.n == stop
    if spec.proxy == "fde":  # centroids depend on what there was when they were fitted
        assert _nearest(once, query, 700) == _nearest(steps, query, 700)
    before = once.picture()
    assert before is not None
    held = [part.tolist() for part in before.nearest(query, 9, range(700))]
    once.extend(_stored(np.concatenate([counts, np.full(3_000, 5)])), 3_700)
    assert once.n == 3_700
    assert [part.tolist() for part in before.nearest(query, 9, range(700))] == held  # readers keep what they had


@pytest.mark.parametrize("spec", KINDS)
def test_a_snapshot_gives_the_same_answers(spec: Multi) -> None:
    rows, query = _stored(np.random.default_rng(4).integers(0, 9, 600)), unit_rows(np.random.default_rng(5), 4, 24)
    index = make_proxies(spec)
    assert make_proxies(spec).encode() == index.encode()
    index.extend(rows, 500)
    kept, again = index.encode(), make_proxies(spec)
    again.decode(kept, rows, 600)
    assert again.n == 500
    if index.refits:
        assert again.fitted_tokens == index.fitted_tokens
    for grown in (index, again):
        grown.extend(rows, 600)
    assert _nearest(again, query, 600) == _nearest(index, query, 600)
    assert again.encode() == index.encode()


@pytest.mark.parametrize("spec", KINDS)
def test_a_snapshot_that_does_not_fit_is_refused(spec: Multi) -> None:
    counts = np.random.default_rng(4).integers(1, 9, 300)
    rows = _stored(counts)
    index = make_proxies(spec)
    index.extend(rows, 300)
    kept = index.encode()
    fresh = make_proxies(spec)
    with pytest.raises(CorruptData):
        fresh.decode(kept, rows, 299)
    with pytest.raises(CorruptData):
        fresh.decode(kept[:-8], rows, 300)
    other = make_proxies(Multi(23, proxy=spec.proxy, proxy_bits=spec.proxy_bits, repetitions=5, simhash_projections=3))
    with pytest.raises(CorruptData):
        other.decode(kept, rows, 300)
    if spec.proxy == "centroids":  # numbers must go with the tokens
        counts[10] = 0
        with pytest.raises(CorruptData):
            fresh.decode(kept, _stored(counts), 300)
    assert fresh.n == 0


def test_a_pass_that_is_broken_off_keeps_what_is_done() -> None:
    rows = _stored(np.full(2_000, 3))
    index = make_proxies(Multi(24, proxy="fde", repetitions=2))
    index.extend(rows, 600)
    asked = iter([False, True])
    index.extend(rows, 2_000, lambda: next(asked))
    assert 600 < index.n < 2_000


def _fill_data(spread: float) -> TokenRows:
    """Points whose tokens lie near few directions of their own, or anywhere."""
    rng = np.random.default_rng(8)
    centres = unit_rows(rng, 400, 24)
    tokens = np.concatenate([c + spread * unit_rows(rng, 6, 24) for c in centres]).astype(np.float32)
    tokens /= np.linalg.norm(tokens, axis=1, keepdims=True)
    ends = np.arange(1, 401, dtype=np.int64) * 6
    return TokenRows(tokens, ends, np.ones(400, np.float32))


def test_filling_is_measured_and_the_better_way_taken() -> None:
    for spread in (0.5, 2.0):
        rows = _fill_data(spread)
        spec = Multi(24, proxy="fde", proxy_bits=32, repetitions=5, simhash_projections=3, fill_empty="auto")
        index = make_proxies(spec)
        index.extend(rows, 400)
        picture = index.picture()
        assert picture is not None
        told = picture.chosen
        filled, not_filled = told["fill_empty_recalls"]
        assert told["fill_empty_chosen"] == (filled >= not_filled)
        assert 0 < min(filled, not_filled) < 1
        fixed = make_proxies(replace(spec, fill_empty=told["fill_empty_chosen"]))
        fixed.extend(rows, 400)
        other = make_proxies(replace(spec, fill_empty=not told["fill_empty_chosen"]))
        other.extend(rows, 400)
        query = rows.tokens[40:44]
        assert _nearest(index, query, 400) == _nearest(fixed, query, 400) != _nearest(other, query, 400)
        again = make_proxies(spec)
        again.decode(index.encode(), rows, 400)
        assert again.picture().chosen == told  # type: ignore[union-attr]
        with pytest.raises(CorruptData):
            other.decode(index.encode(), rows, 400)


def test_few_points_are_filled_until_there_are_enough_to_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _fill_data(1.0)
    index = make_proxies(Multi(24, proxy="fde", repetitions=3, simhash_projections=3))
    index.extend(rows, 50)
    assert index.picture().chosen == {"fill_empty_chosen": True, "fill_empty_recalls": None}  # type: ignore[union-attr]
    lines = index.picture().codes.lines  # type: ignore[union-attr]
    monkeypatch.setattr("vicinal.multivector.encoded.recalls_of", lambda *_: [0.5, 0.4])
    index.extend(rows, 300)  # measured again, the same answer: nothing is encoded anew
    assert index.picture().chosen["fill_empty_recalls"] == [0.5, 0.4]  # type: ignore[union-attr]
    assert np.array_equal(index.picture().codes.lines[:50], lines[:50])  # type: ignore[union-attr]
    before = index.picture()
    monkeypatch.setattr("vicinal.multivector.encoded.recalls_of", lambda *_: [0.4, 0.5])
    index.extend(rows, 400)
    assert index.picture().encoder is before.encoder  # type: ignore[union-attr]
    more = TokenRows(np.tile(rows.tokens, (4, 1)), np.arange(1, 1_601, dtype=np.int64) * 6, np.ones(1_600, np.float32))
    index.extend(more, 1_600)
    assert index.picture().chosen["fill_empty_chosen"] is False  # type: ignore[union-attr]
    assert index.n == 1_600
    assert not np.array_equal(index.picture().codes.lines[:50], lines[:50])  # type: ignore[union-attr]


def test_a_sample_of_query_tokens_is_even_and_no_query_waits() -> None:
    asked = QueryTokens(2, seed=1)
    for low in range(0, 40_000, 7):
        asked.offer(np.stack([np.arange(low, low + 7), np.ones(7)], axis=1).astype(np.float32))
        assert len(asked) == min(low + 7, _SAMPLE)
    kept = asked.tokens()
    assert kept.shape == (_SAMPLE, 2)
    assert len(set(kept[:, 0].tolist())) == _SAMPLE
    shares = np.histogram(kept[:, 0], 8, (0, 40_005))[0] / _SAMPLE
    assert np.all(np.abs(shares - 1 / 8) < 0.025)
    with asked._lock:
        asked.offer(np.ones((3, 2), np.float32))  # would wait for ever otherwise
