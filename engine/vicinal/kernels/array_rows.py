"""Rows of numbers as arguments: of a numpy array a kernel gets the address and the length, and nothing is counted.

numba makes a reference-counted record of every array it is given, which costs a query of ten microseconds a tenth of
one for each. `ROW` reads numpy's own record, which is part of its binary interface (`PyArrayObject_fields`). The caller
holds the array during the call, and has seen that it is one, and of the dtype that the kernel reads; whether it is one
row in one piece is looked at here.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, make_attribute_wrapper, models, register_model, unbox

from vicinal.kernels.simd import i32, i64, load

__all__ = ["ROW", "Row"]

# Places in numpy's record of an array
_HEAD = object.__basicsize__
_DATA, _NDIM, _SHAPE, _FLAGS = _HEAD, _HEAD + 8, _HEAD + 16, _HEAD + 48
_WHOLE = 0x101  # C-contiguous and aligned


class Row(types.Type):
    """An array (n,) or (1, n) in one piece: `address` and `length`; the length of any other array is -1."""

    def __init__(self) -> None:
        super().__init__(name="Row")


ROW = Row()


@register_model(Row)
class _RowModel(models.StructModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, [("address", types.intp), ("length", types.intp)])


make_attribute_wrapper(Row, "address", "address")
make_attribute_wrapper(Row, "length", "length")


@unbox(Row)
def _unbox(kind, array, context):
    b = context.builder
    record = b.ptrtoint(array, i64)
    sides, flags = load(b, record, i32, _NDIM, align=4), load(b, record, i32, _FLAGS, align=4)
    row = cgutils.create_struct_proxy(kind)(context.context, b)
    row.address = load(b, record, i64, _DATA, align=8)
    row.length = i64(-1)
    length = row._get_ptr_by_name("length")  # noqa: SLF001 - where numba's own code stores into a record
    whole = b.icmp_unsigned("==", b.and_(flags, i32(_WHOLE)), i32(_WHOLE))
    few = b.icmp_unsigned("<", b.sub(sides, i32(1)), i32(2))
    with b.if_then(b.and_(whole, few)):
        shape = load(b, record, i64, _SHAPE, align=8)
        last = load(b, b.add(shape, b.shl(b.zext(b.sub(sides, i32(1)), i64), i64(3))), i64, align=8)
        first = load(b, shape, i64, align=8)
        one = b.or_(b.icmp_signed("==", sides, i32(1)), b.icmp_signed("==", first, i64(1)))
        b.store(b.select(one, last, ir.Constant(i64, -1)), length)
    return NativeValue(row._getvalue())  # noqa: SLF001
