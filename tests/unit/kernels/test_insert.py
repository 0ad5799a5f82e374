from __future__ import annotations

import numpy as np
import pytest

from vicinal.kernels.insert import EPOCH, LEVEL_MAX, STATE, draw_levels, next_epoch


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


def test_epochs_of_the_builder_never_repeat_without_a_wipe():
    state, visited = np.zeros(STATE, np.int64), np.zeros(50, np.uint8)
    for _ in range(600):
        epoch = next_epoch(state.ctypes.data, visited.ctypes.data, 50)
        assert 1 <= epoch <= 255
        assert state[EPOCH] == epoch
        assert (visited < epoch).all()
        visited[7] = epoch
