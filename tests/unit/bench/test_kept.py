import argparse
import fcntl

import pytest
from bench import figures, goals, kept, locks, metrics, run
from bench.commands import FIGURES, WHOLE
from bench.rounds import measured
from bench.suites import overhead


@pytest.fixture
def options(tmp_path, monkeypatch):
    monkeypatch.setattr(kept, "RUNS", tmp_path)
    return argparse.Namespace(suite="some", dataset="set", lock=[], hold=9.0, fresh=False, seconds=None, rounds=2)


def test_what_is_measured_is_not_measured_again(options):
    first = kept.Kept(options)
    assert first.get("part", lambda a: [a], 3) == [3]
    again = kept.Kept(options)
    assert again.get("part", lambda: pytest.fail("measured twice")) == [3]
    again.done()
    assert kept.Kept(options).parts == {}


def test_other_settings_other_code_or_fresh_begin_anew(options, monkeypatch):
    kept.Kept(options).put("part", 1)
    assert kept.Kept(argparse.Namespace(**{**vars(options), "rounds": 3})).parts == {}
    assert kept.Kept(argparse.Namespace(**{**vars(options), "fresh": True})).parts == {}
    assert kept.Kept(argparse.Namespace(**{**vars(options), "seconds": 5.0})).parts == {"part": 1}
    monkeypatch.setattr(metrics, "code", lambda: "other")
    assert kept.Kept(options).parts == {}


def test_it_stops_when_its_time_is_over_but_gives_what_it_has(options):
    options.seconds = -1.0
    over = kept.Kept(options)
    over.put("part", 1)
    assert over.get("part", lambda: 2) == 1
    with pytest.raises(kept.Unfinished, match="again"):
        over.get("other", lambda: 2)


def free(path, mode):
    """Whether another process would get the lock now."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, mode | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def test_a_timing_keeps_others_out_and_builds_let_each_other_in(tmp_path):
    queue, lock = tmp_path / "queue", tmp_path / "lock"

    with locks.undisturbed([queue, lock]):
        assert not free(lock, fcntl.LOCK_SH)
        assert free(queue, fcntl.LOCK_EX), "the next in the queue may wait already"
    with locks.busy([queue, lock]):
        assert free(lock, fcntl.LOCK_SH)
        assert not free(lock, fcntl.LOCK_EX)
    assert free(lock, fcntl.LOCK_EX)
    with locks.undisturbed([]):
        pass


def test_turns_hold_the_lock_for_a_while_and_let_others_in(tmp_path, monkeypatch):
    lock = tmp_path / "lock"
    let_in = []
    monkeypatch.setattr(locks, "sleep", lambda _: let_in.append(free(lock, fcntl.LOCK_EX)))
    with locks.Turns([lock], 100) as turns:
        for _ in range(2):
            turns.take()
            assert not free(lock, fcntl.LOCK_SH)
    assert free(lock, fcntl.LOCK_EX)
    assert let_in == []
    with locks.Turns([lock], 0) as turns:
        turns.take()
        turns.take()
    assert let_in == [True]


class FakeEngine:
    """Two settings; the first round's second engine breaks."""

    def __init__(self, name, asked):
        self.name, self.asked = name, asked

    def ask(self, do, **words):
        self.asked.append((self.name, do))
        if do == "scout":
            return [{"setting": 10, "recall": 0.9, "queries": 9}, {"setting": 20, "recall": 1.0, "queries": 5}]
        assert words["queries"] == [9, 5]
        return {"seconds": [1e-4, 2e-4] if self.name == "vicinal" else [2e-4, 4e-4]}

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def test_rounds_go_on_after_a_break_and_make_curves(options, monkeypatch):
    asked: list[tuple[str, str]] = []
    monkeypatch.setattr("bench.rounds.indexed", lambda *_: (None, {}))
    monkeypatch.setattr("bench.rounds.opened", lambda name, _: (FakeEngine(name, asked), {"build": {}}))
    vars(options).update(ours=["vicinal"], rivals=["hnswlib"], k=10, queries=5)
    part = kept.Kept(options)
    part.put("vicinal facts", {"build": {}})
    part.put("vicinal points", FakeEngine("vicinal", []).ask("scout"))
    part.put("round 0 of vicinal", [1e-4, 2e-4])
    answer = measured(options, threads=1)
    assert sorted(asked) == [("hnswlib", "round")] * 2 + [("hnswlib", "scout"), ("vicinal", "round")]
    ratio = answer["ratios"]["0.95"]
    assert ratio["to_hnswlib"]["vicinal"] == pytest.approx(2)
    assert ratio["to_fastest_rival"] == {"vicinal": pytest.approx(2)}
    assert ratio["to_fastest_rival_quartiles"]["vicinal"] == pytest.approx([2, 2])
    assert answer["seed"] >= 0
    assert answer["machine"]["code"] == metrics.code()
    assert kept.Kept(options).parts == {}, "forgotten once it is a result"


def test_every_figure_is_a_command_that_is_understood(monkeypatch):
    seen: list[argparse.Namespace] = []
    monkeypatch.setattr(run, "measure", seen.append)
    for command in (FIGURES | WHOLE).values():
        run.main(command.split())
    assert [f"{o.suite} {o.dataset}" for o in seen][:2] == [
        "recall_qps arxiv-minilm-384",
        "recall_qps fashion-mnist-784",
    ]
    assert all(o.rounds >= 7 for o in seen)
    assert figures.main(["--list"]) == 0


def test_figures_hand_options_on_and_stop_where_a_run_is_unfinished(monkeypatch, capsys):
    ran = []

    def unfinished(words):
        ran.append(words)
        return run.UNFINISHED if "batch" in words else 0

    monkeypatch.setattr(run, "main", unfinished)
    monkeypatch.setattr(figures, "_measured", lambda name, _: name.startswith("memory"))
    wanted = ["reach-copies", "memory-384", "batch-384", "start", "--lock", "a", "b", "--seconds", "5"]
    assert figures.main(wanted) == run.UNFINISHED
    assert [words[0] for words in ran] == ["reach", "batch"]
    assert all(words[-5:] == ["--lock", "a", "b", "--seconds", "5"] for words in ran)
    assert "memory-384: measured already" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        figures.main(["no-such-figure"])


def test_the_kernels_own_calls_are_repeated_one_a_query():
    class Graph:
        def __init__(self):
            self._walk = lambda a, b: a + b

    graph = Graph()
    kernel = graph._walk
    calls = overhead._recorded([graph], lambda query: graph._walk(query, 1), [1, 2])
    assert calls == [(kernel, (1, 1)), (kernel, (2, 1))]
    assert graph._walk is kernel
    with pytest.raises(RuntimeError, match="0 kernel calls for 1"):
        overhead._recorded([graph], lambda _: None, [1])


def test_a_result_of_fewer_engines_is_not_the_figure(monkeypatch):
    command = "memory --dataset arxiv-minilm-384 --ours vicinal --rivals hnswlib symqg"
    result = {"machine": metrics.machine(), "engines": {"vicinal": {}, "hnswlib": {}}}
    monkeypatch.setattr(figures, "result_of", lambda _: result)
    assert not figures._measured("memory-384", command)
    result["engines"]["symqg"] = {"failed": "why"}
    assert figures._measured("memory-384", command)
    result["machine"]["code"] = "other"
    assert not figures._measured("memory-384", command)


def test_goals_read_what_is_there_and_leave_out_what_is_not(monkeypatch):
    results = {
        "build-384": {
            "ratio_to_hnswlib": {"vicinal": {"threads_2": 0.08}},
            "engines": {"vicinal": {"threads_2": {"seconds": 1.5}}},
        },
        "overhead": {"engines": {"Index.knn_query": {"added_us": [1.0, 2.5, 3.0]}}},
        "growth": {"slope": {"vicinal": {"distances_per_doubling": 90}, "faiss-hnsw": {"distances_per_doubling": 100}}},
    }
    monkeypatch.setattr(goals, "result_of", results.get)
    told = {row[0]: row[2:4] for row in goals.goals().rows}
    assert told["graph build, 2 threads, 384-d"] == ("0.080 (1.50 s)", "yes")
    assert told["cells build, 2 threads, 384-d"] == ("-", "-")
    assert told["what Index.knn_query adds to the kernel"] == ("2.50 µs (1.00 to 3.00)", "no")
    assert told["distances per doubling of n, ours and HNSW's"] == ("90 and 100", "yes")
    assert told["import vicinal, beyond numpy"] == ("-", "-")
