"""Fixed-dimensional encodings of token matrices (MUVERA), bit-compatible with Google's, or our own.

Paper: Dhulipala, Hadian, Jayaram, Lee, Mirrokni, "MUVERA: Multi-Vector Retrieval via Fixed Dimensional
Encodings", NeurIPS 2024. A query's and a document's encodings have an inner product near
`repetitions` * MaxSim(query, document); search them by inner product, never normalised.

mode "google" equals google/graph-mining, `fixed_dimensional_encoding.cc`, built with GCC's library: buckets are the
Gray-code ranks of the sign bits, the projection is a count sketch. mode "paper" (version 1) draws from our own
generator (`random_streams`) and projects by a dense matrix of +1 and -1 over sqrt(width), as the paper does.
Departures from the paper in both: the order of buckets, and a count sketch as final projection.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, Literal, cast, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vicinal.errors import InvalidArgument, LimitExceeded
from vicinal.limits import DIM_MAX
from vicinal.multivector import random_streams
from vicinal.multivector.tokens import as_token_block, as_token_matrix

__all__ = ["ENCODING_MAX", "FixedDimensionalEncoder", "Mode"]

Mode = Literal["google", "paper"]
ENCODING_MAX = 1 << 20  # components before the final projection: 4 MiB of float32 for one document
_VERSIONS: Mapping[Mode, int] = {"google": 1, "paper": 1}
_PROJECTION_MAX = DIM_MAX


class FixedDimensionalEncoder:
    """Turns token matrices into single vectors whose inner products approximate MaxSim.

    An encoding has repetitions * 2^simhash_projections * projection_dimension components, or `final_dimension`.
    `projection_dimension=None` keeps tokens as they are. `fill_empty` gives an empty bucket of a document its nearest
    token; it does not apply to queries. The random matrices depend on (mode, version, seed) and the shape only.

    Raises InvalidArgument for parameters out of range, LimitExceeded above 2^20 components.
    """

    def __init__(
        self,
        dim: int,
        repetitions: int = 20,
        simhash_projections: int = 5,
        projection_dimension: int | None = 16,
        fill_empty: bool = True,
        final_dimension: int | None = None,
        seed: int = 42,
        mode: Mode = "google",
    ) -> None:
        self.dim = _checked("dim", dim, 1, DIM_MAX)
        self.repetitions = _checked("repetitions", repetitions, 1, ENCODING_MAX)
        self.simhash_projections = _checked("simhash_projections", simhash_projections, 0, 20)
        self.projection_dimension = (
            None
            if projection_dimension is None
            else _checked("projection_dimension", projection_dimension, 1, _PROJECTION_MAX)
        )
        self.final_dimension = (
            None if final_dimension is None else _checked("final_dimension", final_dimension, 1, ENCODING_MAX)
        )
        self.seed = _checked("seed", seed, 0, (1 << 32) - 1)
        if mode not in get_args(Mode):
            raise InvalidArgument(f"mode must be 'google' or 'paper', not {mode!r}", field="mode", value=mode)
        if not isinstance(fill_empty, bool):
            raise InvalidArgument("fill_empty must be True or False", field="fill_empty", value=fill_empty)
        self.mode: Mode = mode
        self.fill_empty = fill_empty
        self._width = self.dim if self.projection_dimension is None else self.projection_dimension
        self._components = self.repetitions * (1 << self.simhash_projections) * self._width
        if self._components > ENCODING_MAX:
            raise LimitExceeded(
                f"repetitions * 2^simhash_projections * projection_dimension is {self._components}: "
                f"lower one of them until the product is at most {ENCODING_MAX}",
                field="repetitions",
                value=self._components,
                limit=ENCODING_MAX,
            )
        self._draw()

    @property
    def dimension(self) -> int:
        """Components of one encoding."""
        return self.final_dimension or self._components

    @property
    def parameters(self) -> dict[str, Any]:
        """All that determines the encodings, as JSON values: `from_parameters` makes the same encoder again."""
        return {
            "dim": self.dim,
            "repetitions": self.repetitions,
            "simhash_projections": self.simhash_projections,
            "projection_dimension": self.projection_dimension,
            "fill_empty": self.fill_empty,
            "final_dimension": self.final_dimension,
            "seed": self.seed,
            "mode": self.mode,
            "version": _VERSIONS[self.mode],
        }

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, Any]) -> FixedDimensionalEncoder:
        """An encoder from what `parameters` gave; InvalidArgument for unknown keys or another version."""
        given = dict(parameters)
        version = given.pop("version", None)
        known = {"dim", "repetitions", "simhash_projections", "projection_dimension", "fill_empty"}
        known |= {"final_dimension", "seed", "mode"}
        if set(given) != known:
            wrong = sorted(set(given) ^ known)
            raise InvalidArgument(f"encoder parameters lack or do not know {wrong}", field="parameters", value=wrong)
        encoder = cls(**given)
        expected = _VERSIONS[encoder.mode]
        if version != expected:
            raise InvalidArgument(
                f"encoder version {version!r} of mode {encoder.mode} is not known: rebuild the proxies",
                field="version",
                value=version,
                limit=expected,
            )
        return encoder

    def fingerprint(self) -> str:
        """SHA-256, in hex, over the parameters and the random matrices: encodings compare only if it is equal."""
        digest = hashlib.sha256(json.dumps(self.parameters, sort_keys=True).encode())
        for matrix in (self._hyperplanes, self._projection, self._final_columns, self._final_signs):
            digest.update(str(matrix.shape).encode())
            digest.update(np.ascontiguousarray(matrix, matrix.dtype.newbyteorder("<")).tobytes())
        return digest.hexdigest()

    def encode_query(self, tokens: ArrayLike) -> NDArray[np.float32]:
        """Sums per bucket of a query's tokens (m, dim): (dimension,) float32; InvalidVector for bad tokens."""
        matrix = as_token_matrix(tokens, self.dim, "query tokens")
        return cast(NDArray[np.float32], self._encode(matrix, _one(matrix), average=False)[0])

    def encode_document(self, tokens: ArrayLike) -> NDArray[np.float32]:
        """Averages per bucket of a document's tokens (t, dim): (dimension,) float32; InvalidVector for bad tokens."""
        matrix = as_token_matrix(tokens, self.dim, "document tokens")
        return cast(NDArray[np.float32], self._encode(matrix, _one(matrix), average=True)[0])

    def encode_queries(self, tokens: ArrayLike, ends: ArrayLike) -> NDArray[np.float32]:
        """`encode_query` of many: matrix i is rows ends[i - 1] .. ends[i] of `tokens`; (n, dimension) float32."""
        return self._encode(*as_token_block(tokens, ends, self.dim), average=False)

    def encode_documents(self, tokens: ArrayLike, ends: ArrayLike) -> NDArray[np.float32]:
        """`encode_document` of many, the same bytes as one by one: (n, dimension) float32."""
        return self._encode(*as_token_block(tokens, ends, self.dim), average=True)

    def _encode(self, tokens: NDArray[np.float32], ends: NDArray[np.int64], *, average: bool) -> NDArray[np.float32]:
        from vicinal.kernels import fde

        shape = np.array([self.repetitions, self.simhash_projections, self._width], np.int64)
        out = np.zeros((len(ends), self.dimension), np.float32)
        step = max(1, len(ends) if self.final_dimension is None else ENCODING_MAX // self._components)
        for low in range(0, len(ends), step):
            some = ends[low : low + step]
            start = int(ends[low - 1]) if low else 0
            rows = np.ascontiguousarray(tokens[start : int(some[-1])])
            whole = out if self.final_dimension is None else np.zeros((len(some), self._components), np.float32)
            panels = (self._sketch_panels, self._projection_panels)
            fde.encode_blocks(rows, some - start, shape, *panels, average, self.fill_empty, whole)
            if self.final_dimension is not None:
                fde.add_signed(whole, self._final_columns, self._final_signs, out[low : low + step])
        return out

    def _draw(self) -> None:
        """Draw every matrix and pack it for the kernel."""
        from vicinal.kernels.fde import pack_panels

        drawn = [self._draw_repetition(r) for r in range(self.repetitions)]
        self._hyperplanes = np.concatenate([h for h, _ in drawn], axis=1)
        self._projection = np.concatenate([p for _, p in drawn], axis=1)
        self._final_columns, self._final_signs = self._draw_final()
        self._sketch_panels = pack_panels(self._hyperplanes)
        self._projection_panels = pack_panels(self._projection)

    def _draw_repetition(self, repetition: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Hyperplanes (dim, simhash_projections) and projection (dim, width), which has no columns if identity."""
        d, k, w = self.dim, self.simhash_projections, self.projection_dimension
        if self.mode == "paper":
            hyperplanes = random_streams.paper_gaussians(self.seed, 2 * repetition, d, k)
            signs = random_streams.paper_signs(self.seed, 2 * repetition + 1, d, w or 0)
            return hyperplanes, signs / np.sqrt(np.float32(w or 1))
        hyperplanes = random_streams.gaussians(self.seed + repetition, d, k)
        projection = np.zeros((d, w or 0), np.float32)
        if w is not None:
            columns, signs = random_streams.count_sketch(self.seed + repetition, d, w)
            projection[np.arange(d), columns] = signs
        return hyperplanes, projection

    def _draw_final(self) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Column and sign of each component in the final count sketch; empty without one."""
        if self.final_dimension is None:
            return np.empty(0, np.int64), np.empty(0, np.float32)
        if self.mode == "google":
            return random_streams.count_sketch(self.seed, self._components, self.final_dimension)
        stream = 2 * self.repetitions
        return random_streams.paper_count_sketch(self.seed, stream, self._components, self.final_dimension)


def _one(matrix: NDArray[np.float32]) -> NDArray[np.int64]:
    return np.array([len(matrix)], np.int64)


def _checked(name: str, value: Any, low: int, high: int) -> int:
    """`value` as int; InvalidArgument unless it is an integer in low .. high."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or not low <= value <= high:
        raise InvalidArgument(
            f"{name} must be an integer from {low} to {high}, not {value!r}",
            field=name,
            value=value,
            limit=high,
        )
    return int(value)
