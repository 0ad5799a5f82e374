"""Labels to slots against a dict."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vicinal.flat import labels as module
from vicinal.flat.labels import MISSING, LabelMap

LABELS = st.one_of(st.integers(0, 30), st.sampled_from([2**63, 2**64 - 1]))
STEPS = st.lists(st.tuples(st.sampled_from(["put", "drop"]), st.lists(LABELS, unique=True, max_size=8)), max_size=30)


@pytest.mark.parametrize("recent_min", [0, 3, 1024])
@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_it_agrees_with_a_dict(recent_min, steps):
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(module, "_RECENT_MIN", recent_min)
        names, slot = LabelMap(), 0
        truth: dict[int, int] = {}
        for kind, labels in steps:
            if kind == "drop":
                labels = [label for label in labels if label in truth]  # noqa: PLW2901
                names.drop(np.array(labels, np.uint64))
                for label in labels:
                    del truth[label]
            else:
                if len(labels) == 1 and labels[0] not in truth:
                    names.put_new(labels[0], slot)
                else:
                    names.put(np.array(labels, np.uint64), np.arange(slot, slot + len(labels)))
                truth |= dict(zip(labels, range(slot, slot + len(labels)), strict=True))
                slot += len(labels)
            asked = [*range(32), 2**63, 2**64 - 1]
            expected = [truth.get(label, MISSING) for label in asked]
            assert names.find(np.array(asked, np.uint64)).tolist() == expected
            assert [names.get(label) for label in asked] == expected
            assert len(names) == len(truth)


def test_numbers_in_order_cost_nothing():
    names = LabelMap()
    for first in range(0, 100_000, 1000):
        names.put(np.arange(first, first + 1000, dtype=np.uint64), np.arange(first, first + 1000))
    assert names.nbytes == 0
    assert names.get(99_999) == 99_999
    names.put(np.array([5], np.uint64), np.array([100_000]))
    assert (names.get(5), names.get(6), len(names)) == (100_000, 6, 100_000)
    assert names.nbytes < 1000


def test_other_labels_cost_twelve_bytes():
    names = LabelMap()
    names.put(np.arange(20_000, dtype=np.uint64) * 7919 + 3, np.arange(20_000))
    assert names.nbytes == 12 * 20_000
