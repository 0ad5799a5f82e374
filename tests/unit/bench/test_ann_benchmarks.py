"""The ann-benchmarks adapter against the shape of that project's BaseANN, and its configuration."""

import importlib.util
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parents[3] / "bench" / "ann_benchmarks"


class BaseANN:
    """What ann_benchmarks/algorithms/base/module.py asks of an algorithm, methods with its signatures."""

    def done(self):
        pass

    def fit(self, X):
        raise NotImplementedError

    def query(self, q, n):
        raise NotImplementedError

    def batch_query(self, X, n):
        raise NotImplementedError

    def get_batch_results(self):
        raise NotImplementedError


@pytest.fixture
def module(monkeypatch):
    """The adapter imported from where ann-benchmarks would have it."""
    packages = ("ann_benchmarks", "ann_benchmarks.algorithms", "ann_benchmarks.algorithms.base")
    for name in packages:
        package = types.ModuleType(name)
        package.__path__ = []
        monkeypatch.setitem(sys.modules, name, package)
    base = types.ModuleType("ann_benchmarks.algorithms.base.module")
    vars(base)["BaseANN"] = BaseANN
    monkeypatch.setitem(sys.modules, base.__name__, base)
    name = "ann_benchmarks.algorithms.vicinal"
    path = FOLDER / "__init__.py"
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=[str(FOLDER)])
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, package)
    spec.loader.exec_module(package)
    found = importlib.import_module(f"{name}.module")
    monkeypatch.setitem(sys.modules, f"{name}.module", found)
    return found


@pytest.mark.parametrize("metric", ["euclidean", "angular"])
def test_it_answers_as_the_project_calls_it(module, metric):
    rng = np.random.default_rng(3)
    base, queries = rng.standard_normal((1500, 24)), rng.standard_normal((20, 24))  # the project hands over float64 too
    algorithm = module.Vicinal(metric)
    assert BaseANN in type(algorithm).__mro__
    algorithm.fit(base)
    algorithm.set_query_arguments(200)
    assert str(algorithm) == "vicinal(ef=200)"
    known = base / np.linalg.norm(base, axis=1, keepdims=True) if metric == "angular" else base
    asked = queries / np.linalg.norm(queries, axis=1, keepdims=True) if metric == "angular" else queries
    nearest = np.argsort(((known[None] - asked[:, None]) ** 2).sum(axis=2), axis=1)[:, :10]
    alone = [list(algorithm.query(q, 10)) for q in queries]
    share = np.mean([len(set(a) & set(b)) for a, b in zip(alone, nearest.tolist(), strict=True)]) / 10
    assert share > 0.98
    algorithm.batch_query(queries, 10)
    assert [list(row) for row in algorithm.get_batch_results()] == alone
    algorithm.done()


def test_the_configuration_names_what_the_module_has(module):
    """Its few words are read with patterns: no YAML reader is needed for them."""
    words = (FOLDER / "config.yml").read_text()
    constructors = re.findall(r"constructor: (\w+)", words)
    assert constructors == ["Vicinal"]
    assert hasattr(module, "Vicinal")
    assert re.search(r"module: ann_benchmarks\.algorithms\.vicinal\b", words)
    assert re.search(r"docker_tag: ann-benchmarks-vicinal\b", words)
    assert re.search(r"base_args: \['@metric'\]", words)
    efs = [int(ef) for group in re.findall(r"query_args: \[\[([\d, ]+)\]\]", words) for ef in group.split(",")]
    assert efs == sorted(set(efs))
    assert efs[0] >= 10
    assert "FROM ann-benchmarks" in (FOLDER / "Dockerfile").read_text()
