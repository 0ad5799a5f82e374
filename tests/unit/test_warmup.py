from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys

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
def test_nothing_is_left_to_compile_after_all_of_it(tmp_path):
    """Count the files that numba writes, one per function and signature."""

    def run(*words: str) -> set[str]:
        environment = {**os.environ, "VICINAL_CACHE_DIR": str(tmp_path)}
        subprocess.run([sys.executable, *words], env=environment, check=True, timeout=1200)
        return {path.name for path in tmp_path.rglob("*.nbc")}

    before = run("-m", "vicinal.cli", "warmup", "--all")
    assert len(before) > 300
    assert run("-m", "tests.support.everyday") - before == set()


def test_a_second_process_that_finds_a_wrong_answer_or_dies_is_told(monkeypatch):
    monkeypatch.setattr("vicinal.kernels.warmup.warm", lambda _: {})
    monkeypatch.setattr(warmup, "_JOBS", ())
    monkeypatch.setattr(warmup, "_MORE_JOBS", ((warmup._BESIDE[0], lambda: None),))
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    for answers, error, words in (
        (['{"wrong": "a walk on float16"}\n'], KernelMismatch, "float16"),
        ([], RuntimeError, warmup._BESIDE[0]),
    ):
        monkeypatch.setattr(warmup, "_second", lambda _, given=answers: contextlib.nullcontext(given))
        with pytest.raises(error, match=words):
            warmup.warm(everything=True)


def test_parts_run_for_another_process_are_told_as_json(monkeypatch, capsys):
    def wrong() -> None:
        raise KernelMismatch("a walk")

    monkeypatch.setattr(warmup, "_JOBS", (("good", lambda: None), ("bad", wrong)))
    warmup.main(["good", "bad"])
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["good"] >= 0
    assert bad == {"wrong": "a walk"}


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
        warmup._coded(warmup._points(16, 16), Metric.L2)


def test_a_wrong_scorer_is_told(monkeypatch):
    def wrong(*_, **__):
        return np.array([41], np.uint32), np.ones(1, np.float32)

    monkeypatch.setattr(warmup, "rerank", wrong)
    with pytest.raises(KernelMismatch, match="MaxSim"):
        warmup._tokens()
