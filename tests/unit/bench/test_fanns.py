"""The harness of filtered search on tiny data: predicates, truth, judging, scouting, rounds, regret."""

import argparse
import sys
import types

import numpy as np
import pytest
from bench import datasets, kept
from bench.datasets import Dataset
from bench.engine import EngineFailed
from bench.fanns import columns, truth, worker
from bench.fanns.cells import KINDS, Cell, grid
from bench.fanns.columns import Among, Both, Column, Either, Never, Table, Within, mask_of
from bench.fanns.engines import ENGINES, METHODS, OURS, RIVALS, engine_class
from bench.fanns.engines.methods import condition_of
from bench.fanns.engines.planned import text_of
from bench.fanns.tables import cells as cells_table
from bench.fanns.tables import summary
from bench.rivals.base import Unsupported
from bench.suites import fanns

import vicinal
from vicinal.errors import InvalidArgument
from vicinal.index.attributes import AllOf, AnyOf, Between, matching_mask

N, DIM, QUERIES = 300, 8, 25
WORDS = ("plain", "it's", 'a "b" \\ c, d', "ü")


@pytest.fixture(scope="module")
def table():
    rng = np.random.default_rng(3)
    lists = [sorted(rng.permutation(4)[: rng.integers(0, 4)].tolist()) for _ in range(N)]
    codes = np.array([code for one in lists for code in one], np.int32)
    held = {
        "draw": Column(rng.permutation(N).astype(np.int32)),
        "region": Column((np.arange(N) % 100).astype(np.int32)),
        "word": Column(rng.integers(0, 4, N).astype(np.int32), None, WORDS),
        "flag": Column(rng.integers(0, 2, N).astype(np.int32), None, (False, True)),
        "tags": Column(codes, np.cumsum([len(one) for one in lists]), WORDS),
    }
    return Table(N, held, {}, rng.permuted(np.tile(np.arange(100), (QUERIES, 1)), axis=1))


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    base, queries = (rng.standard_normal((n, DIM), np.float32) for n in (N, QUERIES))
    return Dataset("tiny", "l2", base, queries, np.zeros((QUERIES, 0), np.int64))


PREDICATES = (
    Among("word", (1,)),
    Among("word", (0, 2)),
    Among("flag", (1,)),
    Among("tags", (1,)),
    Among("tags", (0, 3)),
    Within("draw", 20, 60),
    Never(Among("tags", (2,))),
    Both((Among("word", (2,)), Never(Within("draw", 0, 99)))),
    Either((Among("tags", (3,)), Both((Among("flag", (0,)), Within("draw", 5, 200))))),
)


def test_a_predicate_says_the_same_as_a_mask_and_as_text(table):
    documents = [table.payload(i) for i in range(N)]
    collection = vicinal.Database(":memory:").create_collection("c", dim=2, metric="l2")
    collection.upsert(np.arange(N), np.ones((N, 2), np.float32), documents)
    for predicate in PREDICATES:
        mask = mask_of(predicate, table)
        assert 0 < mask.sum() < N
        points, _ = collection.scroll(text_of(predicate, table), limit=N)
        assert [point.id for point in points] == np.flatnonzero(mask).tolist(), predicate


def test_rows_taken_keep_their_values(table):
    rows = np.random.default_rng(1).permutation(N)
    for column in table.columns.values():
        taken = column.taken(rows)
        assert [taken.shown(i) for i in range(N)] == [column.shown(int(i)) for i in rows]


def test_the_grid_is_seeded_and_has_its_selectivities(table):
    first, again = grid(table, 20), grid(table, 20)
    assert first == again
    assert {cell.kind for cell in first} == {"R", "COR"}
    assert [cell.kind for cell in first] == sorted((c.kind for c in first), key=list(KINDS).index)
    by_name = {cell.name: cell for cell in first}
    half = by_name["random integer 0.5"]
    assert {int(mask_of(one, table).sum()) for one in half.predicates} == {150}
    assert len(set(half.predicates)) > 10, "no cache of bitmaps may answer"
    near = by_name["nearest 5 regions"].predicates[3]
    assert near == Among("region", tuple(sorted(table.near[3, :5].tolist())))
    assert by_name["all but the nearest 5"].predicates[3] == Never(near)


def brute(data, table, predicate, query, k):
    rows = np.flatnonzero(mask_of(predicate, table))
    far = ((data.base[rows].astype(np.float64) - query) ** 2).sum(axis=1)
    return rows[np.argsort(far, kind="stable")[:k]]


@pytest.fixture
def cells(table, data, tmp_path, monkeypatch):
    (tmp_path / "tiny").mkdir()
    monkeypatch.setattr(truth, "CACHE", tmp_path)
    return [*grid(table, QUERIES), Cell("none", "R", (Within("draw", N, N + 5),) * QUERIES)]


def test_truth_is_a_full_sort_and_is_kept(table, data, cells, monkeypatch):
    first = truth.exact_answers(data, table, cells, 10)
    monkeypatch.setattr(truth, "_made", lambda *_: pytest.fail("made twice"))
    told = truth.exact_answers(data, table, cells, 10)
    for cell in cells:
        assert np.array_equal(first[cell.name].rows, told[cell.name].rows)
        for i, predicate in enumerate(cell.predicates):
            best = brute(data, table, predicate, data.queries[i], 10)
            rows = told[cell.name].rows[i]
            assert rows[: len(best)].tolist() == best.tolist()
            assert (rows[len(best) :] == -1).all()
            assert told[cell.name].matches[i] == mask_of(predicate, table).sum()


def test_answers_are_judged(table, data, cells):
    told = truth.exact_answers(data, table, cells, 10)
    cell = next(cell for cell in cells if cell.name == "random integer 0.5")
    right = [row[row >= 0] for row in told[cell.name].rows]
    perfect = truth.judged(right, cell, told[cell.name], table)
    kept_keys = {"recall": 1.0, "below_08": 0.0, "at_0": 0.0, "full": 1.0, "false_positives": 0, "queries": QUERIES}
    assert perfect == kept_keys | {"selectivity": 0.5}
    outside = np.flatnonzero(~mask_of(cell.predicates[1], table))[:10]
    doubled = np.concatenate((right[2][:5], right[2][:5]))
    worse = truth.judged([right[0], outside, doubled, ()], cell, told[cell.name], table)
    assert worse["recall"] == pytest.approx((1 + 0 + 0.5 + 0) / 4)
    assert worse["full"] == 0.5, "ten different rows, though wrong ones, are ten"
    assert (worse["below_08"], worse["at_0"], worse["false_positives"]) == (0.75, 0.5, 10)
    none = next(cell for cell in cells if cell.name == "none")
    assert truth.judged([()], none, told["none"], table)["recall"] == 1.0
    assert truth.judged([[1]], none, told["none"], table)["recall"] == 0.0


class Graph:
    """A label method that scans."""

    nbytes = 5

    def __init__(self, rows, n, attribute):
        self.rows, self.n, self.attribute = rows, n, attribute

    @classmethod
    def build(cls, rows, n, metric, attribute):
        if attribute.codes.max() < 4:
            raise InvalidArgument(f"too few labels for {metric}")
        return cls(rows, n, attribute)

    def search(self, query, condition, k, ef):
        del ef
        rows = np.flatnonzero(matching_mask(self.attribute, condition, self.n))
        far = ((self.rows.vectors[rows] - query) ** 2).sum(axis=1)
        best = np.argsort(far)[:k]
        return rows[best].astype(np.uint32), far[best]


def test_a_method_is_built_per_attribute_within_its_time(make_worker, monkeypatch):
    monkeypatch.setitem(sys.modules, "vicinal.index.label_graph", types.SimpleNamespace(LabelGraph=Graph))
    one = make_worker("ung")
    assert one.build(1, None)["bytes"] == 0
    assert one.prepare(list(one.cells))["bytes"] == 5, "one attribute has labels here"
    assert list(one.engine.builds) == ["region"]
    told = one.judge("nearest 5 regions", 10, 5.0)
    assert (told["recall"], told["false_positives"]) == (1.0, 0)
    with pytest.raises(Unsupported, match="labels only"):
        one.scout("random integer 0.5", 1.0)
    for _ in range(2):
        with pytest.raises(Unsupported, match="cannot be built on word: too few labels for l2"):
            one.engine.phrase(Among("word", (1,)))
        monkeypatch.setattr(Graph, "build", lambda *_: pytest.fail("tried again"))
    one.engine.seconds["region"] = 1000.0
    with pytest.raises(Unsupported, match="is not built on tags: other attributes took 1000 s"):
        one.engine.phrase(Among("tags", (1,)))


def test_the_least_good_setting_is_bisected():
    for count in range(9):
        for border in range(count + 1):
            asked: list[int] = []
            found = worker.least(count, lambda at, b=border, a=asked: a.append(at) or at >= b)
            assert found == border
            assert len(asked) <= count.bit_length()


@pytest.fixture
def make_worker(table, data, cells, monkeypatch):
    monkeypatch.setattr(datasets, "load", lambda _: data)
    monkeypatch.setattr(columns, "load", lambda _: table)
    return lambda name: worker.Worker(name, "tiny", QUERIES, 10)


@pytest.mark.parametrize("name", ["numpy", "vicinal", "vicinal-collection", "vicinal-churned"])
def test_an_engine_is_built_scouted_timed_and_judged(name, make_worker):
    one = make_worker(name)
    assert one.build(1, None)["seconds"] > 0
    for cell in one.cells:
        told = one.scout(cell, 5.0)
        assert max(point["recall"] for point in told["points"]) == 1.0
        assert told["always"] == (None if name == "numpy" else "default")
        settings = [told["chosen"]]
        assert (told["chosen"] is None) == (name == "numpy")
        [timed] = one.round(cell, settings, 1.0)
        assert 0 < timed["p50"] <= timed["p99"]
        assert timed["seconds"] > 0
        judged = one.judge(cell, told["chosen"], 1.0)
        assert (judged["recall"], judged["full"], judged["false_positives"]) == (1.0, 1.0, 0)


@pytest.mark.parametrize(("lead", "asked"), [(None, 20), (1.0, 20), (1e-9, 8)])
def test_few_queries_are_asked_of_an_engine_far_behind(lead, asked, make_worker, monkeypatch):
    monkeypatch.setattr(worker, "WARMED", 0)
    one = make_worker("numpy")
    one.build(1, None)
    told = one.scout("random integer 0.5", 0.0, lead)
    assert told["verified"]["queries"] == min(asked, QUERIES)


def test_a_method_is_asked_what_its_paper_answers():
    assert condition_of(Within("a", 1, 2)) == ("a", Between(1, 2))
    assert condition_of(Among("a", (1, 2))) == ("a", AnyOf((1, 2)))
    assert condition_of(Both((Among("a", (1,)), Among("a", (2,))))) == ("a", AllOf((1, 2)))
    for more in (Never(Among("a", (1,))), Both((Among("a", (1,)), Within("b", 1, 2))), Either((Within("b", 1, 2),))):
        with pytest.raises(Unsupported, match="one clause"):
            condition_of(more)


class Fake:
    """Two settings; the second engine has none, the third breaks."""

    def __init__(self, name):
        self.name, self.asked = name, []

    def ask(self, do, **words):
        self.asked.append(do)
        if do == "prepare":
            return {"builds": {"word": 2.0}, "sizes": {"word": 7}, "bytes": 7}
        if self.name == "acorn-1":
            raise EngineFailed("does not")
        own = {"vicinal": ["ef", 16], "list": 24}.get(self.name)
        if do == "scout":
            self.lead = words["lead"]
            points = [{"setting": own, "seconds": 6e-3 if own is None else 1e-4, "recall": 0.97}]
            always = "default" if self.name == "vicinal" else None
            return {"points": points, "chosen": own, "always": always, "verified": self.verdict(0.96)}
        if do == "round":
            speed = {"vicinal": 1e-4, "list": 0.5e-4, "numpy": 4e-4}[self.name]
            return [{"seconds": speed * (1 + at), "p50": speed, "p99": speed} for at in range(len(words["settings"]))]
        return self.verdict(0.97)

    def verdict(self, recall):
        good = {"recall": recall, "below_08": 0.0, "at_0": 0.0, "full": 1.0, "false_positives": 0}
        return {**good, "queries": 9, "selectivity": 0.5}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "RUNS", tmp_path)
    words = {"suite": "fanns", "dataset": "tiny", "lock": [], "hold": 9.0, "fresh": False, "seconds": None}
    return argparse.Namespace(
        **words,
        threads=2,
        rounds=5,
        queries=QUERIES,
        k=10,
        cells=["NOT", "ours"],
        engines=["vicinal", "list", "acorn-1", "numpy", "ung"],
    )


@pytest.fixture
def fakes(table, data, monkeypatch):
    """Engines as they are started, of a grid of three cells; one is not there."""
    made = [Cell("ours", "R", ()), Cell("second", "NOT", ()), Cell("other", "EM", ())]
    monkeypatch.setattr(datasets, "prepare", lambda _: data)
    monkeypatch.setattr(columns, "load", lambda _: table)
    monkeypatch.setattr(fanns, "grid", lambda *_: made)
    monkeypatch.setattr(fanns, "exact_answers", lambda *_: {})
    started: dict[str, Fake] = {}

    def ready(name, _):
        if name == "ung":
            raise EngineFailed("is not there")
        started[name] = Fake(name)
        return started[name], {"seconds": 1.0, "threads": 2, "bytes": None}

    monkeypatch.setattr(fanns, "_ready", ready)
    monkeypatch.setattr(fanns, "_at_ease", lambda name, _: name != "list")
    return started


def test_a_run_goes_on_and_makes_regret(options, fakes):
    options.seconds = -1.0
    with pytest.raises(kept.Unfinished):
        fanns.run(options)
    options.seconds = None
    kept.Kept(options).put("second", {"numpy": {"points": [], "chosen": None}})
    with pytest.raises(kept.Unfinished, match="--cells EM"):
        fanns.run(options)
    assert {"ours", "second"} <= kept.Kept(options).parts.keys(), "by name or by kind"
    known = kept.Kept(options)
    known.put("list facts", {"builds": {"tags": 3.0}, "sizes": {"tags": 30}, "bytes": 30})
    options.cells = ["other"]
    answer = fanns.run(options)
    assert list(answer["cells"]) == ["ours", "second", "other"]
    assert fakes["numpy"].asked.count("scout") == 1, "the cell that was there is not measured again"
    engines = answer["cells"]["ours"]["engines"]
    assert engines["acorn-1"] == {"failed": "does not"}
    assert engines["vicinal"]["fastest"]["qps"] == pytest.approx(1e4)
    assert engines["vicinal"]["default"]["qps"] == pytest.approx(5e3)
    assert engines["numpy"]["fastest"]["setting"] is None
    assert "default" not in engines["numpy"]
    assert engines["vicinal"]["fastest"]["recall"] == 0.96, "as it was verified when it was scouted"
    assert engines["vicinal"]["default"]["recall"] == 0.97
    assert (fakes["vicinal"].lead, fakes["numpy"].lead) == (None, 1e-4)
    rounds = [fakes[name].asked.count("round") for name in ("vicinal", "list", "numpy")]
    assert rounds == [5, 5, 3], "numpy is more than 50 times slower"
    assert answer["engines"]["ung"] == {"failed": "is not there"}
    facts = answer["engines"]["list"]
    assert (facts["bytes"], facts["builds"]) == (37, {"tags": 3.0, "word": 2.0}), "of both runs"
    told = answer["regret"]["cells"]["ours"]
    assert (told["method"], told["rival"]) == ("list", "numpy")
    assert (told["regret_fastest"], told["regret_default"]) == (2.0, 4.0)
    assert told["kernel_to_rival_fastest"] == 4.0
    assert kept.Kept(options).parts == {}
    rows = cells_table(answer)
    assert all(len(row) == len(rows.head) for row in rows.rows)
    assert "ung: left out, is not there" in rows.notes
    assert summary([answer]).rows[0][1] == "2.00 / 2.00 / 2.00"


def test_every_engine_has_one_place():
    assert len(ENGINES) == len(OURS) + len(METHODS) + len(RIVALS)
    for name in (*OURS, *METHODS, "numpy", "hnswlib", "zvec", "qdrant-edge", "pgvector"):  # no package is imported
        assert engine_class(name).lines
