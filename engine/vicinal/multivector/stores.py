"""How tokens lie in memory and files, and what proxies see of them.

int8: codes with one scale, of a point or of all (`quantise_tokens`); float16 and float32: as they are; bit: the signs
of rotated tokens with a byte for the length (`kernels.maxsim_rows`), dim / 8 + 1 bytes. A field of bits is compared in
rotated space: its queries are rotated once, and products stay what they were.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.multivector.tokens import frozen, owned, quantise_tokens
from vicinal.types import TokenRows

__all__ = [
    "WIDTH_MIN",
    "RawTokens",
    "encode_tokens",
    "plain_tokens",
    "raw_tokens",
    "rotated",
    "rotation",
    "unrotated",
    "widened",
]

_RUN: Final = 128  # dimensions mixed at once by `kernels.rotate`
WIDTH_MIN: Final = 4  # kernels take four bytes of a token at a time
_KINDS: Final = {"b": "CODES", "B": "BITS", "e": "HALVES", "f": "FLOATS"}  # by numpy's letters


class RawTokens(NamedTuple):
    """Stored tokens as kernels take them: bytes (t, row bytes), what they are, dimensions, ends and scales."""

    tokens: NDArray[np.uint8]
    kind: int
    dim: int
    ends: NDArray[np.int64]
    scales: NDArray[np.float32]

    @property
    def coded(self) -> bool:
        """Whether they are codes that products can be taken of."""
        from vicinal.kernels import maxsim_rows

        return self.kind in (maxsim_rows.CODES, maxsim_rows.BITS) and self.dim >= WIDTH_MIN


def raw_tokens(rows: TokenRows) -> RawTokens:
    """What kernels take of rows."""
    from vicinal.kernels import maxsim_rows

    tokens, ends, scales = map(frozen, rows)
    bits = tokens.dtype == np.uint8
    dim = (tokens.shape[1] - 1) * 8 if bits else tokens.shape[1]
    kind: int = getattr(maxsim_rows, _KINDS[tokens.dtype.char])
    return RawTokens(tokens.view(np.uint8), kind, dim, ends, scales)


def encode_tokens(
    store: str, tokens: NDArray[np.float32], ends: NDArray[np.int64], scale: float | None = None
) -> tuple[NDArray[Any], NDArray[np.float32]]:
    """Rows of checked tokens (t, dim), rotated already where `store` is "bit", and the scales (n,) of the points."""
    from vicinal.kernels.maxsim_rows import quantise_bits

    if store == "int8":
        return quantise_tokens(tokens, ends, scale)
    scales = np.ones(len(ends), np.float32)
    if store != "bit":
        return tokens.astype(store, copy=False), scales
    rows = np.empty((len(tokens), tokens.shape[1] // 8 + 1), np.uint8)
    quantise_bits(owned(tokens, np.float32), owned(ends, np.int64), rows, scales)
    return rows, scales


def plain_tokens(tokens: NDArray[Any]) -> NDArray[Any]:
    """A few stored rows (t, columns) as int8 codes or float32 (t, dim)."""
    from vicinal.kernels.maxsim_rows import unpack_rows

    if tokens.dtype == np.float16:
        return tokens.astype(np.float32)
    if tokens.dtype != np.uint8:
        return tokens
    codes = np.empty((len(tokens), (tokens.shape[1] - 1) * 8), np.int8)
    unpack_rows(frozen(tokens), codes)
    return codes


def widened(tokens: NDArray[Any]) -> NDArray[Any]:
    """The tokens, or with zeros behind where they are narrower than kernels take."""
    missing = WIDTH_MIN - tokens.shape[1]
    return np.pad(tokens, ((0, 0), (0, missing))) if missing > 0 else tokens


def rotation(dim: int, seed: int) -> NDArray[np.float32]:
    """The signs (2, m) of the rotation that a field of bits takes; m is the next multiple of 128."""
    padded = -(-dim // _RUN) * _RUN
    signs = np.random.default_rng(seed).choice(np.array([-1, 1], np.float32), (2, padded))
    return signs * np.float32(2**-3.5)


def rotated(signs: NDArray[np.float32] | None, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
    """Tokens (t, dim) with zeros behind, rotated (t, m); the tokens themselves where there is no rotation."""
    from vicinal.kernels.rotate import rotate_rows

    if signs is None:
        return tokens
    out = np.zeros((len(tokens), signs.shape[1]), np.float32)
    out[:, : tokens.shape[1]] = tokens
    rotate_rows(out, signs)
    return out


def unrotated(signs: NDArray[np.float32], tokens: NDArray[np.float32], dim: int) -> NDArray[np.float32]:
    """The tokens (t, dim) that `rotated` made these (t, m) of, up to rounding."""
    groups = signs.shape[1] // _RUN
    mixed = _mix(tokens.reshape(-1, 8, groups, 16).transpose(0, 2, 1, 3))
    back = mixed.reshape(-1, groups, 8, 16).transpose(0, 2, 1, 3).reshape(tokens.shape) * signs[1]
    back = _mix(back.reshape(-1, groups, _RUN)).reshape(tokens.shape) * signs[0]
    return np.ascontiguousarray(back[:, :dim], np.float32)


def _mix(runs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Multiply runs (..., 128) by the Hadamard matrix, without a factor."""
    mixed = runs.reshape(-1, _RUN)
    matrix = np.ones((1, 1), np.float32)
    while len(matrix) < _RUN:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    product: NDArray[np.float32] = mixed @ matrix
    return product
