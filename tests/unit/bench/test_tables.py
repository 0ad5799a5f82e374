import json

from bench import report, results, tables


def test_every_committed_result_makes_its_table():
    suites = {suite: make for suite, _, make in report.SECTIONS}
    for place in results.RESULTS.glob("*.json"):
        answer = json.loads(place.read_text())
        table = suites[answer["suite"]](answer)
        assert table.rows, place.name
        assert all(len(row) == len(table.head) for row in table.rows), place.name


def test_a_build_on_two_threads_alone_has_a_row():
    engines = {
        "slow": {"threads_2": {"seconds": 9.0}, "threads_1": {"seconds": 17.0}},
        "fast": {"threads_2": {"seconds": 1.5}},
        "broken": {"failed": "why"},
    }
    table = tables.build({"engines": engines, "ratio_to_hnswlib": {"fast": {"threads_2": 0.16667}}})
    assert table.rows == [("fast", "1.50", "0.167", "-", "-"), ("slow", "9.00", "-", "17.00", "-")]
    assert table.notes == ["broken: left out, why"]


def test_the_summary_reads_the_ratios():
    facts = {"to_hnswlib": {"vicinal": 6.04}, "to_fastest_rival": {"vicinal": 2.126}, "fastest_rival": "other"}
    answer = {
        "dataset": "some",
        "ratios": dict.fromkeys(tables.COLUMNS, facts),
        "engines": {"vicinal": {"points": [], "qps_at": dict.fromkeys(tables.COLUMNS, 81234.5)}},
    }
    assert tables.summary([answer]).rows == [("some", *["81,234 (6.0 x hnswlib, 2.13 x other)"] * 3)]


def test_what_the_api_adds_and_what_additions_cost_are_read_in_the_middle():
    added = {"kernel_us": [8.0, 9.0, 10.0], "api_us": [9.5, 10.5, 12.0], "added_us": [1.1, 1.5, 1.9]}
    table = tables.overhead({"ef": 32, "engines": {"Index.knn_query": added}})
    assert table.rows == [("vicinal Index.knn_query", "9.00", "10.50", "1.50", "1.10 to 1.90")]
    cost = {"one_us": [200.0, 240.0, 260.0], "batch_us": [100.0, 120.0, 130.0], "recall_after_at_ef_200": 0.98765}
    table = tables.insert({"built": 92000, "engines": {"hnswlib": cost}})
    assert table.rows == [("hnswlib", "240", "120", "0.9877")]
    assert "92,000" in table.notes[0]
