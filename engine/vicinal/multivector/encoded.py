"""Proxies that are one vector per point (fixed dimensional encodings), compared by inner product."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vicinal.errors import CorruptData
from vicinal.multivector import coded_vectors
from vicinal.multivector.coded_vectors import CodedVectors
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.fill_choice import recalls_of
from vicinal.multivector.proxies import Near, ProxyIndex
from vicinal.multivector.stores import plain_tokens
from vicinal.multivector.tokens import dequantise_tokens
from vicinal.packing import pack, unpack
from vicinal.types import TokenRows

__all__ = ["EncodedIndex", "EncodedPicture"]

_MAGIC: Final = b"VICPROXY"
_FORMAT: Final = 1
_WHAT: Final = "snapshot of proxies"


class EncodedPicture(NamedTuple):
    """Encoded points, how queries are encoded, and what was measured."""

    encoder: FixedDimensionalEncoder
    codes: CodedVectors
    chosen: Mapping[str, Any]

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
    """Points by their fixed dimensional encodings, at so many bits a component.

    Of two encoders, with and without filling, the one is taken that finds more in a sample of the points; a field that
    has grown fourfold is measured again, and encoded anew if the answer is another.
    """

    def __init__(self, encoders: Sequence[FixedDimensionalEncoder], bits: int, seed: int) -> None:
        super().__init__()
        self._encoders, self._bits, self._seed = list(encoders), bits, seed
        self.refits = len(self._encoders) > 1

    def _fit(self, rows: TokenRows, stop: int) -> EncodedPicture:
        before, encoder, chosen = self._picture, self._encoders[0], {}
        if self.refits:
            recalls = recalls_of(self._encoders, rows, stop, self._seed)
            if recalls is not None:
                encoder = self._encoders[int(np.argmax(recalls))]
            chosen = {
                "fill_empty_chosen": encoder.fill_empty,
                "fill_empty_recalls": None if recalls is None else [round(recall, 4) for recall in recalls],
            }
        if before is not None and before.encoder is encoder:
            return before._replace(chosen=chosen)
        return EncodedPicture(encoder, self._empty(), chosen)

    def _empty(self) -> CodedVectors:
        return coded_vectors.empty(self._encoders[0].dimension, self._bits, self._seed)

    def _add(self, picture: EncodedPicture, rows: TokenRows, stop: int) -> EncodedPicture:
        encoder, codes, _ = picture
        first = codes.n
        start = int(rows.ends[first - 1]) if first else 0
        counts = np.diff(rows.ends[first:stop], prepend=start)
        vectors = np.zeros((stop - first, encoder.dimension), np.float32)  # of points without tokens
        ends = np.cumsum(counts[counts > 0])
        if len(ends):
            some = plain_tokens(rows.tokens[start : start + int(ends[-1])])
            tokens = dequantise_tokens(some, ends, rows.scales[first:stop][counts > 0])
            vectors[counts > 0] = encoder.encode_documents(tokens, ends)
        return picture._replace(codes=coded_vectors.append(codes, vectors))

    def encode(self) -> bytes:
        """The codes, with the fingerprint of what made them."""
        picture = self._picture or EncodedPicture(self._encoders[0], self._empty(), {})
        encoder, codes, chosen = picture
        about = {**self._about(encoder), "tokens": self._fitted_tokens, "chosen": dict(chosen)}
        return pack(_MAGIC, _FORMAT, about, [codes.lines[: codes.n], codes.factors[: codes.n]])

    def _about(self, encoder: FixedDimensionalEncoder) -> dict[str, Any]:
        return {"encoder": encoder.fingerprint(), "bits": self._bits, "seed": self._seed}

    def _encoder_of(self, about: dict[str, Any]) -> FixedDimensionalEncoder:
        for encoder in self._encoders:
            if about == self._about(encoder):
                return encoder
        raise ValueError("made by another encoder")

    def decode(self, buffer: memoryview | bytes, rows: TokenRows, slots: int) -> None:  # noqa: ARG002 - not compared
        """Take codes of at most `slots` slots."""
        about, arrays = unpack(buffer, _MAGIC, _FORMAT, _WHAT)
        try:
            tokens, chosen = int(about.pop("tokens")), dict(about.pop("chosen"))
            encoder = self._encoder_of(about)
            lines, factors = arrays
            codes = coded_vectors.restored(encoder.dimension, self._bits, self._seed, lines, factors)
            coded_vectors.check_count(codes, slots)
        except (KeyError, TypeError, ValueError) as error:
            raise CorruptData(f"{_WHAT}: {error}; it will be made again", field=_WHAT) from error
        self._fitted_tokens, self._picture = tokens, EncodedPicture(encoder, codes, chosen)
