"""LLVM vector instructions for numba: the layer all kernels share.

Two halves. The helpers (`call`, `load`, `store`, `splat`, `Loop`, ...) write IR and are used inside other
modules' `@intrinsic` functions. The intrinsics (`get_i32`, `prefetch`, `make_key`, ...) are called from
kernels; they take plain addresses (intp) and never check bounds. Generic wide vectors (<16 x float>) are
legal on every target: LLVM splits them where registers are narrower.

A **key** is an int64 that sorts as (distance, slot): the distance's bits, made order-preserving, in the high
half, `slot << 1 | flag` in the low half. A NaN counts as +inf and -0.0 as +0.0.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

__all__ = [
    "INF_KEY",
    "SENTINEL",
    "Loop",
    "at",
    "call",
    "concat",
    "const",
    "f16",
    "f32",
    "get_f32",
    "get_i32",
    "get_i64",
    "get_u8",
    "get_u32",
    "i1",
    "i8",
    "i16",
    "i32",
    "i64",
    "key_distance",
    "key_slot",
    "load",
    "lowest_bit",
    "make_key",
    "popcount",
    "prefetch",
    "prefetch_l2",
    "publish_fence",
    "publish_u32",
    "reduce_add",
    "set_f32",
    "set_i64",
    "set_u8",
    "set_u32",
    "splat",
    "store",
    "vec",
]

SENTINEL = 0xFFFFFFFF  # ends a row of links
INF_KEY = 0x7F800000FFFFFFFF  # distance +inf, no slot, flag set: sorts after every key of a slot

f16, f32 = ir.HalfType(), ir.FloatType()
i1, i8, i16, i32, i64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))


# --- writing IR -----------------------------------------------------------------------------------


def vec(element, count):
    """The vector type <count x element>."""
    return ir.VectorType(element, count)


def call(b, name, returns, args, **flags):
    """Call an LLVM intrinsic by its full name, declared from the arguments' types."""
    function = cgutils.get_or_insert_function(b.module, ir.FunctionType(returns, [a.type for a in args]), name)
    return b.call(function, args, **flags)


def at(b, address, kind, offset=0):
    """The address plus offset (a Python int or an IR value) as a pointer to kind."""
    if not isinstance(offset, int):
        address = b.add(address, offset)
    elif offset:
        address = b.add(address, address.type(offset))
    return b.inttoptr(address, kind.as_pointer())


def load(b, address, kind, offset=0, align=1):
    """Load a value of type kind; `align` larger than the address really has is a crash."""
    return b.load(at(b, address, kind, offset), align=align)


def store(b, value, address, offset=0, align=1):
    """Store a value; `align` as for load."""
    b.store(value, at(b, address, value.type, offset), align=align)


def splat(b, x, count):
    """The vector of count times x."""
    kind = vec(x.type, count)
    one = b.insert_element(ir.Constant(kind, ir.Undefined), x, i32(0))
    return b.shuffle_vector(one, ir.Constant(kind, ir.Undefined), ir.Constant(vec(i32, count), [0] * count))


def concat(b, x, y):
    """The vector of x's lanes, then y's."""
    count = x.type.count
    return b.shuffle_vector(x, y, ir.Constant(vec(i32, 2 * count), list(range(2 * count))))


def const(kind, x):
    """The constant vector of type kind with x in every lane."""
    return ir.Constant(kind, [x] * kind.count)


def reduce_add(b, x):
    """The sum of a vector's lanes; of floats in any order."""
    element = x.type.element
    if isinstance(element, ir.IntType):
        return call(b, f"llvm.vector.reduce.add.v{x.type.count}i{element.width}", element, [x])
    name = f"llvm.vector.reduce.fadd.v{x.type.count}f32"
    return call(b, name, element, [element(0.0), x], fastmath=("reassoc",))


class Loop:
    """for i in 0 .. n-1, with values carried in registers by phi; n may be 0.

    Open it, use `.i` and `.vals` (of this turn), write the body, then `close(new values)`: that leaves the
    builder after the loop and returns the values there.
    """

    def __init__(self, b, n, init):
        self.b, self.n, self.init = b, n, list(init)
        self.entry = b.block
        self.body, self.end = b.append_basic_block("loop"), b.append_basic_block("end")
        b.cbranch(b.icmp_signed(">", n, n.type(0)), self.body, self.end)
        b.position_at_end(self.body)
        self.i = b.phi(n.type)
        self.i.add_incoming(n.type(0), self.entry)
        self.vals = []
        for x in self.init:
            carried = b.phi(x.type)
            carried.add_incoming(x, self.entry)
            self.vals.append(carried)

    def close(self, new):
        """End the body; the values after the loop (those of `init` when n = 0)."""
        b, here = self.b, self.b.block
        following = b.add(self.i, self.n.type(1))
        self.i.add_incoming(following, here)
        for carried, x in zip(self.vals, new, strict=True):
            carried.add_incoming(x, here)
        b.cbranch(b.icmp_signed("<", following, self.n), self.body, self.end)
        b.position_at_end(self.end)
        after = []
        for first, x in zip(self.init, new, strict=True):
            joined = b.phi(x.type)
            joined.add_incoming(first, self.entry)
            joined.add_incoming(x, here)
            after.append(joined)
        return after


# --- memory by address ----------------------------------------------------------------------------


def _getter(returns, kind, widen=None):
    @intrinsic
    def get(typingctx, address):
        def gen(ctx, b, sig, args):
            value = load(b, args[0], kind)
            return b.zext(value, widen) if widen else value

        return returns(types.intp), gen

    return get


get_i32 = _getter(types.int32, i32)
get_i64 = _getter(types.int64, i64)
get_f32 = _getter(types.float32, f32)
get_u8 = _getter(types.int64, i8, i64)  # widened: no kernel wants 8-bit arithmetic
get_u32 = _getter(types.int64, i32, i64)


def _setter(takes, narrow=None):
    @intrinsic
    def put(typingctx, address, value):
        def gen(ctx, b, sig, args):
            store(b, b.trunc(args[1], narrow) if narrow else args[1], args[0])
            return ctx.get_dummy_value()

        return types.void(types.intp, takes), gen

    return put


set_i64 = _setter(types.int64)
set_f32 = _setter(types.float32)
set_u8 = _setter(types.int64, i8)
set_u32 = _setter(types.int64, i32)


@intrinsic
def publish_u32(typingctx, address, value):
    """Store an aligned u32 in one piece, so that a reader in another thread sees the old or the new value."""

    def gen(ctx, b, sig, args):
        b.store_atomic(b.trunc(args[1], i32), at(b, args[0], i32), ordering="monotonic", align=4)
        return ctx.get_dummy_value()

    return types.void(types.intp, types.int64), gen


@intrinsic
def publish_fence(typingctx):
    """Make every store before it visible to other threads before any store after it."""

    def gen(ctx, b, sig, args):
        b.fence("release")
        return ctx.get_dummy_value()

    return types.void(), gen


def _prefetcher(locality):
    @intrinsic
    def fetch(typingctx, address):
        def gen(ctx, b, sig, args):
            pointer = b.inttoptr(args[0], i8.as_pointer())
            call(b, "llvm.prefetch.p0", ir.VoidType(), [pointer, i32(0), i32(locality), i32(1)])
            return ctx.get_dummy_value()

        return types.void(types.intp), gen

    return fetch


prefetch = _prefetcher(3)  # into all caches; any address is safe
prefetch_l2 = _prefetcher(2)  # into the second level only


# --- bits and keys --------------------------------------------------------------------------------


@intrinsic
def lowest_bit(typingctx, word):
    """Position of the lowest set bit of a word that is not 0."""

    def gen(ctx, b, sig, args):
        return call(b, "llvm.cttz.i64", i64, [args[0], i1(1)])

    return types.int64(types.int64), gen


@intrinsic
def popcount(typingctx, word):
    """Number of set bits."""

    def gen(ctx, b, sig, args):
        return call(b, "llvm.ctpop.i64", i64, [args[0]])

    return types.int64(types.int64), gen


@intrinsic
def make_key(typingctx, distance, slot):
    """The key of a distance and a slot, flag clear."""

    def gen(ctx, b, sig, args):
        x = b.fadd(args[0], f32(0.0))  # -0.0 becomes +0.0
        x = b.select(b.fcmp_unordered("uno", x, x), f32(float("inf")), x)
        bits = b.bitcast(x, i32)
        ordered = b.xor(bits, b.lshr(b.ashr(bits, i32(31)), i32(1)))  # negative: flip all but the sign
        low = b.shl(b.and_(args[1], i64(0x7FFFFFFF)), i64(1))
        return b.or_(b.shl(b.zext(ordered, i64), i64(32)), low)

    return types.int64(types.float32, types.int64), gen


@intrinsic
def key_distance(typingctx, key):
    """The distance of a key."""

    def gen(ctx, b, sig, args):
        ordered = b.trunc(b.lshr(args[0], i64(32)), i32)
        return b.bitcast(b.xor(ordered, b.lshr(b.ashr(ordered, i32(31)), i32(1))), f32)

    return types.float32(types.int64), gen


@intrinsic
def key_slot(typingctx, key):
    """The slot of a key; 2^31 - 1 for INF_KEY."""

    def gen(ctx, b, sig, args):
        return b.lshr(b.and_(args[0], i64(0xFFFFFFFF)), i64(1))

    return types.int64(types.int64), gen
