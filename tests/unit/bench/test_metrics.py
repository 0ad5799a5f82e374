import numpy as np
import pytest
from bench import exact, made, metrics


def test_recall_counts_distinct_ids_of_the_first_k():
    truth = np.array([[1, 2, 3, 4]])
    assert metrics.recall([[1, 1, 9, 2]], truth, 2) == 0.5
    assert metrics.recall([[2, 1]], truth, 2) == 1


def test_speed_at_a_recall_lies_on_the_front():
    points = [(0.8, 100.0), (0.85, 40.0), (0.9, 50.0), (1.0, 12.5)]
    assert metrics.at_recall(points, 0.95) == pytest.approx(25)
    assert metrics.at_recall(points, 0.85) == pytest.approx(np.sqrt(5000)), "the slower setting of less recall is out"
    assert metrics.at_recall(points, 0.5) == 100, "the fastest setting when all exceed it"
    assert metrics.at_recall(points[:3], 0.95) is None


def test_ratios_name_the_fastest_engine_that_is_not_ours():
    engines = {
        "vicinal": {"qps_at": {"0.9": 90.0, "0.95": 80.0, "0.99": 10.0}},
        "hnswlib": {"qps_at": {"0.9": 10.0, "0.95": 10.0, "0.99": 5.0}},
        "other": {"qps_at": {"0.9": 30.0, "0.95": 40.0, "0.99": None}},
        "broken": {"failed": "why"},
    }
    ratios = metrics.ratios(engines, ["vicinal"])
    assert ratios["0.9"]["fastest_rival"] == "other"
    assert ratios["0.95"]["to_fastest_rival"] == {"vicinal": 2.0}
    assert ratios["0.99"] == {
        "to_hnswlib": {"vicinal": 2.0, "hnswlib": 1.0},
        "fastest_rival": "hnswlib",
        "to_fastest_rival": {"vicinal": 2.0},
    }


@pytest.mark.parametrize("metric", ["l2", "cosine", "dot"])
def test_exact_neighbours_equal_a_full_sort(metric):
    rng = np.random.default_rng(4)
    base, queries = rng.standard_normal((700, 9), np.float32), rng.standard_normal((130, 9), np.float32)
    found = exact.nearest(base, queries, metric, 20)
    for i, query in enumerate(queries):
        assert found[i].tolist() == np.argsort(exact.distances(base, query, metric), kind="stable")[:20].tolist()


def test_patches_are_128_whole_numbers_and_seeded():
    pixels = np.random.default_rng(1).integers(0, 256, (40, 784)).astype(np.uint8)
    first, again = made.patches(pixels, pixels[:10]), made.patches(pixels, pixels[:10])
    assert first.base.shape == (200, 128)
    assert first.base.dtype == np.uint8
    assert np.array_equal(first.base, again.base)
    assert not np.array_equal(first.base, made.patches(pixels, pixels[:10], seed=2).base)


def test_the_front_has_what_no_other_setting_beats():
    tried = [
        {"setting": (1, 1), "seconds": 1.0, "recall": 0.5},
        {"setting": (1, 2), "seconds": 2.0, "recall": 0.8},
        {"setting": (2, 1), "seconds": 2.1, "recall": 0.79},
        {"setting": (2, 2), "seconds": 3.0, "recall": 0.95},
        {"setting": (2, 3), "seconds": 4.0, "recall": 0.998},
        {"setting": (3, 3), "seconds": 5.0, "recall": 1.0},
    ]
    assert metrics.front(tried, (0.85, 0.997)) == [(1, 2), (2, 2), (2, 3)]
    assert metrics.front(tried[:1], (0.85, 0.997)) == [(1, 1)]
    assert metrics.front([], (0.85, 0.997)) == []
