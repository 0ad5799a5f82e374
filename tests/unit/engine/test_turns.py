"""How the rows of a batch are shared out among threads."""

from __future__ import annotations

import pytest

from vicinal.searching import _ROWS_PER_TURN, _turns


@pytest.mark.parametrize("rows", [0, 1, 15, 16, 17, 333, 5000])
@pytest.mark.parametrize("threads", [1, 2, 7])
def test_turns_are_all_rows_once_in_order(rows, threads):
    turns = _turns(rows, threads)
    assert [row for first, last in turns for row in range(first, last)] == list(range(rows))
    assert all(last > first for first, last in turns)


def test_one_thread_takes_all_at_once_and_two_end_with_little():
    assert _turns(5000, 1) == [(0, 5000)]
    sizes = [last - first for first, last in _turns(5000, 2)]
    assert sizes[0] == 625
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[-2] == _ROWS_PER_TURN
    assert len(sizes) < 60
