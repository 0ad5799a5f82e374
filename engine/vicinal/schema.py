"""What a collection holds: its vector fields and how each is stored, compared and indexed.

A schema is decided when the collection is created and written into its catalogue as JSON. Unknown keys or a
newer format are refused, so that an old engine never misreads a new directory.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal

import numpy as np
import orjson

from vicinal import limits
from vicinal.casting import as_metric, check_dim
from vicinal.errors import CorruptData, FormatTooNew, InvalidArgument, LimitExceeded, NotFound, UnknownMetric
from vicinal.types import HnswParams, Metric

__all__ = ["FORMAT", "Dense", "Field", "Multi", "Schema", "check_name", "from_mapping"]

FORMAT: Final = 1
_NAME = re.compile(limits.NAME_PATTERN)
_STORED: Final[Mapping[str, np.dtype[Any]]] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "int8": np.dtype(np.int8),
    "uint8": np.dtype(np.uint8),
    "bit": np.dtype(np.uint8),
}
_LAYOUTS: Final = ("auto", "graph", "cells")
_CODECS: Final = ("auto", "none", "int8", "int4", "rabitq")


def check_name(name: Any, what: str) -> str:
    """Return `name` when it may name a collection or a field, else raise InvalidArgument."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"{what} must match {limits.NAME_PATTERN}", field=what, value=name, limit=limits.NAME_PATTERN
        )
    return name


def _whole(value: Any, what: str, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidArgument(
            f"{what} must be a whole number from {low} to {high}", field=what, value=value, limit=[low, high]
        )
    return value


def _one_of(value: Any, what: str, known: Sequence[Any]) -> None:
    if value not in known:
        raise InvalidArgument(f"{what} must be one of {list(known)}", field=what, value=value, limit=list(known))


@dataclass(frozen=True, slots=True)
class Dense:
    """One vector of `dim` numbers per point.

    metric: `cosine`, `dot` or `l2`; of bits `hamming` or `jaccard`; of float32 also `l1`, `haversine` (latitude and
    longitude in degrees, kilometres) or a name given to `vicinal.register_metric`. dtype: how a vector is stored and
    compared.
    `int8` and `uint8` hold whole numbers exactly; `bit` holds `dim` bits, a multiple of 8, packed as `numpy.packbits`
    does. codec: what a large collection is walked on. `auto` measures and decides; `none` walks on the stored vectors;
    `rabitq` keeps 1 bit, `int4` 4 bits of the principal components, `int8` 8 bits (up to 56 dimensions) per dimension.
    Whatever it is, results are settled on the stored vectors. layout: a `graph` answers fastest; `cells` (k-means) take
    far less time to build and to insert into, and memory for codes only; `auto` is a graph unless it would not fit in
    half of the machine's memory. search_dims: search on so many leading dimensions and settle on all, which suits
    Matryoshka embeddings. share: rows within so much of their length count as near-copies, which take one node
    together (docs/dtypes.md); 0 for equal rows alone, None for none; of bits, the share that may differ, under jaccard
    the distance. M and ef_construction are HNSW's (Malkov & Yashunin, 2018).
    """

    dim: int
    metric: Metric = Metric.COSINE
    dtype: Literal["float32", "float16", "int8", "uint8", "bit"] = "float32"
    M: int = 16
    ef_construction: int = 200
    codec: Literal["auto", "none", "int8", "int4", "rabitq"] = "auto"
    layout: Literal["auto", "graph", "cells"] = "auto"
    search_dims: int | None = None
    share: float | None = None

    def __post_init__(self) -> None:
        _whole(self.dim, "dim", 1, limits.DIM_MAX)
        _whole(self.M, "M", limits.M_MIN, limits.M_MAX)
        _whole(self.ef_construction, "ef_construction", 1, limits.EF_CONSTRUCTION_MAX)
        object.__setattr__(self, "metric", as_metric(self.metric))
        check_dim(self.metric, self.dim)
        _one_of(self.dtype, "dtype", list(_STORED))
        _one_of(self.codec, "codec", _CODECS)
        _one_of(self.layout, "layout", _LAYOUTS)
        if self.layout == "cells" and (self.codec == "none" or self.metric.of_bits):
            raise InvalidArgument(
                "cells are scanned by their codes: leave layout out, or have a codec", field="layout", value=self.layout
            )
        self._check_bits()
        if self.search_dims is not None:
            _whole(self.search_dims, "search_dims", 1, self.dim)
        if self.share is not None:
            self._check_share(self.share)
        if self.codec == "int8" and self.walked > limits.INT8_CODE_DIM_MAX:
            raise LimitExceeded(
                f"codec int8 holds {limits.INT8_CODE_DIM_MAX} dimensions: rabitq keeps 8-bit rows beside its bits",
                field="codec",
                value=self.walked,
                limit=limits.INT8_CODE_DIM_MAX,
            )

    def _check_share(self, share: Any) -> None:
        low, high = limits.SHARE_MIN, limits.SHARE_MAX
        real = isinstance(share, int | float) and not isinstance(share, bool)
        if not real or not (share == 0 or low <= share <= high):
            raise InvalidArgument(
                f"share is a part of a vector's length: 0 for equal vectors, or {low} to {high}",
                field="share",
                value=share,
                limit=[low, high],
            )
        if share and self.metric.is_function and self.metric is not Metric.L1:
            raise InvalidArgument(f"under {self.metric} equal vectors alone share: 0", field="share", value=share)

    def _check_bits(self) -> None:
        if (self.dtype == "bit") != self.metric.of_bits:
            of_bits = [m.value for m in Metric if m.of_bits]
            raise InvalidArgument(
                f'dtype "bit" goes with the metrics {of_bits}, and they with it', field="metric", value=self.metric
            )
        if self.metric.is_function and self.dtype != "float32":
            raise InvalidArgument(f"{self.metric} compares float32 vectors", field="dtype", value=self.dtype)
        if self.dtype != "bit":
            return
        if self.dim % 8:
            raise InvalidArgument("bits are packed by eight: dim must be a multiple of 8", field="dim", value=self.dim)
        if self.search_dims is not None:
            raise InvalidArgument("bits are searched whole", field="search_dims", value=self.search_dims)
        if self.codec not in ("auto", "none"):
            raise InvalidArgument("bits have no shorter code: leave codec out", field="codec", value=self.codec)

    @property
    def stored(self) -> np.dtype[Any]:
        """The numpy dtype of a stored row."""
        return _STORED[self.dtype]

    @property
    def columns(self) -> int:
        """Numbers in a stored row: `dim`, or the bytes that hold so many bits."""
        return self.dim // 8 if self.dtype == "bit" else self.dim

    @property
    def walked(self) -> int:
        """Numbers of a stored row that its graph is built and walked on."""
        return self.columns if self.search_dims is None else self.search_dims

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored row."""
        return self.columns * self.stored.itemsize

    @property
    def params(self) -> HnswParams:
        """The graph's parameters."""
        return HnswParams(self.M, self.ef_construction)


_STORES: Final = ("int8", "float16", "float32", "bit")
_PROXIES: Final = ("centroids", "fde", "lemur")


@dataclass(frozen=True, slots=True)
class Multi:
    """A matrix of token vectors per point, compared by MaxSim (late interaction, as ColBERT).

    store: how tokens are kept and compared: "int8" with one scale per point, or with `scale` for all (tokens beyond 127
    of it are refused), "float16", "float32" as sent, or "bit", their signs in about dim / 8 bytes. pooling: keep about
    one token in so many, near ones replaced by their mean. originals: keep tokens as sent on disk too; they settle the
    best of what the stored ones found, and are what is given back. proxy says how candidates are found: by the numbers
    of tokens' nearest centroids ("centroids", two bytes a token, the default: docs/adr/0005), by fixed dimensional
    encodings ("fde", MUVERA, arXiv 2405.19504) of repetitions x 2**simhash_projections x projection_dimension numbers,
    or by regression on random features ("lemur"); numbers of the last two take `proxy_bits` bits each, 1 and 4 unless
    given. fill_empty: whether an empty bucket of an encoding takes the nearest token; "auto" measures on a sample of
    the points.
    """

    dim: int
    store: Literal["int8", "float16", "float32", "bit"] = "int8"
    scale: float | None = None
    pooling: int = 1
    originals: bool = False
    proxy: Literal["centroids", "fde", "lemur"] = "centroids"
    proxy_bits: Literal[1, 4, 8, 32] | None = None
    repetitions: int = 20
    simhash_projections: int = 5
    projection_dimension: int | None = 16
    fill_empty: bool | Literal["auto"] = "auto"
    seed: int = 42

    def __post_init__(self) -> None:
        _whole(self.dim, "dim", 1, limits.DIM_MAX)
        _whole(self.repetitions, "repetitions", 1, 1000)
        _whole(self.simhash_projections, "simhash_projections", 0, 16)
        if self.projection_dimension is not None:
            _whole(self.projection_dimension, "projection_dimension", 1, limits.DIM_MAX)
        _one_of(self.store, "store", _STORES)
        _one_of(self.proxy, "proxy", _PROXIES)
        _whole(self.pooling, "pooling", 1, limits.POOLING_MAX)
        for name, known in (("originals", (True, False)), ("fill_empty", (True, False, "auto"))):
            if not isinstance(getattr(self, name), bool | str):
                raise InvalidArgument(f"{name} must be one of {list(known)}", field=name, value=getattr(self, name))
            _one_of(getattr(self, name), name, known)
        self._check_scale()
        if self.proxy_bits not in (None, 1, 4, 8, 32) or isinstance(self.proxy_bits, bool):
            raise InvalidArgument(
                "proxy_bits must be 1, 4, 8 or 32", field="proxy_bits", value=self.proxy_bits, limit=[1, 4, 8, 32]
            )
        if self.proxy_dim > limits.PROXY_DIM_MAX:
            raise LimitExceeded(
                "the encoding is too wide: lower repetitions, simhash_projections or projection_dimension",
                field="proxy_dim",
                value=self.proxy_dim,
                limit=limits.PROXY_DIM_MAX,
            )

    def _check_scale(self) -> None:
        if self.scale is None:
            return
        if self.store != "int8":
            raise InvalidArgument("scale goes with int8 tokens: leave it out", field="scale", value=self.scale)
        number = isinstance(self.scale, float | int) and not isinstance(self.scale, bool)
        if not number or not 1e-30 <= self.scale <= 1e30:
            raise InvalidArgument(
                "scale must be a number above 0: a token's numbers are at most 127 of it; 1 / 127 suits unit tokens",
                field="scale",
                value=self.scale,
                limit=[1e-30, 1e30],
            )

    @property
    def compared(self) -> int:
        """Dimensions in which tokens are compared: those of bits are padded for their rotation."""
        return -(-self.dim // 128) * 128 if self.store == "bit" else self.dim

    @property
    def stored(self) -> np.dtype[Any]:
        """The numpy dtype of a stored row."""
        return _STORED[self.store]

    @property
    def columns(self) -> int:
        """Numbers in a stored row."""
        return self.compared // 8 + 1 if self.store == "bit" else self.dim

    @property
    def row_bytes(self) -> int:
        """Bytes of a stored token."""
        return self.columns * self.stored.itemsize

    @property
    def code_bits(self) -> int:
        """Bits of each number of an encoding."""
        return self.proxy_bits or (4 if self.proxy == "lemur" else 1)

    @property
    def proxy_dim(self) -> int:
        """Numbers in one fixed dimensional encoding."""
        return self.repetitions * (1 << self.simhash_projections) * (self.projection_dimension or self.compared)


Field = Dense | Multi
_KINDS: Final[dict[str, type[Dense] | type[Multi]]] = {"dense": Dense, "multi": Multi}


@dataclass(frozen=True, slots=True)
class Schema:
    """The vector fields of one collection by name; the unnamed field of a simple collection is ""."""

    fields: Mapping[str, Field] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 1 <= len(self.fields) <= limits.FIELDS_MAX:
            raise LimitExceeded(
                f"a collection has 1 to {limits.FIELDS_MAX} vector fields",
                field="vectors",
                value=len(self.fields),
                limit=limits.FIELDS_MAX,
            )
        if list(self.fields) != [""]:
            for name in self.fields:
                check_name(name, "vector field name")

    def resolve(self, using: str | None, kind: type[Dense] | type[Multi]) -> str:
        """The name of the field a query means: `using`, or the only field of that kind."""
        word = "dense" if kind is Dense else "multi"
        if using is not None:
            found = self.fields.get(using)
            if found is None:
                raise NotFound(
                    f"no vector field {using!r}; there are {sorted(self.fields)}", field="using", value=using
                )
            if not isinstance(found, kind):
                other = "query_multi" if kind is Dense else "query"
                raise InvalidArgument(f"{using!r} is not a {word} field: use {other}", field="using", value=using)
            return using
        names = [n for n, f in self.fields.items() if isinstance(f, kind)]
        if len(names) != 1:
            raise InvalidArgument(f"name the {word} field with `using`; there are {names}", field="using", limit=names)
        return names[0]

    def dense(self, using: str | None) -> tuple[str, Dense]:
        """Name and declaration of the dense field a query means."""
        name = self.resolve(using, Dense)
        spec = self.fields[name]
        assert isinstance(spec, Dense), "resolve returns a dense field"
        return name, spec

    def encode(self) -> bytes:
        """JSON as it stands in the catalogue."""
        fields = {n: {"kind": _kind(f), **asdict(f)} for n, f in self.fields.items()}
        return orjson.dumps({"format": FORMAT, "fields": fields})

    @classmethod
    def decode(cls, text: bytes) -> Schema:
        """Read what `encode` wrote; FormatTooNew, CorruptData or, for a metric not registered, UnknownMetric."""
        try:
            tree = orjson.loads(text)
            written = tree["format"]
            if written > FORMAT:
                raise FormatTooNew(
                    f"the collection has format {written}; this engine reads up to {FORMAT}: upgrade vicinal",
                    field="format",
                    value=written,
                    limit=FORMAT,
                )
            return cls({n: from_mapping(f) for n, f in tree["fields"].items()})
        except UnknownMetric:
            raise
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, InvalidArgument) as error:
            raise CorruptData(f"the schema in the catalogue cannot be read: {error}", field="config") from error


def _kind(spec: Field) -> str:
    return "dense" if isinstance(spec, Dense) else "multi"


def from_mapping(spec: Mapping[str, Any]) -> Field:
    """A field from its JSON form, {"kind": "dense" | "multi", "dim": ..., ...}; `kind` defaults to dense."""
    options = dict(spec)
    kind = options.pop("kind", "dense")
    made = _KINDS.get(kind)
    if made is None:
        raise InvalidArgument(f"kind must be one of {sorted(_KINDS)}", field="kind", value=kind, limit=sorted(_KINDS))
    known = made.__dataclass_fields__
    for option in options:
        if option not in known:
            raise InvalidArgument(
                f"a {kind} field has no option {option!r}; it has {sorted(known)}",
                field=option,
                limit=sorted(known),
            )
    if "dim" not in options:
        raise InvalidArgument("dim is missing: how many numbers has one vector?", field="dim")
    return made(**options)
