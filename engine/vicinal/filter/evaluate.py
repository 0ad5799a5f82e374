"""Which slots satisfy a filter: the tree in normal form, as operations on words of bits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from vicinal.bits import all_bits, bits_from_slots, clear_beyond, no_bits
from vicinal.filter.columns import Columns
from vicinal.filter.model import Condition, Filter, HasId, KeyCondition
from vicinal.filter.normal import Leaf, Node, Several, normalise
from vicinal.filter.probes import is_complement, probes
from vicinal.types import Bits, PointId

__all__ = ["SlotsOf", "evaluate", "evaluate_from"]

SlotsOf = Callable[[Sequence[PointId]], NDArray[np.uint32]]


def evaluate(tree: Filter, columns: Columns, slots_of: SlotsOf, n: int) -> Bits:
    """The slots below n that satisfy the filter: word_count(n) words, bits of slots >= n clear.

    `slots_of` gives the slots of ids, leaving out those unknown to the reader; n is at most `columns.n`.
    Whether a slot is alive is not asked here.
    """
    return evaluate_from(normalise(tree), columns, slots_of, 0, n)


def evaluate_from(node: Node, columns: Columns, slots_of: SlotsOf, start: int, n: int) -> Bits:
    """As `evaluate`, for the slots of [start, n) only: bit 0 is slot `start`, a multiple of 64."""
    assert n <= columns.n, f"a reader of {n} slots, but the columns hold {columns.n}"
    return _Evaluation(columns, slots_of, start, n).of(node)


class _Evaluation:
    def __init__(self, columns: Columns, slots_of: SlotsOf, start: int, n: int) -> None:
        self._columns = columns
        self._slots_of = slots_of
        self._start = start
        self._n = n

    def of(self, node: Node) -> Bits:
        """The slots that satisfy the node, in an array of the caller's own."""
        if isinstance(node, Leaf):
            bits = self._condition(node.condition)
            negated = node.negated != is_complement(node.condition)
            return self._complement(bits) if negated else bits
        if node.kind == "and":
            return self._all(node)
        if node.kind == "or":
            return self._any(node)
        return self._at_least(node)

    def _complement(self, bits: Bits) -> Bits:
        np.invert(bits, out=bits)
        return clear_beyond(bits, self._n - self._start)

    def _condition(self, condition: Condition) -> Bits:
        size = self._n - self._start
        if isinstance(condition, HasId):
            slots = self._slots_of(condition.ids)
            inside = slots[(slots >= self._start) & (slots < self._n)]
            return bits_from_slots(inside - np.uint32(self._start), size)
        assert isinstance(condition, KeyCondition)
        found = [p.values.bits(p.question, self._start, self._n) for p in probes(condition, self._columns)]
        if not found:
            return no_bits(size)
        for more in found[1:]:
            found[0] |= more
        return found[0]

    def _all(self, node: Several) -> Bits:
        if not node.nodes:
            return all_bits(self._n - self._start)
        bits = self.of(node.nodes[0])
        for part in node.nodes[1:]:
            if not bits.any():
                break
            bits &= self.of(part)
        return bits

    def _any(self, node: Several) -> Bits:
        bits = no_bits(self._n - self._start)
        for part in node.nodes:
            bits |= self.of(part)
        return bits

    def _at_least(self, node: Several) -> Bits:
        """Slots in at least `count` of the parts: `reached[i]` are those in at least i + 1 so far."""
        reached = [no_bits(self._n - self._start) for _ in range(node.count)]
        for part in node.nodes:
            bits = self.of(part)
            for level in range(node.count - 1, 0, -1):
                reached[level] |= reached[level - 1] & bits
            reached[0] |= bits
        return reached[-1]
