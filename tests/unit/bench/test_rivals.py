"""Every rival that is installed builds, saves, opens in another process, and answers rightly, alone and in batches."""

import pytest
from bench import datasets
from bench.engine import Engine, EngineFailed
from bench.rivals import FOREIGN

pytestmark = [pytest.mark.full, pytest.mark.timeout(400)]

BATCHLESS = {"pyvsag", "zvec"}
UNSAVED = {"pynndescent"}
WRONG_DIMENSIONS = {("kannolo-rabitq", "sample-50"), ("svs-leanvec", "sample-50")}
LEAST_RECALL = {"svs-leanvec": 0.97, "ngt": 0.96, "pynndescent": 0.95}  # no floats kept; far clusters


def answers(engine, threads):
    """The most accurate setting's recall, which counts distinct ids; and that it can be timed."""
    points = engine.ask("scout", threads=threads)
    best = max(points, key=lambda point: point["recall"])
    seconds = engine.ask("round", threads=threads, settings=[best["setting"]])["seconds"]
    assert len(seconds) == 1
    assert seconds[0] > 0
    return best["recall"]


def built(engine, save):
    """How the engine built; the test is skipped where its package is not there."""
    try:
        return engine.ask("build", threads=2, save=save)
    except EngineFailed as reason:
        if "not installed" in str(reason):
            pytest.skip(f"{engine.name}: {reason}")
        raise


@pytest.mark.parametrize("dataset", ["sample-192", "sample-50"])
@pytest.mark.parametrize("name", FOREIGN)
def test_a_rival_answers_from_its_saved_index(name, dataset, tmp_path):
    datasets.prepare(dataset)
    least = LEAST_RECALL.get(name, 0.99)
    with Engine(name, dataset, 200, 10) as engine:
        if (name, dataset) in WRONG_DIMENSIONS:
            with pytest.raises(EngineFailed, match="dimensions"):
                built(engine, None)
            return
        assert built(engine, None if name in UNSAVED else str(tmp_path / "index"))["version"]
        assert answers(engine, 1) >= least
    if name not in UNSAVED:
        with Engine(name, dataset, 200, 10) as engine:
            engine.ask("open", folder=str(tmp_path / "index"))
            assert answers(engine, 1) >= least
            if name in BATCHLESS:
                with pytest.raises(EngineFailed, match="no batch call"):
                    answers(engine, 2)
            else:
                assert answers(engine, 2) >= least
