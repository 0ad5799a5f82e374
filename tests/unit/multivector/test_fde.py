"""The fixed-dimensional encoder: equality with Google's, the paper's properties, refused input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bench.multi.muvera import apart_from_google
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.support.maxsim_oracle import encode_plainly, least_sketch, make_points, maxsim, split, unit_rows

from vicinal.errors import InvalidArgument, InvalidVector, LimitExceeded
from vicinal.multivector.fde import FixedDimensionalEncoder, Mode

GOLDEN = Path(__file__).parents[2] / "golden" / "fde"
CASES = json.loads((GOLDEN / "cases.json").read_text())
MODES: list[Mode] = ["google", "paper"]


def _of_case(case: dict[str, Any]) -> FixedDimensionalEncoder:
    return FixedDimensionalEncoder(
        case["dim"],
        case["repetitions"],
        case["simhash_projections"],
        None if case["projection"] == "identity" else case["projection_dimension"],
        case["fill_empty_partitions"],
        case["final_projection_dimension"],
        case["seed"],
    )


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["case"])
def test_equals_googles_encoder(case: dict[str, Any]) -> None:
    stored = np.load(GOLDEN / f"case-{case['case']:02d}.npz")
    encoder = _of_case(case)
    encode = encoder.encode_document if case["encoding"] == "average" else encoder.encode_query
    found = encode(stored["tokens"])
    assert found.dtype == np.float32
    assert len(found) == case["length"] == encoder.dimension
    assert np.abs(found - stored["encoding"]).max() <= 1e-5


def test_equals_googles_encoder_on_200_configurations() -> None:
    pytest.importorskip("muvfde")
    assert apart_from_google(200) <= 1e-5


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(MODES),
    st.integers(1, 4),
    st.integers(0, 5),
    st.one_of(st.none(), st.integers(1, 20)),
    st.booleans(),
    st.integers(1, 130),
    st.integers(0, 1 << 20),
)
def test_equals_the_definition(
    mode: Mode, repetitions: int, bits: int, width: int | None, fill: bool, count: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    encoder = FixedDimensionalEncoder(int(rng.integers(1, 40)), repetitions, bits, width, fill, seed=seed, mode=mode)
    tokens = unit_rows(rng, count, encoder.dim)
    if least_sketch(encoder, tokens) < 1e-6:
        return
    for average, encode in ((False, encoder.encode_query), (True, encoder.encode_document)):
        assert np.abs(encode(tokens) - encode_plainly(encoder, tokens, average)).max() < 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_query_side_is_linear(mode: Mode) -> None:
    rng = np.random.default_rng(1)
    encoder = FixedDimensionalEncoder(32, 4, 3, 8, mode=mode, final_dimension=100)
    a, b = unit_rows(rng, 20, 32), unit_rows(rng, 9, 32)
    together = encoder.encode_query(np.concatenate([a, b]))
    assert np.allclose(together, encoder.encode_query(a) + encoder.encode_query(b), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_the_order_of_tokens_does_not_matter(mode: Mode) -> None:
    rng = np.random.default_rng(2)
    # without fill: with it, of equally near tokens the first fills
    encoder = FixedDimensionalEncoder(32, 4, 3, 8, fill_empty=False, mode=mode)
    tokens = unit_rows(rng, 50, 32)
    shuffled = tokens[rng.permutation(50)]
    assert np.allclose(encoder.encode_query(tokens), encoder.encode_query(shuffled), atol=1e-5)
    assert np.allclose(encoder.encode_document(tokens), encoder.encode_document(shuffled), atol=1e-5)


@pytest.mark.parametrize("mode", MODES)
def test_never_above_maxsim_without_projection(mode: Mode) -> None:
    """Lemma A.3 of the paper: with width = dim and fill on, each repetition estimates from below."""
    rng = np.random.default_rng(3)
    encoder = FixedDimensionalEncoder(24, 6, 4, None, mode=mode)
    for _ in range(20):
        query, document = unit_rows(rng, 8, 24), unit_rows(rng, int(rng.integers(1, 60)), 24)
        estimate = encoder.encode_query(query) @ encoder.encode_document(document) / encoder.repetitions
        assert estimate <= maxsim(query, document) + 1e-5


@pytest.mark.parametrize("mode", MODES)
def test_estimates_maxsim_of_near_documents(mode: Mode) -> None:
    """A document holding the query's tokens scores near the query's length, others far below."""
    rng = np.random.default_rng(4)
    encoder = FixedDimensionalEncoder(64, 20, 4, 16, mode=mode)
    query, others = unit_rows(rng, 16, 64), unit_rows(rng, 30, 64)
    own = encoder.encode_query(query)
    near = own @ encoder.encode_document(np.concatenate([query, others[:4]])) / 20
    far = own @ encoder.encode_document(others) / 20
    assert near > 2 * far
    assert 0.5 * 16 < near < 1.3 * 16


def test_blocks_sum_to_the_sum_of_tokens() -> None:
    rng = np.random.default_rng(5)
    encoder = FixedDimensionalEncoder(16, 3, 4, None)
    tokens = unit_rows(rng, 40, 16)
    sums = encoder.encode_query(tokens).reshape(3, 16, 16).sum(axis=1)
    assert np.allclose(sums, tokens.sum(axis=0), atol=1e-5)


@pytest.mark.parametrize("final", [None, 200])
@pytest.mark.parametrize("mode", MODES)
def test_a_batch_gives_the_same_bytes_as_one_by_one(mode: Mode, final: int | None) -> None:
    rng = np.random.default_rng(6)
    encoder = FixedDimensionalEncoder(32, 5, 4, 8, mode=mode, final_dimension=final)
    tokens, ends = make_points(rng, rng.integers(1, 230, 25), 32)
    documents, queries = encoder.encode_documents(tokens, ends), encoder.encode_queries(tokens, ends)
    for i, matrix in enumerate(split(tokens, ends)):
        assert documents[i].tobytes() == encoder.encode_document(matrix).tobytes()
        assert queries[i].tobytes() == encoder.encode_query(matrix).tobytes()


def test_a_final_projection_takes_batches_larger_than_its_buffer() -> None:
    rng = np.random.default_rng(7)
    encoder = FixedDimensionalEncoder(8, 64, 10, None, final_dimension=16)  # half the largest encoding
    tokens, ends = make_points(rng, np.array([3, 1, 4, 1, 5]), 8)
    batch = encoder.encode_documents(tokens, ends)
    assert [row.tobytes() for row in batch] == [encoder.encode_document(m).tobytes() for m in split(tokens, ends)]


def test_no_documents_give_no_encodings() -> None:
    encoder = FixedDimensionalEncoder(8, 2, 2, 4)
    assert encoder.encode_documents(np.empty((0, 8), np.float32), np.empty(0, np.int64)).shape == (0, 32)


@pytest.mark.parametrize("mode", MODES)
def test_parameters_make_the_same_encoder_again(mode: Mode) -> None:
    encoder = FixedDimensionalEncoder(12, 3, 2, None, False, 50, seed=9, mode=mode)
    again = FixedDimensionalEncoder.from_parameters(json.loads(json.dumps(encoder.parameters)))
    assert again.parameters == encoder.parameters
    assert again.fingerprint() == encoder.fingerprint()


def test_fingerprint_tells_parameters_apart() -> None:
    shape: dict[str, Any] = {"dim": 12, "repetitions": 3, "simhash_projections": 2, "projection_dimension": 4}
    variants: list[dict[str, Any]] = [
        {},
        {"seed": 43},
        {"mode": "paper"},
        {"fill_empty": False},
        {"repetitions": 2},
        {"final_dimension": 9},
    ]
    prints = {FixedDimensionalEncoder(**(shape | change)).fingerprint() for change in variants}
    assert len(prints) == len(variants)


def test_another_process_encodes_the_same() -> None:
    script = (
        "import numpy as np; from vicinal import FixedDimensionalEncoder as F\n"
        "x = np.linspace(-1, 1, 7 * 12, dtype=np.float32).reshape(7, 12)\n"
        "for mode in ('google', 'paper'):\n"
        "    e = F(12, 3, 2, 4, mode=mode); print(e.fingerprint(), e.encode_document(x).tobytes().hex())\n"
    )
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    tokens = np.linspace(-1, 1, 7 * 12, dtype=np.float32).reshape(7, 12)
    for mode, line in zip(MODES, other.stdout.splitlines(), strict=True):
        encoder = FixedDimensionalEncoder(12, 3, 2, 4, mode=mode)
        assert line == f"{encoder.fingerprint()} {encoder.encode_document(tokens).tobytes().hex()}"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"dim": 0}, "dim"),
        ({"dim": 1.5}, "dim"),
        ({"repetitions": 0}, "repetitions"),
        ({"repetitions": True}, "repetitions"),
        ({"simhash_projections": -1}, "simhash_projections"),
        ({"simhash_projections": 31}, "simhash_projections"),
        ({"projection_dimension": 0}, "projection_dimension"),
        ({"final_dimension": 0}, "final_dimension"),
        ({"final_dimension": 1 << 21}, "final_dimension"),
        ({"seed": -1}, "seed"),
        ({"seed": 1 << 32}, "seed"),
        ({"mode": "other"}, "mode"),
        ({"fill_empty": None}, "fill_empty"),
    ],
)
def test_bad_parameters_are_refused(change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        FixedDimensionalEncoder(**({"dim": 8} | change))
    assert caught.value.field == field


def test_too_long_encodings_are_refused() -> None:
    FixedDimensionalEncoder(2, 1 << 10, 9, 2)
    with pytest.raises(LimitExceeded, match="at most 1048576"):
        FixedDimensionalEncoder(2, (1 << 10) + 1, 9, 2)


@pytest.mark.parametrize("change", [{"version": 2}, {"version": None}, {"extra": 1}])
def test_unknown_stored_parameters_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgument):
        FixedDimensionalEncoder.from_parameters(FixedDimensionalEncoder(4, 1, 1).parameters | change)


@pytest.mark.parametrize(
    "tokens",
    [
        np.empty((0, 8), np.float32),
        np.zeros((3, 7), np.float32),
        np.zeros(8, np.float32),
        np.full((2, 8), np.nan, np.float32),
        np.full((2, 8), np.inf, np.float32),
        np.full((2, 8), 1e39),
        np.zeros((2, 8), np.complex64),
        [["a"] * 8],
        [[1.0] * 8, [1.0]],
    ],
)
def test_bad_tokens_are_refused(tokens: Any) -> None:
    encoder = FixedDimensionalEncoder(8, 1, 1, 2)
    for encode in (encoder.encode_query, encoder.encode_document):
        with pytest.raises(InvalidVector):
            encode(tokens)


def test_read_only_and_other_dtypes_are_taken() -> None:
    encoder = FixedDimensionalEncoder(8, 2, 2, 4)
    tokens = unit_rows(np.random.default_rng(8), 5, 8)
    expected = encoder.encode_document(tokens).tobytes()
    frozen = tokens.copy()
    frozen.flags.writeable = False
    for same in (frozen, tokens.astype(np.float64), tokens.tolist(), np.asfortranarray(tokens)):
        assert encoder.encode_document(same).tobytes() == expected
