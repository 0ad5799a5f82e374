import json

from bench import report, results, tables


def test_every_committed_result_makes_its_table():
    suites = {suite: make for suite, _, make in report.SECTIONS}
    for place in results.RESULTS.glob("*.json"):
        answer = json.loads(place.read_text())
        table = suites[answer["suite"]](answer)
        assert table.rows, place.name
        assert all(len(row) == len(table.head) for row in table.rows), place.name


def test_the_summary_reads_the_ratios():
    facts = {"to_hnswlib": {"vicinal": 6.04}, "to_fastest_rival": {"vicinal": 2.126}, "fastest_rival": "other"}
    answer = {
        "dataset": "some",
        "ratios": dict.fromkeys(tables.COLUMNS, facts),
        "engines": {"vicinal": {"points": [], "qps_at": dict.fromkeys(tables.COLUMNS, 81234.5)}},
    }
    assert tables.summary([answer]).rows == [("some", *["81,234 (6.0 x hnswlib, 2.13 x other)"] * 3)]
