"""Metrics that are functions of two vectors: those built in and those a program registers.

A registered function lives as long as its process; a collection holds its name alone.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np
from numba.core.errors import NumbaError
from numpy.typing import NDArray

from vicinal import limits
from vicinal.errors import AlreadyExists, InvalidArgument
from vicinal.kernels.functions import compiled, haversine_function, jitted, l1_function
from vicinal.types import Metric

__all__ = ["check_function", "function_at", "register_metric"]

RESERVED: Final = frozenset({"ip", "hamming", "jaccard"})  # spaces and metrics that are no members, or not everywhere
_BUILT_IN: Final = {Metric.L1: l1_function, Metric.HAVERSINE: haversine_function}


class _Registered(NamedTuple):
    given: Callable[..., Any]
    dispatcher: Any
    callback: Any  # keeps the machine code


_registered: dict[Metric, _Registered] = {}
_registering = threading.Lock()


@cache
def _built_in(metric: Metric) -> Any:
    return _BUILT_IN[metric]()


def function_at(metric: Metric) -> int:
    """The address of a metric's function, which stays valid until the process ends."""
    found = _registered.get(metric)
    address: int = (_built_in(metric) if found is None else found.callback).address
    return address


def register_metric(name: str, function: Callable[..., Any], *, dim: int = 8) -> None:
    """Let `name` be a metric: of fields (`Dense(dim, metric=name)`), and a space of `Index` and `BFIndex`.

    function(a, b) gives the distance, smaller is nearer, of two (dim,) float32 arrays that it must not change; `a` is
    the query where the order matters. A numba function is taken as it is; another one is compiled here, with sums that
    may be reordered, so it must be in the part of Python that numba compiles. It is tried on two vectors of `dim`
    numbers below 1. It should depend on nothing but its arguments: graphs and copies are found by that.

    A pair for which it gives nan, infinity or an exception later is as far apart as can be (3.4e38). Reads beyond an
    array's end are not checked in numba functions. Fields under such a metric are walked on floats. Register in every
    process, before a collection that uses the name is opened.

    Raises InvalidArgument when the name or the function will not do, and AlreadyExists when the name has another
    function; the same function may be registered again.
    """
    _check_name(name)
    if not callable(function):
        raise _unfit(name, "it cannot be called", function)
    with _registering:
        known = _registered.get(Metric.declare(name)) if name in _names() else None
        if known is not None:
            if not _is_same(known.given, function):
                raise AlreadyExists(
                    f"metric {name!r} has another function: choose another name, or start a new process",
                    field="name",
                    value=name,
                )
            return
        dispatcher, callback = _compile(name, function, dim)
        _registered[Metric.declare(name)] = _Registered(function, dispatcher, callback)


def _names() -> set[str]:
    return {metric.value for metric in _registered}


def _check_name(name: Any) -> None:
    if not isinstance(name, str) or not re.fullmatch(limits.NAME_PATTERN, name):
        raise InvalidArgument(
            f"the name of a metric must match {limits.NAME_PATTERN}",
            field="name",
            value=name,
            limit=limits.NAME_PATTERN,
        )
    taken = RESERVED | {metric.value for metric in Metric}
    if name in taken:
        raise InvalidArgument(f"{name!r} is built in: choose another name", field="name", value=name)


def _unfit(name: str, why: str, function: Any) -> InvalidArgument:
    return InvalidArgument(f"the function of metric {name!r} will not do: {why}", field="function", value=function)


def _compile(name: str, function: Callable[..., Any], dim: int) -> tuple[Any, Any]:
    """The function compiled for Python to call and for kernels to call."""
    try:
        dispatcher = jitted(function)
        _try(name, function, dispatcher, dim)
        return dispatcher, compiled(dispatcher)
    except NumbaError as error:
        raise _unfit(name, f"numba cannot compile it: {error}", function) from error
    except TypeError as error:
        raise _unfit(name, str(error), function) from error


def _sample(dim: int) -> NDArray[np.float32]:
    """Two vectors inside the unit ball without equal or zero numbers: (2, dim) float32."""
    steps = np.arange(1, dim + 1, dtype=np.float32) / np.float32(dim)
    return np.stack([steps, np.cos(steps * 3)]) * np.float32(0.5 / np.sqrt(dim))


def _try(name: str, function: Callable[..., Any], dispatcher: Any, dim: int) -> None:
    """Raise InvalidArgument unless the function gives a finite number for two vectors and leaves them alone."""
    first, second = _sample(dim)
    _check_bounds(name, getattr(function, "py_func", function), dim)
    given = first.copy(), second.copy()
    try:
        found = dispatcher(*given)
    except (NumbaError, TypeError):
        raise
    except Exception as error:
        raise _unfit(name, f"for two vectors of {dim} numbers it raised {error!r}", function) from error
    if not isinstance(found, int | float):
        raise _unfit(name, f"it gives {type(found).__name__}, not a number", function)
    if not abs(found) < np.inf:
        raise _unfit(name, f"for two vectors of {dim} numbers it gives {found}", function)
    if not (np.array_equal(given[0], first) and np.array_equal(given[1], second)):
        raise _unfit(name, "it changes its arguments", function)


def _check_bounds(name: str, plain: Callable[..., Any], dim: int) -> None:
    """Raise InvalidArgument when the function, as Python, reads beyond its vectors: compiled, it would not tell."""
    try:
        with np.errstate(all="ignore"):
            plain(*_sample(dim))
    except IndexError as error:
        raise _unfit(name, f"for two vectors of {dim} numbers it raised {error!r}", plain) from error
    except Exception:  # noqa: BLE001, S110 - what runs compiled need not run as Python: the compiled one decides
        pass


def check_function(metric: Metric, dim: int) -> None:
    """Raise InvalidArgument when the metric is a registered function that fails on vectors of so many numbers."""
    found = _registered.get(metric)
    if found is not None:
        _try(metric.value, found.given, found.dispatcher, dim)


def _is_same(one: Any, other: Any) -> bool:
    """Whether two functions do the same: one object, or the same code about the same names."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    same: bool = _content(one) == _content(other)
    return same


def _content(function: Any) -> Any:
    """What a function consists of, for comparison."""
    plain = getattr(function, "py_func", function)
    code = getattr(plain, "__code__", None)
    if code is None:
        return id(function)
    cells = [cell.cell_contents for cell in plain.__closure__ or ()]
    outside = [id(plain.__globals__.get(used)) for used in code.co_names]
    options = repr(getattr(function, "targetoptions", None))
    return (
        code.co_code,
        code.co_consts,
        code.co_names,
        [id(cell) for cell in cells],
        outside,
        plain.__defaults__,
        options,
    )
