from __future__ import annotations

import numpy as np
import pytest

from vicinal import warmup
from vicinal.index.field_index import FieldIndex
from vicinal.types import Metric
from vicinal.warmup import KernelMismatch


def test_every_part_is_reported_in_order(monkeypatch):
    monkeypatch.setattr(warmup, "_JOBS", tuple((name, lambda: None) for name, _ in warmup._JOBS))
    said: list[str] = []
    seconds = warmup.warm(lambda name, _: said.append(name))
    assert said == list(seconds)
    assert said[-3:] == ["coded graphs", "cells", "token matrices"]


@pytest.mark.full
def test_all_of_it():
    assert min(warmup.warm(everything=True).values()) >= 0


def test_other_dtypes_and_metrics_only_when_asked(monkeypatch):
    ran: list[str] = []
    monkeypatch.setattr("vicinal.kernels.warmup.warm", lambda _: {})
    monkeypatch.setattr(warmup, "_JOBS", (("usual", lambda: ran.append("usual")),))
    monkeypatch.setattr(warmup, "_MORE_JOBS", (("more", lambda: ran.append("more")),))
    assert list(warmup.warm()) == ran == ["usual"]
    assert list(warmup.warm(everything=True)) == ["usual", "more"]


def test_a_walk_that_finds_the_wrong_rows_is_told(monkeypatch):
    def wrong(*_, **__):
        return np.arange(10, dtype=np.uint32), np.zeros(10, np.float32)

    monkeypatch.setattr("vicinal.index.searchers.search_graph", wrong)
    monkeypatch.setattr(warmup, "_ROWS", 200)  # searched on floats: no need to build a coded graph here
    monkeypatch.setattr(warmup, "FieldIndex", lambda *a, coded_from: FieldIndex(*a, coded_from=None))
    with pytest.raises(KernelMismatch, match="coded graph"):
        warmup._coded(16, 16, Metric.L2)


def test_a_wrong_scorer_is_told(monkeypatch):
    def wrong(*_, **__):
        return np.array([41], np.uint32), np.ones(1, np.float32)

    monkeypatch.setattr(warmup, "rerank", wrong)
    with pytest.raises(KernelMismatch, match="MaxSim"):
        warmup._tokens()
