"""Filters: read them, evaluate them over attribute columns, count what they select.

    tree = parse_filter("year >= 2020 and topic in ('cs.LG', 'cs.IR')")
    columns = Columns()
    columns.extend(payloads)                        # one JSON object, or None, for each slot
    bits = evaluate(tree, columns, slots_of, n)     # or BitmapCache(columns).evaluate(...)

Modules, bottom up: `path`, `instants`, `literals`, `model` and `geo` (the tree), `normal` (its normal form),
`expression`, `parse`, `render` (its outer forms); `bits`, `areas`, `membership`, `sealed`, `values`, `shred`,
`columns`, `column_snapshot` (typed columns); `probes`, `evaluate`, `cache`, `estimate`, `facets` (the two together).
"""

from __future__ import annotations

from vicinal.bits import count_bits
from vicinal.filter.cache import BitmapCache
from vicinal.filter.columns import Columns
from vicinal.filter.estimate import Cardinality, cardinality
from vicinal.filter.evaluate import SlotsOf, evaluate
from vicinal.filter.facets import Tally, tally
from vicinal.filter.geo import GeoBoundingBox, GeoPoint, GeoPolygon, GeoRadius
from vicinal.filter.model import (
    Condition,
    Filter,
    HasId,
    IsEmpty,
    IsNull,
    Match,
    MatchAny,
    MatchExcept,
    MinShould,
    Range,
)
from vicinal.filter.normal import canonical
from vicinal.filter.parse import parse_filter
from vicinal.filter.render import to_mapping

__all__ = [
    "BitmapCache",
    "Cardinality",
    "Columns",
    "Condition",
    "Filter",
    "GeoBoundingBox",
    "GeoPoint",
    "GeoPolygon",
    "GeoRadius",
    "HasId",
    "IsEmpty",
    "IsNull",
    "Match",
    "MatchAny",
    "MatchExcept",
    "MinShould",
    "Range",
    "SlotsOf",
    "Tally",
    "canonical",
    "cardinality",
    "count_bits",
    "evaluate",
    "parse_filter",
    "tally",
    "to_mapping",
]
