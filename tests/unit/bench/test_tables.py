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
