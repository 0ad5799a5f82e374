"""What results of filtered search are read as: regret, and what was asked of each figure."""

from typing import Any

import pytest
from bench import results
from bench.fanns import charts
from bench.fanns.goals import asked
from bench.fanns.regret import regrets


def point(qps, recall=0.97):
    return {"fastest": {"qps": qps, "recall": recall}, "default": {"qps": qps / 2, "recall": recall}}


def test_each_kind_of_filter_has_its_chart(tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    told: dict[str, Any] = {
        "points": [{"setting": 1, "seconds": 1e-4, "recall": 0.9}, {"setting": 2, "seconds": 2e-4, "recall": 0.97}]
    }
    told |= point(5e3)
    told["fastest"]["selectivity"] = 0.5
    engines = {"vicinal": told, "list": told, "numpy": {"failed": "why"}, "hnswlib": told}
    measured = {name: {"kind": kind, "engines": engines} for name, kind in (("a", "R"), ("b", "R"), ("c", "NOT"))}
    facts = {"suite": "fanns", "dataset": "tiny", "k": 10, "machine": {"family_model": "some"}}
    charts.draw({**facts, "cells": measured})
    assert {place.name for place in tmp_path.iterdir()} == {"fanns-tiny.R.png", "fanns-tiny.NOT.png"}


def test_regret_leaves_out_what_misses_the_recall():
    cells = {
        "a": {"engines": {"vicinal": point(100), "list": point(150), "cells": point(900, 0.94), "numpy": point(20)}},
        "b": {"engines": {"vicinal": point(100, 0.94), "sweep": point(150), "numpy": point(20)}},
        "c": {"engines": {"vicinal": point(100), "sweep": point(80)}},
    }
    told = regrets(cells)
    assert told["cells"]["a"]["regret_fastest"] == 1.5
    assert "regret_fastest" not in told["cells"]["b"]
    assert told["cells"]["c"]["regret_fastest"] == 0.8
    assert told["summary"]["fastest"] == pytest.approx({"cells": 2, "median": 1.15, "p90": 1.43, "max": 1.5})


def told(qps, recall=0.97, **more):
    good = {"recall": recall, "below_08": 0.0, "at_0": 0.0, "full": 1.0, "false_positives": 0}
    return {**good, "qps": qps, **more}


def test_what_was_asked_is_read_from_a_result():
    one = {"vicinal": {"default": told(4e4, below_08=0.003)}, "serf": {"fastest": told(5e4)}}
    two = {
        "vicinal": {"default": told(8e3, 0.96, full=0.5), "fastest": told(9e3)},
        "vicinal-collection": {"default": told(6e3, false_positives=2)},
        "acorn-1": {"fastest": told(3e3), "default": told(1e6, 0.5)},
        "numpy": {"fastest": told(1e3)},
    }
    cells = {"one": {"kind": "R", "engines": one}, "two": {"kind": "EM", "engines": two}}
    built = {"acorn-1": {"builds": {"any": 2.0}, "sizes": {"any": 100}}}
    built["serf"] = {"builds": {"draw": 30.0, "word": 4.0}, "sizes": {"draw": 120, "word": 20}}
    answer = {"cells": cells, "regret": regrets(cells), "recall": 0.95, "engines": built}
    read = {goal.what: goal.read(answer) for goal in asked()}
    assert read["answers in full, worst cell"] == (0.5, "0.5 (two, vicinal)")
    assert read["false positives"][0] == 2
    assert read["recall@10 by default, worst cell"][0] == 0.96
    assert read["queries below .8, worst cell"] == (0.003, "0.003 (one, vicinal)")
    assert read["kernel to the best rival, worst cell"] == (9.0, "9.00 (two)")
    assert read["Collection to the best rival, worst cell"][0] == 6.0
    assert read["planner to ACORN on EM and EMIS, worst cell"] == (3.0, "3.00 (two)")
    assert read["planner to SeRF and segment tree on R, worst cell"] == (0.8, "0.80 (one)")
    assert read["regret of the planner, worst cell"][0] == pytest.approx(0.333)
    assert read["building any one overlay to the base graph"] == (15.0, "15.0 (serf on draw)")
    assert read["bytes of any one overlay to the base graph"] == (1.2, "1.2 (serf on draw)")
