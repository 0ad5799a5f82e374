"""Multi-vector fields of a collection, by their ways to find candidates and to store tokens."""

from __future__ import annotations

import contextlib
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np

from bench.multi.base import Floats, MultiEngine
from bench.multi.muvera import apart_from_google
from bench.multi.sets import MultiSet
from vicinal.database import Database
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.search import rerank
from vicinal.multivector.tokens import quantise_tokens
from vicinal.schema import Multi
from vicinal.types import TokenRows

_BATCH = 2_000  # documents of an upsert
_AS_SENT = {"scale": 1 / 127}  # tokens of the sets are multiples of it: what is stored is what was sent


class Centroids(MultiEngine):
    """The default: int8 tokens, candidates by centroid numbers."""

    package = "vicinal"
    options: ClassVar[dict[str, Any]] = _AS_SENT

    def build(self, data: MultiSet, folder: Path) -> None:
        """Upsert all documents and wait for their proxies, or open what is there."""
        marked = folder / "complete"
        self.database = Database(folder / "db")
        if marked.exists():
            self.made = self.database.collection("c")
            return
        dim = data.tokens.shape[1]
        self.made = self.database.create_collection("c", vectors={"t": Multi(dim, **self.options)})
        for low in range(0, len(data.ends), _BATCH):
            stop = min(low + _BATCH, len(data.ends))
            start = int(data.ends[low - 1]) if low else 0
            self.made.upsert(range(low, stop), (data.floats(low, stop), data.ends[low:stop] - start))
        if not self.made.flush(3_000):
            raise RuntimeError("not indexed in time")
        self.database.close()  # which keeps the proxies, too
        marked.touch()
        self.build(data, folder)

    def query(self, tokens: Floats, k: int) -> Any:
        """Answer by proxies and re-ranking."""
        return self.made.query_multi(tokens, k, candidates=self.setting, with_payload=False).ids

    def bytes_used(self) -> int:
        """What `info` tells."""
        return int(self.made.info().fields["t"]["memory_bytes"])

    def facts(self) -> dict[str, Any]:
        """What `info` tells, and the stages of a query."""
        told = self.made.info().fields["t"]
        return {key: told[key] for key in ("bytes_per_token", "proxy_bytes", "tokens", "tokens_sent")} | {
            key: told[key] for key in ("fill_empty_chosen", "fill_empty_recalls") if key in told
        }

    def close(self) -> None:
        """Let go of the folder."""
        self.database.close()


class Bits(Centroids):
    """Tokens of one bit a dimension; scores are those of bits."""

    options: ClassVar[dict[str, Any]] = {"store": "bit"}


class Pooled(Centroids):
    """A fourth of the tokens."""

    options: ClassVar[dict[str, Any]] = {"pooling": 4}


class Fde1(Centroids):
    """Fixed dimensional encodings of 10,240 numbers (20, 5, 16), at 1 bit."""

    options: ClassVar[dict[str, Any]] = _AS_SENT | {"proxy": "fde", "proxy_bits": 1}

    def facts(self) -> dict[str, Any]:
        """And what an encoding takes: 96 tokens of 128 dimensions, one thread."""
        rng = np.random.default_rng(1)
        block, ends = rng.standard_normal((96 * 100, 128)).astype(np.float32), np.arange(1, 101, dtype=np.int64) * 96
        encoder = FixedDimensionalEncoder(128)
        return super().facts() | {"encode_ms": _least(lambda: encoder.encode_documents(block, ends)) * 1e3 / 100}


class Fde8(Fde1):
    """The same at 8 bits."""

    options: ClassVar[dict[str, Any]] = _AS_SENT | {"proxy": "fde", "proxy_bits": 8}


class Fde4(Fde1):
    """The same at 4 bits."""

    options: ClassVar[dict[str, Any]] = _AS_SENT | {"proxy": "fde", "proxy_bits": 4}


class Fde32(Fde1):
    """The same as float32."""

    options: ClassVar[dict[str, Any]] = _AS_SENT | {"proxy": "fde", "proxy_bits": 32}

    def facts(self) -> dict[str, Any]:
        """And how far encodings lie from Google's, where its encoder is there."""
        with contextlib.suppress(ImportError):
            return super().facts() | {"apart_from_google": apart_from_google()}
        return super().facts()


class Lemur(Centroids):
    """LEMUR without training, fitted to stored tokens: no query is seen before."""

    options: ClassVar[dict[str, Any]] = _AS_SENT | {"proxy": "lemur"}


class Exact(Centroids):
    """Every document compared, by codes and a bound, then in float32."""

    def settings(self, data: MultiSet, k: int) -> list[Any]:  # noqa: ARG002 - there is one
        """There is nothing to set."""
        return [0]

    def query(self, tokens: Floats, k: int) -> Any:
        """Compare all."""
        return self.made.query_multi(tokens, k, exact=True, with_payload=False).ids

    def facts(self) -> dict[str, Any]:
        """And microseconds of int8 MaxSim of 32 x 80 tokens of 128 dimensions, in cache and from memory."""
        rng = np.random.default_rng(1)
        query = rng.standard_normal((32, 128)).astype(np.float32)
        took = {}
        for name, points in (("maxsim_cached_us", 8), ("maxsim_us", 20_000)):
            codes = rng.integers(-127, 128, (points * 80, 128)).astype(np.int8)
            ends = np.arange(1, points + 1, dtype=np.int64) * 80
            rows = TokenRows(codes, ends, np.ones(points, np.float32))
            slots = np.tile(np.arange(points, dtype=np.uint32), 20_000 // points)
            took[name] = _least(lambda rows=rows, slots=slots: rerank(query, rows, slots, 1, "none")) * 1e6 / 20_000
        quantise_tokens(query, np.array([32]))
        return super().facts() | took


def _least(call: Any) -> float:
    """Seconds of the fastest of seven calls."""
    call()
    spent = []
    for _ in range(7):
        started = perf_counter()
        call()
        spent.append(perf_counter() - started)
    return min(spent)
