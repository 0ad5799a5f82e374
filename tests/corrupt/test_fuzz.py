"""Every decoder on damaged bytes whose checksums hold: a typed error, or something that can be searched; no crash.

Checksums keep accidents out, not people: they are switched off here, so that every other check has to hold by itself.
Each decoder runs in a process of its own, because what is to be found are crashes.
"""

from __future__ import annotations

import random
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import msgpack
import numpy as np
import orjson
import pytest
from tests.support.hnswlib_oracle import brute_file, hnsw_file
from tests.support.mutants import mutate
from tests.support.own_process import run_alone

from vicinal import packing
from vicinal.batch import MultiPart
from vicinal.errors import VicinalError
from vicinal.filter import column_snapshot
from vicinal.filter.columns import Columns
from vicinal.filter.evaluate import evaluate
from vicinal.filter.parse import parse_filter
from vicinal.flat import file_format
from vicinal.flat_api import BFIndex, Index
from vicinal.index import cells_snapshot, coded_snapshot, field_index, snapshot
from vicinal.index.field_index import FieldIndex
from vicinal.io.fvecs import VecsSource
from vicinal.io.npy import read_matrix, read_tokens
from vicinal.multi_field import MultiField, token_files
from vicinal.schema import Multi, Schema, from_mapping
from vicinal.storage.vectors import RowFile
from vicinal.types import HnswParams, Metric, Rows
from vicinal_server.native.codec import JSON, MSGPACK, decode_body
from vicinal_server.native.models import Insert, Query, parse

MEMORY = 1 << 30  # bytes that a decoder may take more than before it read anything
Target = tuple[list[bytes], Callable[[bytes], None]]  # seeds, what to do with a mutant


def _index(layout: str, coded_from: int | None) -> Target:
    rng = np.random.default_rng(0)
    rows = Rows(rng.standard_normal((700, 24)).astype(np.float32), np.empty(0, np.float32))
    patch = mock.patch.object(field_index, "CELLS_FROM_ROWS", 300)

    def made() -> FieldIndex:
        with patch:
            return FieldIndex(Metric.L2, 24, HnswParams(), coded_from=coded_from, layout=layout, filters=False)

    index = made()
    while index.n < 700:
        index.extend(rows, 700, lambda: False)

    def use(content: bytes) -> None:
        again = made()
        again.decode(content, rows, 700)
        searcher = again.searcher()
        if searcher is not None:
            searcher.search(rows.vectors[3], 10, 64, rows=rows, limit=700, allowed=None)
        again.extend(rows, 700, lambda: False)

    return [index.encode()], use


def _graph() -> Target:
    return _index("graph", None)


def _coded() -> Target:
    return _index("graph", 500)


def _cells() -> Target:
    return _index("cells", 500)


def _tokens(seed: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    rng = np.random.default_rng(seed)
    ends = np.cumsum(rng.integers(1, 6, 60)).astype(np.int64)
    return rng.standard_normal((int(ends[-1]), 16)).astype(np.float32), ends


def _ends() -> Target:
    """The `.off` file: where each point's tokens end."""
    tokens, ends = _tokens(1)
    spec = Multi(16, store="float32")

    def made() -> tuple[MultiField, RowFile, RowFile]:
        files = {name: RowFile.in_memory(width) for name, width in token_files("t", spec).items()}
        token_file, ends_file = files.values()
        return MultiField("t", spec, files), token_file, ends_file

    written, _, record_file = made()
    written.append(MultiPart(tokens, ends, np.diff(ends, prepend=0)), 0, len(ends))
    width = record_file.row_bytes

    def use(content: bytes) -> None:
        field, token_file, ends_file = made()
        token_file.append(np.ascontiguousarray(tokens).view(np.uint8))
        n = len(content) // width
        ends_file.append(np.frombuffer(content[: n * width], np.uint8).reshape(n, width).copy())
        field.load(n, np.ones(n, np.bool_))
        field.extend_index(n, lambda: False, None)

    return [record_file.matrix(np.uint8, (width,))[: len(ends)].tobytes()], use


def _columns() -> Target:
    columns = Columns()
    payloads = [{"n": i % 7, "t": "ab"[i % 2], "x": i / 3, "tags": ["a", i % 3], "b": i % 2 == 0} for i in range(200)]
    columns.extend([orjson.dumps(p) for p in payloads])
    pieces = column_snapshot.encode(columns, 5, np.zeros(0, np.uint32))
    whole = b"".join(np.asarray(p).tobytes() if not isinstance(p, bytes) else p for p in pieces)
    filters = [parse_filter(f) for f in ("n = 3 or t = 'a'", "x > 5 and not b = true", "tags = 'a'")]

    def use(content: bytes) -> None:
        loaded = column_snapshot.decode(memoryview(content))
        for tree in filters:
            assert tree is not None
            evaluate(tree, loaded.columns, lambda _: np.zeros(0, np.uint32), loaded.columns.n)

    return [whole], use


def _packed() -> Target:
    whole = packing.pack(b"VICTESTS", 1, {"a": 1}, [np.arange(30, dtype=np.float32).reshape(5, 6), np.arange(7)])
    return [whole], lambda content: _ignore(packing.unpack(content, b"VICTESTS", 1, "it"))


def _ignore(*_: Any) -> None:
    """The decoder is done."""


def _saved_index() -> Target:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 8)).astype(np.float32)
    index = Index("cosine", 8)
    index.init_index(400)
    index.add_items(rows, np.arange(300) * 3)
    index.mark_deleted(6)

    def use(path: Path) -> None:
        again = Index("cosine", 8)
        again.load_index(path)
        again.knn_query(rows[:3], 1)
        again.add_items(rows[:2], [10_000, 10_001])

    return [_saved(index.save_index)], _through_file(use)


def _saved(save: Callable[[str], Any]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "f"
        save(str(path))
        return path.read_bytes()


def _through_file(use: Callable[[Path], None], name: str = "f.bin") -> Callable[[bytes], None]:
    folder = Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))

    def run(content: bytes) -> None:
        path = folder / name
        path.unlink(missing_ok=True)
        path.write_bytes(content)
        use(path)

    return run


def _hnswlib() -> Target:
    rows = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)
    ids = np.arange(20) + 100

    def use(path: Path) -> None:
        index = Index("l2", 3)
        index.load_index(path)
        index.knn_query(rows[:2], 1)

    return [bytes(hnsw_file(rows, ids, deleted={2}))], _through_file(use)


def _hnswlib_brute() -> Target:
    rows = np.random.default_rng(1).standard_normal((20, 3)).astype(np.float32)

    def use(path: Path) -> None:
        index = BFIndex("l2", 3)
        index.load_index(path)
        index.knn_query(rows[:2], 1)

    return [bytes(brute_file(rows, np.arange(20), 25))], _through_file(use)


def _npy() -> Target:
    def save(path: str) -> None:
        with Path(path).open("wb") as file:
            np.save(file, np.arange(60, dtype=np.float32).reshape(10, 6))

    return [_saved(save)], _through_file(lambda path: _ignore(read_matrix(path).sum()), "f.npy")


def _npz() -> Target:
    tokens, ends = _tokens(2)

    def save(path: str) -> None:
        with Path(path).open("wb") as file:
            np.savez(file, tokens=tokens, offsets=np.append(0, ends))

    return [_saved(save)], _through_file(lambda path: _ignore(read_tokens(path).rows(0, 1)), "f.npz")


def _fvecs() -> Target:
    rows = np.zeros((9, 5), np.float32)
    rows[:, 0] = np.array([4], np.int32).view(np.float32)
    return [rows.tobytes()], _through_file(lambda path: _ignore(*VecsSource(path).batches(4)), "f.fvecs")


_UPSERT = {"ids": [1, "b"], "vectors": [[1.0, 2.0], [3, 4]], "payloads": [{"a": [1, None, {"b": "c"}]}, None]}
_QUERY = {"vector": [1.0, 2.0], "k": 3, "filter": {"must": [{"key": "a", "match": {"value": 1}}]}, "ef": 10}


def _json() -> Target:
    return [orjson.dumps(_UPSERT), orjson.dumps(_QUERY)], lambda content: _body(content, JSON)


def _msgpack() -> Target:
    block = {"dtype": "<f4", "shape": [2, 2], "data": bytes(16)}
    return [msgpack.packb({**_UPSERT, "vectors": block}), msgpack.packb(_QUERY)], lambda c: _body(c, MSGPACK)


def _body(content: bytes, media: str) -> None:
    tree = decode_body(content, media, 1 << 20)
    if "ids" in tree:
        parse(Insert, tree)
    else:
        parse(Query, tree)


def _filter_text() -> Target:
    texts = ["year >= 2020 and topic in ('cs.LG', 'x') or not a.b = 1.5", "geo_radius(at, (13.4, 52.5), 5000)"]
    return [t.encode() for t in texts], lambda content: _ignore(parse_filter(content.decode("utf-8", "replace")))


def _filter_json() -> Target:
    tree = {
        "must": [{"key": "a", "match": {"any": [1, "b"]}}, {"has_id": [1, "x"]}],
        "must_not": [{"key": "p", "range": {"gte": 1, "lt": 2.5}}, {"is_null": {"key": "z"}}],
        "should": [{"key": "at", "geo_radius": {"center": {"lon": 1, "lat": 2}, "radius": 10}}],
    }

    def use(content: bytes) -> None:
        try:
            parsed = orjson.loads(content)
        except ValueError:
            return
        parse_filter(parsed)

    return [orjson.dumps(tree)], use


def _schema() -> Target:
    fields = {"v": {"kind": "dense", "dim": 4, "metric": "l2"}, "t": {"kind": "multi", "dim": 4}}
    whole = Schema({name: from_mapping(spec) for name, spec in fields.items()}).encode()
    return [whole], lambda content: _ignore(Schema.decode(content))


DECODERS = {
    f.__name__.removeprefix("_"): f
    for f in (
        *(_graph, _coded, _cells, _ends, _columns, _packed, _saved_index, _hnswlib, _hnswlib_brute),
        *(_npy, _npz, _fvecs, _json, _msgpack, _filter_text, _filter_json, _schema),
    )
}


def fuzz(names: str, milliseconds: int, seed: int) -> None:
    """Mutate and decode for so long with each decoder; print the bytes of what fails."""
    for module in (snapshot, coded_snapshot, cells_snapshot, packing, file_format):
        module.crc32c = lambda *_: 0  # type: ignore[attr-defined]
    for name in names.split():
        seeds, use = DECODERS[name]()
        for content in seeds:
            use(content)
        _check_memory()
        _fuzz_one(name, seeds, use, milliseconds / 1000, random.Random(f"{name} {seed}"))


def _check_memory() -> None:
    """From here on an allocation far beyond what the bytes need fails."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))


def _fuzz_one(name: str, seeds: list[bytes], use: Callable[[bytes], None], seconds: float, rng: random.Random) -> None:
    kept = Path(tempfile.gettempdir()) / f"vicinal-fuzz-{name}.bin"
    until, tried, refused = time.monotonic() + seconds, 0, 0
    while time.monotonic() < until:
        content = mutate(rng.choice(seeds), rng)
        kept.write_bytes(content)  # a crash leaves it
        tried += 1
        try:
            use(content)
        except VicinalError:
            refused += 1
        except BaseException as error:
            raise AssertionError(f"{name}: {error!r}, the bytes are in {kept}") from error
    kept.unlink()
    print(f"{name}: {tried} tried, {refused} refused", flush=True)
    assert refused


QUICK = (
    "graph cells columns packed saved_index ends",
    "coded hnswlib hnswlib_brute npy npz fvecs json msgpack filter_text filter_json schema",
)


@pytest.mark.parametrize("names", QUICK, ids=["ours", "others"])
def test_damaged_bytes(names: str) -> None:
    print(run_alone(fuzz, names, 200, 1))


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_damaged_bytes_for_two_minutes(name: str) -> None:
    print(run_alone(fuzz, name, 120_000, 2))
