"""The kinds of proxies a multi-vector field can have."""

from __future__ import annotations

from typing import Any

from vicinal.multivector.centroids import CentroidIndex
from vicinal.multivector.encoded import EncodedIndex
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.lemur import LemurIndex
from vicinal.multivector.proxies import ProxyIndex
from vicinal.schema import Multi

__all__ = ["encoders_of", "make_proxies"]


def make_proxies(spec: Multi) -> ProxyIndex[Any]:
    """An empty proxy index of the kind that a field declares, over tokens as they are compared."""
    if spec.proxy == "centroids":
        return CentroidIndex(spec.compared, spec.seed)
    if spec.proxy == "lemur":
        return LemurIndex(spec.compared, spec.code_bits, spec.seed)
    return EncodedIndex(encoders_of(spec), spec.code_bits, spec.seed)


def encoders_of(spec: Multi) -> list[FixedDimensionalEncoder]:
    """The encoders that a field may take: one, or with and without filling where that is measured."""
    fills = (True, False) if spec.fill_empty == "auto" else (spec.fill_empty,)
    shape = spec.repetitions, spec.simhash_projections, spec.projection_dimension
    return [FixedDimensionalEncoder(spec.compared, *shape, fill_empty=fill, seed=spec.seed) for fill in fills]
