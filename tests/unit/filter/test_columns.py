import threading
from typing import Any

import numpy as np
import orjson
import pytest
from tests.support.filter_oracle import bits_to_list

from vicinal.errors import InvalidPayload
from vicinal.filter import cardinality, count_bits
from vicinal.filter import columns as columns_module
from vicinal.filter import values as values_module
from vicinal.filter.columns import Columns, Kind
from vicinal.filter.evaluate import evaluate
from vicinal.filter.parse import parse_filter


def _of(*payloads):
    columns = Columns()
    columns.extend([None if p is None else orjson.dumps(p) for p in payloads])
    return columns


def _no_ids(ids):
    return np.zeros(0, np.uint32)


def _slots(columns, text, n=None):
    n = columns.n if n is None else n
    tree = parse_filter(text)
    assert tree is not None
    return [i for i, hit in enumerate(bits_to_list(evaluate(tree, columns, _no_ids, n), n)) if hit]


def test_nothing_is_declared():
    columns = _of({"a": 1, "b": {"c": ["x", {"d": None}]}}, None, {"x.y": True, "": 1.5})
    assert columns.n == 3
    assert columns.keys() == ['""', '"x.y"', "a", "b", "b.c", "b.c[]", "b.c[].d"]
    assert columns.memory_bytes > 0
    assert _slots(columns, "missing = 1") == []
    assert _slots(columns, "missing is empty") == [0, 1, 2]


def test_integers_keep_all_64_bits():
    numbers = [1 << 53, (1 << 53) + 1, (1 << 63) - 1, 1 << 63, (1 << 64) - 1, -(1 << 63), 0]
    columns = _of(*({"a": v} for v in numbers))
    for slot, value in enumerate(numbers):
        assert _slots(columns, f"a = {value}") == [slot]
        assert _slots(columns, f"a >= {value}") == [i for i, v in enumerate(numbers) if v >= value]
        assert _slots(columns, f"a < {value}") == [i for i, v in enumerate(numbers) if v < value]
    assert _slots(columns, "a = 9007199254740992.0") == [0]
    assert _slots(columns, "a > 9007199254740992.5") == [1, 2, 3, 4]
    assert _slots(columns, "a <= 1e300") == list(range(7))


def test_bounds_between_two_floats_are_exact():
    columns = _of({"a": 2.0**53}, {"a": 2.0**53 + 4}, {"a": -(2.0**53)}, {"a": 2.0**64})
    assert _slots(columns, f"a >= {(1 << 53) + 1}") == [1, 3]
    assert _slots(columns, f"a > {1 << 53}") == [1, 3]
    assert _slots(columns, f"a <= {(1 << 53) + 3}") == [0, 2]
    assert _slots(columns, f"a < {(1 << 53) + 3}") == [0, 2]
    assert _slots(columns, f"a < {-(1 << 53)}") == []
    assert _slots(columns, f"a > {(1 << 64) - 1}") == [3]
    assert _slots(columns, f"a = {(1 << 53) + 1}") == []


def test_numbers_compare_by_value_and_booleans_are_none():
    columns = _of({"a": 1}, {"a": 1.0}, {"a": True}, {"a": "1"}, {"a": 1.5}, {"a": False}, {"a": -0.0})
    assert _slots(columns, "a = 1") == [0, 1]
    assert _slots(columns, "a = 1.0") == [0, 1]
    assert _slots(columns, "a = true") == [2]
    assert _slots(columns, "a = '1'") == [3]
    assert _slots(columns, "a = 0") == [6]
    assert _slots(columns, "a >= 0") == [0, 1, 4, 6]


@pytest.mark.parametrize("step", [100, 40_000, 3_000_000_000, 1 << 62])
def test_columns_widen_without_losing_values(step):
    numbers = [0, 1, 100, -100, 100 + step // 100, step, -step]
    columns = Columns()
    for v in numbers:
        columns.extend([orjson.dumps({"a": v, "l": [v, 7]})])
    for key in ("a", "l"):
        for v in numbers:
            assert _slots(columns, f"{key} = {v}") == [i for i, w in enumerate(numbers) if v == w]


def test_long_strings_and_a_full_dictionary(monkeypatch):
    monkeypatch.setattr(columns_module, "_CODES_MAX", 3)
    texts = ["a", "b" * 64, "b" * 65, "b" * 66, "c", "d", "e", "a", "d", "2020-01-01", "2021-01-01"]
    columns = _of(*({"t": t, "l": [t, "a"]} for t in texts))
    for text in set(texts):
        assert _slots(columns, f"t = '{text}'") == [i for i, t in enumerate(texts) if t == text]
    assert _slots(columns, "t in ('d', 'a', 'zz')") == [0, 5, 7, 8]
    assert _slots(columns, "t = 'bb'") == []
    assert _slots(columns, "t >= '2020-06-01'") == [10]
    assert _slots(columns, "l < '2020-06-01'") == [9]
    column = columns.column(("t",))
    assert column is not None
    assert len(column.codes) == 3
    assert Kind.HASH in column.kinds


def test_dates_of_the_dictionary_and_beyond_are_instants():
    columns = _of({"d": "2020-01-01T00:00:00Z"}, {"d": "2020-01-01T01:00:00+01:00"}, {"d": "soon"}, {"d": 5})
    assert _slots(columns, "d between '2020-01-01' and '2020-01-01'") == [0, 1]
    assert _slots(columns, "d = '2020-01-01T00:00:00Z'") == [0]
    assert _slots(columns, "d > '1969-01-01'") == [0, 1]
    assert _slots(columns, "d > 0") == [3]


def test_rare_and_common_keys_change_layout():
    columns = Columns()
    rows = [
        {"common": i % 5} | ({"rare": i} if i % 50 == 0 else {}) | ({"late": 1} if i > 300 else {}) for i in range(600)
    ]
    for i in range(0, 600, 7):
        columns.extend([orjson.dumps(r) for r in rows[i : i + 7]])
    columns.extend([orjson.dumps({"early": 1})] + [b"{}"] * 200 + [orjson.dumps({"common": 3})])
    assert _slots(columns, "rare = 150") == [150]
    assert _slots(columns, "rare is not empty") == list(range(0, 600, 50))
    assert _slots(columns, "common = 3") == [*range(3, 600, 5), 801]
    assert _slots(columns, "late = 1") == list(range(301, 600))
    column = columns.column(("rare",))
    assert column is not None
    assert column.kinds[Kind.INT].picture.stop == 0  # all pairs: one slot in 50
    column = columns.column(("common",))
    assert column is not None
    assert column.kinds[Kind.INT].picture.stop == 802


def test_a_dense_column_that_becomes_rare_turns_sparse_and_back():
    columns = Columns()
    columns.extend([orjson.dumps({"a": [i, -i]}) for i in range(1, 65)])
    column = columns.column(("a", None))
    assert column is not None
    ints = column.kinds[Kind.INT]
    assert ints.picture.stop == 64
    columns.extend([b"{}"] * 2_000 + [orjson.dumps({"a": [3, 4]})])
    assert ints.picture.stop == 0
    assert _slots(columns, "a = 3") == [2, 2064]
    columns.extend([orjson.dumps({"a": [3]})] * 2_000)
    assert ints.picture.stop == columns.n
    assert _slots(columns, "a = 3") == [2, *range(2064, 4065)]
    assert _slots(columns, "a = -3") == [2]


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b"null", b"1", b'"x"', b"\xff", b'{"a": NaN}'])
def test_a_bad_payload_is_refused_and_nothing_of_its_group_is_taken(bad):
    columns = Columns()
    columns.extend([b'{"a": 1}'])
    with pytest.raises(InvalidPayload, match="slots 1 and on"):
        columns.extend([b'{"a": 1}', bad])
    assert columns.n == 1
    columns.extend([b'{"a": 1}'])
    assert _slots(columns, "a = 1") == [0, 1]


def test_deep_and_wide_payloads():
    deep: dict[str, Any] = {"k": 1}
    for _ in range(30):
        deep = {"k": [deep]}
    columns = _of(deep, {f"key{i}": i for i in range(3_000)})
    key = "k" + "[].k" * 30
    assert _slots(columns, f"{key} = 1") == [0]
    assert _slots(columns, "key2999 = 2999") == [1]


def test_a_reader_of_fewer_slots_sees_only_those():
    columns = _of(*({"a": i % 2, "l": [1, i]} for i in range(200)))
    for n in (0, 1, 63, 64, 65, 127, 128, 199, 200):
        assert _slots(columns, "a = 1", n) == list(range(1, n, 2))
        assert _slots(columns, "l = 5", n) == ([5] if n > 5 else [])
    with pytest.raises(AssertionError, match="201"):
        _slots(columns, "a = 1", 201)


def test_readers_are_right_while_a_writer_extends(monkeypatch):
    monkeypatch.setattr(values_module, "SEAL_FROM", 500)
    columns = Columns()
    rows = [
        orjson.dumps({"n": i, "s": f"s{i % 7}", "l": [i % 3, "x"], **({"r": 1} if i % 90 == 0 else {})})
        for i in range(20_000)
    ]
    failures = []
    done = threading.Event()

    def read():
        tree = parse_filter("s = 's3' and l = 1 or r = 1")
        assert tree is not None
        while not done.is_set():
            n = columns.n
            i = np.arange(n)
            truth = ((i % 7 == 3) & (i % 3 == 1)) | (i % 90 == 0)
            if bits_to_list(evaluate(tree, columns, _no_ids, n), n) != truth.tolist():
                failures.append(n)

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for begin in range(0, len(rows), 97):
        columns.extend(rows[begin : begin + 97])
        if begin % 5 == 0:
            columns.seal()
    done.set()
    for reader in readers:
        reader.join()
    assert not failures
    assert columns.n == len(rows)


def _tree(text):
    tree = parse_filter(text)
    assert tree is not None
    return tree


def _arrays(columns, key):
    column = columns.column((key,))
    assert column is not None
    return column.kinds.values()


def test_what_is_sorted_stays_within_its_bound_and_the_least_asked_goes_first():
    payloads = [orjson.dumps({"a": i % 100, "b": i % 7, "c": i / 3}) for i in range(6_000)]
    columns = Columns()
    columns.extend(payloads)
    columns.seal()
    kept = sum(values.sorted_bytes for path in ("a", "b") for values in _arrays(columns, path))
    columns = Columns()
    columns.sorted_max = kept
    columns.extend(payloads)
    trees = {text: _tree(text) for text in ("a between 3 and 40", "b = 2", "c < 100 and b > 1")}
    before = {text: evaluate(tree, columns, _no_ids, 6_000).tolist() for text, tree in trees.items() if "c" not in text}
    columns.seal()
    held = {path: values for path in "abc" for values in _arrays(columns, path)}
    assert {path: values.sorted_bytes > 0 for path, values in held.items()} == {"a": True, "b": True, "c": False}
    for text, tree in trees.items():
        bits = evaluate(tree, columns, _no_ids, 6_000)
        assert before.get(text, bits.tolist()) == bits.tolist()
        assert cardinality(tree, columns, 6_000).low <= count_bits(bits)
    expected = [i / 3 < 100 and i % 7 > 1 for i in range(6_000)]
    assert bits_to_list(evaluate(trees["c < 100 and b > 1"], columns, _no_ids, 6_000), 6_000) == expected
    columns.extend(payloads)  # growth does not sort it again
    columns.seal()
    assert not held["c"].sorted_bytes
    assert set(columns.bytes_by_key) == {"a", "b", "c"}
    assert sum(columns.bytes_by_key.values()) == columns.memory_bytes
