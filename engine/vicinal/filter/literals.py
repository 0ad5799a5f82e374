"""Checks of what a filter compares with: values, bounds, ids, lists of them.

Each takes anything and gives back the one form the tree keeps, or raises InvalidFilter naming `name`. Scalars
of numpy are taken as the Python numbers they hold, a UUID as its text, a member of an Enum as its value.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from datetime import date, datetime
from enum import Enum
from typing import Any, Final, NoReturn
from uuid import UUID

import numpy as np

from vicinal.errors import InvalidFilter
from vicinal.filter.instants import parse_datetime
from vicinal.limits import FILTER_VALUES_MAX, ID_BYTES_MAX, ID_MAX
from vicinal.types import PointId

__all__ = [
    "INTEGER_MAX",
    "INTEGER_MIN",
    "Bound",
    "Value",
    "checked_bound",
    "checked_id",
    "checked_list",
    "checked_value",
    "plain",
    "refuse",
    "value_identity",
]

Value = bool | int | float | str
Bound = int | float | datetime | None

INTEGER_MIN: Final = -(1 << 63)  # what a JSON integer may be here: i64 or u64
INTEGER_MAX: Final = (1 << 64) - 1

_VALUE_HELP = "a string, a number or true/false"


def refuse(what: str, value: Any, name: str) -> NoReturn:
    """Raise InvalidFilter that names the part and shows the value if it is a scalar."""
    # containers are not shown: a deep one could not even be printed
    shown = value if isinstance(value, bool | int | float | str) else type(value).__name__
    raise InvalidFilter(what, field=name, value=shown)


def plain(value: Any) -> Any:
    """The value as JSON would hold it, where Python has another type for it."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, UUID):
        return str(value)
    return value.value if isinstance(value, Enum) else value


def _number(value: Any, name: str) -> int | float:
    if isinstance(value, float):
        if math.isnan(value):
            refuse(f"{name} must not be NaN, nothing compares with it", value, name)
        return value
    if not INTEGER_MIN <= value <= INTEGER_MAX:
        refuse(f"{name} must be an integer of 64 bits (-2**63 to 2**64 - 1) or a float", None, name)
    return int(value)


def checked_value(value: Any, name: str) -> Value:
    """The value a Match compares with: a string, a boolean, a number other than NaN, integers of 64 bits."""
    value = plain(value)
    if isinstance(value, bool | str):
        return value
    if isinstance(value, int | float):
        return _number(value, name)
    if value is None:
        refuse(f"{name} must not be null: use is_null (text: `key is null`)", value, name)
    refuse(f"{name} must be {_VALUE_HELP}, not {type(value).__name__}", value, name)


def checked_list(values: Any, name: str) -> Sequence[Any]:
    """The list, of at most FILTER_VALUES_MAX members; sets and arrays are taken as lists."""
    if isinstance(values, set | frozenset | np.ndarray):
        values = list(values)
    if not isinstance(values, list | tuple):
        refuse(f"{name} must be a list, not {type(values).__name__}", values, name)
    if len(values) > FILTER_VALUES_MAX:
        raise InvalidFilter(
            f"{name} holds {len(values)} values, at most {FILTER_VALUES_MAX} are allowed in a filter",
            field=name,
            limit=FILTER_VALUES_MAX,
        )
    return values


def value_identity(value: Value) -> tuple[str, Hashable]:
    """The value under its kind, so that 1 and true differ; Python's 1 == 1.0 is the equality we want."""
    if isinstance(value, bool):
        return ("b", value)
    if isinstance(value, str):
        return ("s", value)
    whole = isinstance(value, float) and value.is_integer() and INTEGER_MIN <= value <= INTEGER_MAX
    return ("n", int(value) if whole else value)


def checked_bound(bound: Any, name: str) -> Bound:
    """The bound of a range: a number, or a datetime, also given as a date or ISO 8601 text; or None."""
    bound = plain(bound)
    if isinstance(bound, str):
        moment = parse_datetime(bound)
        if moment is None:
            refuse(f"{name} must be a number or an ISO 8601 datetime, not the text {bound[:80]!r}", bound, name)
        return moment
    if isinstance(bound, bool):
        refuse(f"{name} must be a number or a datetime, not true/false", bound, name)
    if bound is None or isinstance(bound, datetime):
        return bound
    if isinstance(bound, date):
        return datetime(bound.year, bound.month, bound.day)  # noqa: DTZ001 - naive means UTC here
    if isinstance(bound, int | float):
        return _number(bound, name)
    refuse(f"{name} must be a number or a datetime, not {type(bound).__name__}", bound, name)


def checked_id(value: Any, name: str) -> PointId:
    """The id: an integer of 0 to 2**64 - 1 or a string of 1 to 512 bytes."""
    value = plain(value)
    if isinstance(value, str):
        if not 1 <= len(value.encode(errors="surrogatepass")) <= ID_BYTES_MAX:
            refuse(f"{name} must have 1 to {ID_BYTES_MAX} bytes", value, name)
        return value
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= ID_MAX:
        refuse(f"{name} must be an id: an integer of 0 to 2**64 - 1 or a string", None, name)
    return value
