"""Fixed-dimensional encodings: SimHash blocks of projected tokens, summed or averaged.

MUVERA (Dhulipala et al., NeurIPS 2024), section 2. Departures: one matrix product gives all repetitions' sketches and
one all projections, in tiles that fit the cache; an empty block looks for its nearest token among the distinct codes
only, in the order of their first tokens, which finds the same token.

Every output of the product is one chain of fused multiply-adds over the dimensions in order, so an encoding does not
depend on the batch a document is in, nor on the width of the machine's vectors.
"""

# ruff: noqa: ARG001 - an intrinsic's arguments are its signature; its body reads `args`

from __future__ import annotations

import numpy as np
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from vicinal.kernels import njit
from vicinal.kernels.cpu import HAS_AVX512
from vicinal.kernels.simd import Loop, call, const, f32, load, popcount, splat, store, vec

__all__ = ["PANEL", "add_signed", "encode_blocks", "pack_panels", "product"]

# rows and 16-lane vectors of one register tile: 24 of AVX-512's 32 registers, or 8 of AVX2's 16
_ROWS, _VECTORS = (6, 4) if HAS_AVX512 else (4, 1)
PANEL = 16 * _VECTORS  # columns of a packed panel
_CHUNK = 96  # token rows projected at once: their products stay in the second-level cache


def pack_panels(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
    """Split (depth, columns) float32 into panels (ceil(columns / PANEL), depth, PANEL), zeros beyond the columns."""
    depth, columns = matrix.shape
    panels = -(-columns // PANEL)
    padded = np.zeros((depth, panels * PANEL), np.float32)
    padded[:, :columns] = matrix
    return np.ascontiguousarray(padded.reshape(depth, panels, PANEL).transpose(1, 0, 2))


@intrinsic
def _product_tile(typingctx, rows, last, depth, panel, out, stride):
    """Multiply _ROWS rows by one panel: addresses of the first row, the last row to read, the panel and the result.

    Rows beyond `last` read `last` again; result rows are `stride` bytes apart.
    """

    def gen(ctx, b, sig, args):
        rows, last, depth, panel, out, stride = args
        length = b.mul(depth, depth.type(4))
        starts = [rows]
        for _ in range(_ROWS - 1):
            following = b.add(starts[-1], length)
            inside = b.icmp_unsigned("<", following, last)
            starts.append(b.select(inside, following, last))
        kind = vec(f32, 16)
        loop = Loop(b, depth, [const(kind, 0.0)] * (_ROWS * _VECTORS))
        weights = b.add(panel, b.mul(loop.i, depth.type(4 * PANEL)))
        columns = [load(b, weights, kind, 64 * v, align=4) for v in range(_VECTORS)]
        totals = []
        for r, start in enumerate(starts):
            x = splat(b, load(b, start, f32, b.mul(loop.i, depth.type(4)), align=4), 16)
            for v, column in enumerate(columns):
                totals += [call(b, "llvm.fma.v16f32", kind, [x, column, loop.vals[r * _VECTORS + v]])]
        totals = loop.close(totals)
        for r in range(_ROWS):
            place = b.add(out, b.mul(stride, stride.type(r)))
            for v in range(_VECTORS):
                store(b, totals[r * _VECTORS + v], place, 64 * v, align=4)
        return ctx.get_dummy_value()

    return types.void(*[types.intp] * 6), gen


@njit
def product(rows, start, stop, panels, out):
    """Rows start..stop of (n, depth) times packed panels, into out[0 ..]; out has _ROWS - 1 spare rows."""
    depth = rows.shape[1]
    last = rows.ctypes.data + (stop - 1) * depth * 4
    stride = out.shape[1] * 4
    for panel in range(panels.shape[0]):
        weights = panels.ctypes.data + panel * depth * PANEL * 4
        for row in range(start, stop, _ROWS):
            target = out.ctypes.data + (row - start) * stride + panel * PANEL * 4
            _product_tile(rows.ctypes.data + row * depth * 4, last, depth, weights, target, stride)


@njit
def _sign_code(sketch, first, bits):
    """The sign bits of sketch[first .. first + bits], the first the most significant; zero and NaN give 0."""
    code = 0
    for i in range(bits):
        code = 2 * code + (1 if sketch[first + i] > 0 else 0)
    return code


@njit
def _rank(code):
    """The rank of a Gray code below 2^32."""
    code ^= code >> 1
    code ^= code >> 2
    code ^= code >> 4
    code ^= code >> 8
    return code ^ (code >> 16)


@njit
def _finish_document(out, counts, seen, first, fill, bits, width):
    """Average the occupied blocks of one repetition; fill the empty ones from the nearest code's first token.

    `seen` lists the occupied blocks in the order of their first tokens, ended by -1; `first` (blocks, width) holds
    those tokens' projections.
    """
    blocks = 1 << bits
    for block in range(blocks):
        if counts[block] > 1:
            for j in range(width):
                out[block * width + j] /= np.float32(counts[block])
        elif counts[block] == 0 and fill and bits > 0:
            target = block ^ (block >> 1)
            nearest = 0
            fewest = 64
            at = 0
            while at < blocks and seen[at] >= 0:
                different = popcount(seen[at] ^ (seen[at] >> 1) ^ target)
                if different < fewest:
                    fewest = different
                    nearest = seen[at]
                at += 1
            for j in range(width):
                out[block * width + j] = first[nearest * width + j]


@njit
def encode_blocks(tokens, ends, shape, sketches, projections, average, fill, out):
    """Encode token matrices ends[i - 1] .. ends[i] of `tokens` into out[i], which must hold zeros.

    `tokens` (t, dim) float32; `ends` (n,) int64; `shape` (repetitions, bits, width) int64; `sketches` and
    `projections` packed panels (`pack_panels`) of (dim, repetitions * bits) and (dim, repetitions * width)
    float32, the latter with no panel where tokens are taken as they are (width = dim); `out`
    (n, repetitions * 2^bits * width) float32. Sums without `average`; `fill` only with it.
    """
    repetitions, bits, width = shape[0], shape[1], shape[2]
    blocks = 1 << bits
    projected = projections.shape[0] > 0
    sketch = np.empty((_CHUNK + _ROWS, sketches.shape[0] * PANEL), np.float32)
    values = np.empty((_CHUNK + _ROWS if projected else 0, projections.shape[0] * PANEL), np.float32)
    counts = np.empty((repetitions, blocks), np.int64)
    seen = np.empty((repetitions, blocks), np.int64)
    occupied = np.empty(repetitions, np.int64)
    first = np.empty((repetitions, blocks * width), np.float32)
    start = 0
    for point in range(ends.shape[0]):
        counts[:] = 0
        seen[:] = -1
        occupied[:] = 0
        for low in range(start, ends[point], _CHUNK):
            high = min(low + _CHUNK, ends[point])
            product(tokens, low, high, sketches, sketch)
            if projected:
                product(tokens, low, high, projections, values)
            for r in range(repetitions):
                for t in range(high - low):
                    block = _rank(_sign_code(sketch[t], r * bits, bits))
                    source = values[t, r * width : (r + 1) * width] if projected else tokens[low + t]
                    target = out[point, (r * blocks + block) * width : (r * blocks + block + 1) * width]
                    for j in range(width):
                        target[j] += source[j]
                    if average and counts[r, block] == 0:
                        seen[r, occupied[r]] = block
                        occupied[r] += 1
                        first[r, block * width : (block + 1) * width] = source
                    counts[r, block] += 1
        if average:
            for r in range(repetitions):
                target = out[point, r * blocks * width : (r + 1) * blocks * width]
                _finish_document(target, counts[r], seen[r], first[r], fill, bits, width)
        start = ends[point]


@njit
def add_signed(encodings, columns, signs, out):
    """Count sketch: out[i, columns[j]] += signs[j] * encodings[i, j], j ascending."""
    for i in range(encodings.shape[0]):
        for j in range(encodings.shape[1]):
            out[i, columns[j]] += signs[j] * encodings[i, j]
