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

import msgpack
import orjson
import pytest
from tests.support import fuzzed_files as files
from tests.support import fuzzed_parts as parts
from tests.support.fuzzed_parts import Seeded, ignore
from tests.support.mutants import mutate
from tests.support.own_process import run_alone

from vicinal import packing
from vicinal.errors import VicinalError
from vicinal.filter.parse import parse_filter
from vicinal.flat import file_format
from vicinal.index import cells_snapshot, coded_snapshot, groups_snapshot, snapshot
from vicinal.schema import Schema, from_mapping
from vicinal.storage import vectors
from vicinal_server.native.codec import JSON, MSGPACK, decode_body
from vicinal_server.native.models import Insert, Query, parse

TRIED = 8  # at least, of each
MEMORY = 256 << 20  # bytes that a decoder may take more than before it read anything

_UPSERT = {"ids": [1, "b"], "vectors": [[1.0, 2.0], [3, 4]], "payloads": [{"a": [1, None, {"b": "c"}]}, None]}


_QUERY = {"vector": [1.0, 2.0], "k": 3, "filter": {"must": [{"key": "a", "match": {"value": 1}}]}, "ef": 10}


def _json() -> Seeded:
    return [orjson.dumps(_UPSERT), orjson.dumps(_QUERY)], lambda content: _body(content, JSON)


def _msgpack() -> Seeded:
    block = {"dtype": "<f4", "shape": [2, 2], "data": bytes(16)}
    return [msgpack.packb({**_UPSERT, "vectors": block}), msgpack.packb(_QUERY)], lambda c: _body(c, MSGPACK)


def _body(content: bytes, media: str) -> None:
    tree = decode_body(content, media, 1 << 20)
    if "ids" in tree:
        parse(Insert, tree)
    else:
        parse(Query, tree)


def _filter_text() -> Seeded:
    texts = ["year >= 2020 and topic in ('cs.LG', 'x') or not a.b = 1.5", "geo_radius(at, (13.4, 52.5), 5000)"]
    return [t.encode() for t in texts], lambda content: ignore(parse_filter(content.decode("utf-8", "replace")))


def _filter_json() -> Seeded:
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


def _schema() -> Seeded:
    fields = {"v": {"kind": "dense", "dim": 4, "metric": "l2"}, "t": {"kind": "multi", "dim": 4}}
    whole = Schema({name: from_mapping(spec) for name, spec in fields.items()}).encode()
    return [whole], lambda content: ignore(Schema.decode(content))


OTHERS = ("Seeded", "ignore", "some_tokens")
DECODERS: dict[str, Callable[[], Seeded]] = {
    **{name: getattr(module, name) for module in (parts, files) for name in module.__all__ if name not in OTHERS},
    **{f.__name__.removeprefix("_"): f for f in (_json, _msgpack, _filter_text, _filter_json, _schema)},
}


def fuzz(names: str, milliseconds: int, seed: int) -> None:
    """Mutate and decode for so long with each decoder; print the bytes of what fails."""
    for module in (snapshot, coded_snapshot, cells_snapshot, groups_snapshot, packing, file_format):
        module.crc32c = lambda *_: 0  # type: ignore[attr-defined]
    vectors._crc = lambda *_: 0  # type: ignore[assignment]
    for name in names.split():
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
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
    while time.monotonic() < until or tried < TRIED:
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
    "graph cells columns packed saved_index ends shared centroids fde lemur row_file archive manifest",
    "coded filtered filtered_cells shared_coded hnswlib hnswlib_brute npy npz fvecs jsonl parquet",
    "json msgpack filter_text filter_json schema",
)


@pytest.mark.parametrize("names", QUICK, ids=["ours", "others", "requests"])
def test_damaged_bytes(names: str) -> None:
    print(run_alone(fuzz, names, 200, 1))


@pytest.mark.full
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", sorted(DECODERS))
def test_damaged_bytes_for_two_minutes(name: str) -> None:
    print(run_alone(fuzz, name, 120_000, 2))
