from __future__ import annotations

import numpy as np
import pytest

from vicinal.kernels.insert import LEVEL_MAX, draw_levels


def _levels(n: int, M: int, seed: int = 42, start: int = 0) -> np.ndarray:
    out = np.empty(n - start, np.uint8)
    draw_levels(start, n, M, seed, out)
    return out


@pytest.mark.parametrize("M", [2, 5, 16, 64])
def test_each_level_holds_one_in_m_of_the_level_below(M):
    levels = _levels(400_000, M)
    for level in range(1, 4):
        below, here = (levels >= level - 1).sum(), (levels >= level).sum()
        if here > 200:
            assert here / below == pytest.approx(1 / M, rel=0.2)
    assert levels.max() <= LEVEL_MAX


def test_a_level_depends_on_slot_and_seed_alone():
    whole = _levels(1000, 16)
    assert (whole[300:] == _levels(1000, 16, start=300)).all()
    assert (whole != _levels(1000, 16, seed=43)).any()
