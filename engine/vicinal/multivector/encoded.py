"""Proxies that are one vector per point, compared with one vector per query by inner product."""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData
from vicinal.multivector import coded_vectors
from vicinal.multivector.coded_vectors import CodedVectors
from vicinal.multivector.proxies import Near, ProxyIndex
from vicinal.multivector.tokens import dequantise_tokens
from vicinal.packing import pack, unpack
from vicinal.types import TokenRows

__all__ = ["EncodedIndex", "EncodedPicture", "Encoder"]

_MAGIC: Final = b"VICPROXY"
_FORMAT: Final = 1
_WHAT: Final = "snapshot of proxies"


class Encoder(Protocol):
    """Token matrices to single vectors, of points and of queries."""

    @property
    def dimension(self) -> int:
        """Components of a vector."""

    def encode_query(self, tokens: NDArray[np.float32]) -> NDArray[np.float32]:
        """The vector (dimension,) of a query's tokens (m, dim)."""

    def encode_documents(self, tokens: NDArray[np.float32], ends: NDArray[np.int64]) -> NDArray[np.float32]:
        """The vectors (n, dimension) of a ragged block."""

    def fingerprint(self) -> str:
        """Equal for encoders whose vectors may be compared."""


class EncodedPicture(NamedTuple):
    """Encoded points and how queries are encoded."""

    encoder: Encoder
    codes: CodedVectors

    @property
    def n(self) -> int:
        """Slots that have a vector."""
        return self.codes.n

    @property
    def memory_bytes(self) -> int:
        """Bytes of the codes."""
        return self.codes.memory_bytes

    def nearest(self, query: NDArray[np.float32], count: int, slots: NDArray[np.uint32] | range) -> Near:
        """The `count` best of `slots` by the products of codes."""
        return coded_vectors.nearest(self.codes, self.encoder.encode_query(query), count, slots)


class EncodedIndex(ProxyIndex[EncodedPicture]):
    """Points encoded by an encoder that needs no fitting (FDE), at so many bits a component."""

    refits = False

    def __init__(self, encoder: Encoder, bits: int, seed: int) -> None:
        super().__init__()
        self._encoder, self._bits, self._seed = encoder, bits, seed

    def _fit(self, rows: TokenRows, stop: int) -> EncodedPicture:  # noqa: ARG002 - nothing is fitted
        return EncodedPicture(self._encoder, self._empty())

    def _empty(self) -> CodedVectors:
        return coded_vectors.empty(self._encoder.dimension, self._bits, self._seed)

    def _add(self, picture: EncodedPicture, rows: TokenRows, stop: int) -> EncodedPicture:
        encoder, codes = picture
        first = codes.n
        start = int(rows.ends[first - 1]) if first else 0
        counts = np.diff(rows.ends[first:stop], prepend=start)
        vectors = np.zeros((stop - first, encoder.dimension), np.float32)  # of points without tokens
        ends = np.cumsum(counts[counts > 0])
        if len(ends):
            some = rows.tokens[start : start + int(ends[-1])]
            tokens = dequantise_tokens(some, ends, rows.scales[first:stop][counts > 0])
            vectors[counts > 0] = encoder.encode_documents(tokens, ends)
        return EncodedPicture(encoder, coded_vectors.append(codes, vectors))

    def encode(self) -> bytes:
        """The codes, with the fingerprint of what made them."""
        picture = self._picture
        codes = self._empty() if picture is None else picture.codes
        return pack(_MAGIC, _FORMAT, self._about(), [codes.lines[: codes.n], codes.factors[: codes.n]])

    def _about(self) -> dict[str, Any]:
        return {"encoder": self._encoder.fingerprint(), "bits": self._bits, "seed": self._seed}

    def decode(self, buffer: memoryview | bytes, rows: TokenRows, slots: int) -> None:  # noqa: ARG002 - not compared
        """Take codes of at most `slots` slots."""
        about, arrays = unpack(buffer, _MAGIC, _FORMAT, _WHAT)
        if about != self._about() or len(arrays) != 2:
            raise CorruptData(f"{_WHAT}: made by another encoder; it will be made again", field=_WHAT)
        try:
            codes = coded_vectors.restored(self._encoder.dimension, self._bits, self._seed, *arrays)
        except ValueError as error:
            raise CorruptData(f"{_WHAT}: {error}; it will be made again", field=_WHAT) from error
        if codes.n > slots:
            raise CorruptData(f"{_WHAT}: {codes.n} slots of {slots}; it will be made again", field=_WHAT)
        self._picture = EncodedPicture(self._encoder, codes)
