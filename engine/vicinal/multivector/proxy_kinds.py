"""The kinds of proxies a multi-vector field can have."""

from __future__ import annotations

from typing import Any

from vicinal.multivector.centroids import CentroidIndex
from vicinal.multivector.encoded import EncodedIndex
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.lemur import LemurIndex
from vicinal.multivector.proxies import ProxyIndex
from vicinal.schema import Multi

__all__ = ["encoder_options", "make_proxies"]


def make_proxies(spec: Multi) -> ProxyIndex[Any]:
    """An empty proxy index of the kind that a field declares."""
    if spec.proxy == "centroids":
        return CentroidIndex(spec.dim, spec.seed)
    if spec.proxy == "lemur":
        return LemurIndex(spec.dim, spec.code_bits, spec.seed)
    return EncodedIndex(FixedDimensionalEncoder(**encoder_options(spec)), spec.code_bits, spec.seed)


def encoder_options(spec: Multi) -> dict[str, Any]:
    """Arguments of FixedDimensionalEncoder for a field."""
    names = ("dim", "repetitions", "simhash_projections", "projection_dimension", "fill_empty", "seed")
    return {name: getattr(spec, name) for name in names}
