"""Conditions over labels and keys, against sets of Python."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.errors import InvalidArgument
from vicinal.index.attributes import (
    AllOf,
    AnyOf,
    Between,
    Condition,
    Exactly,
    Keys,
    LabelSets,
    Marked,
    matching_bits,
    matching_mask,
)

SETS = [{1, 4}, set(), {4}, {1, 4, 9}, {9}] * 30
LABELS = LabelSets(
    np.array([c for s in SETS for c in sorted(s)], np.uint32), np.cumsum([len(s) for s in SETS], dtype=np.int64)
)


@pytest.mark.parametrize(
    ("condition", "matches"),
    [
        (AnyOf((4,)), lambda s: 4 in s),
        (AnyOf((1, 9)), lambda s: bool({1, 9} & s)),
        (AnyOf(()), lambda _: False),
        (AllOf((1, 4)), lambda s: s >= {1, 4}),
        (AllOf(()), lambda _: True),
        (Exactly((4, 1, 4)), lambda s: s == {1, 4}),
        (Exactly(()), lambda s: not s),
    ],
)
def test_label_conditions(condition: Condition, matches: object) -> None:
    LabelSets.check(LABELS, len(SETS))
    expected = [matches(s) for s in SETS]  # type: ignore[operator]
    assert matching_mask(LABELS, condition, len(SETS)).tolist() == expected
    bits = matching_bits(LABELS, condition, len(SETS))
    again = matching_mask(LABELS, Marked(bits), len(SETS))
    assert again.tolist() == expected


def test_ranges_include_both_ends() -> None:
    keys = Keys(np.array([3, 1, 2, 2, 5]))
    assert matching_mask(keys, Between(2, 3), 5).tolist() == [True, False, True, True, False]
    assert not matching_mask(keys, Between(4, 3), 5).any()
    with pytest.raises(InvalidArgument):
        matching_mask(keys, AnyOf((1,)), 5)
    with pytest.raises(InvalidArgument):
        matching_mask(LABELS, Between(1, 2), len(SETS))


@pytest.mark.parametrize(
    "labels",
    [
        LabelSets(np.array([1, 1], np.uint32), np.array([2], np.int64)),
        LabelSets(np.array([2, 1], np.uint32), np.array([2], np.int64)),
        LabelSets(np.array([1, 2], np.uint32), np.array([3], np.int64)),
        LabelSets(np.array([1, 2], np.uint32), np.array([1], np.int64)),
        LabelSets(np.array([1], np.int64), np.array([1], np.int64)),  # type: ignore[arg-type]
    ],
)
def test_broken_label_sets_are_refused(labels: LabelSets) -> None:
    with pytest.raises(InvalidArgument):
        LabelSets.check(labels, 1)
    LabelSets.check(LabelSets.of(np.array([7])), 1)
