"""The remote classes offer what the local ones do, under the same names, and answer the same."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.support.listening import listening

import vicinal
from vicinal.client import AsyncCollection, AsyncDatabase, RemoteCollection, RemoteDatabase
from vicinal.errors import (
    AlreadyExists,
    InvalidArgument,
    InvalidFilter,
    InvalidId,
    InvalidPayload,
    InvalidVector,
    LimitExceeded,
    NotFound,
    VicinalError,
)

# closing is the database's business remotely; the schema is read with info(); aliases have no route yet
LOCAL_ONLY = {"Collection": {"close", "schema"}, "Database": {"read_only", "set_alias"}}


def public(kind: type) -> dict[str, Any]:
    return {name: value for name, value in vars(kind).items() if not name.startswith("_")}


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    listed = inspect.signature(function).parameters.values()
    return [(one.name, one.kind, one.default) for one in listed if one.name != "self"]


@pytest.mark.parametrize(
    ("local", "remote"),
    [
        (vicinal.Database, RemoteDatabase),
        (vicinal.Database, AsyncDatabase),
        (vicinal.Collection, RemoteCollection),
        (vicinal.Collection, AsyncCollection),
    ],
)
def test_every_method_is_there_with_the_same_parameters(local: type, remote: type) -> None:
    missing = {name for name in public(local) if name not in public(remote) and name not in LOCAL_ONLY[local.__name__]}
    assert not missing - {"name"}
    for name, method in public(local).items():
        if not inspect.isfunction(method) or name in LOCAL_ONLY[local.__name__]:
            continue
        assert parameters(public(remote)[name]) == parameters(method), name


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Any, Any]]:
    """A local database, and a remote one over another local one."""
    with vicinal.connect(":memory:") as local, listening() as url, vicinal.connect(url) as remote:
        yield local, remote


def tried(call: Any) -> Any:
    try:
        return call()
    except VicinalError as error:
        return type(error), error.field


def filled(database: Any, name: str) -> Any:
    rng = np.random.default_rng(3)
    vectors = rng.standard_normal((40, 6)).astype(np.float32)
    matrices = [rng.standard_normal((1 + n % 3, 4)) for n in range(40)]
    fields = {"v": vicinal.Dense(6, metric=vicinal.Metric.L2), "t": vicinal.Multi(4, store="float32")}
    collection = database.create_collection(name, vectors=fields)
    ids = [n if n % 2 else f"p{n}" for n in range(40)]
    payloads = [{"n": n, "tags": ["a", "b"][: n % 3]} for n in range(40)]
    collection.upsert(ids[:30], {"v": vectors[:30], "t": matrices[:30]}, payloads[:30])
    collection.upsert(ids[30:], {"v": vectors[30:]}, payloads[30:])
    return collection


def plain(value: Any) -> Any:
    """Results as lists and dicts, arrays included, so that they compare."""
    if isinstance(value, np.ndarray):
        return np.where(np.equal(value, value), value, -1).tolist()
    if isinstance(value, vicinal.Hit | vicinal.Point):
        return [plain(getattr(value, name)) for name in type(value).__dataclass_fields__]
    if isinstance(value, vicinal.Hits):
        return [plain(list(value)), value.complete, value.explain is not None]
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return round(value, 5) if isinstance(value, float) else value


QUERY = np.arange(6) / 6
TOKENS = np.arange(12).reshape(3, 4) / 12
READS: list[Any] = [
    lambda c: c.query(QUERY, 5),
    lambda c: c.query(QUERY.tolist(), 50, filter="n >= 20 and tags = 'a'", with_vectors=True),
    lambda c: c.query(QUERY, 3, filter={"must_not": [{"key": "n", "range": {"lt": 35}}]}, exact=True, explain=True),
    lambda c: c.query(QUERY, 3, with_payload=False, using="v", ef=30),
    lambda c: c.query_batch([QUERY, -QUERY], 4),
    lambda c: c.query_batch(np.stack([QUERY, -QUERY]), 4, filter=["n >= 38", None]),
    lambda c: c.query_multi(TOKENS, 5, exact=True),
    lambda c: c.query_multi(TOKENS, 5, filter="n >= 25", rerank="float32", candidates=40),
    lambda c: c.get(["p0", 1, 999, "p2"], with_vectors=True),
    lambda c: c.get(["p38"], with_payload=False, with_vectors=True),
    lambda c: c.scroll(limit=7),
    lambda c: c.scroll("n >= 30", 3, offset="p32"),
    lambda c: c.count(),
    lambda c: c.count("n >= 30"),
    lambda c: (c.facet("tags", "n >= 30"), c.facet("n", limit=3)),
    lambda c: (c.info().points, c.info().seq, sorted(c.info().fields)),
    lambda c: (c.flush(), c.flush(30), c.info().tail),
    lambda c: (c.verify().ok, c.verify().points),
    len,
]
WRONG: list[tuple[Any, type[VicinalError]]] = [
    (lambda c: c.query(QUERY[:5], 5), InvalidVector),
    (lambda c: c.query([np.nan] * 6, 5), InvalidVector),
    (lambda c: c.query([True] * 6, 5), InvalidVector),
    (lambda c: c.query_batch(np.ones((2, 6), bool), 5), InvalidVector),
    (lambda c: c.query([1e39] * 6, 5), InvalidVector),
    (lambda c: c.query("text", 5), InvalidVector),
    (lambda c: c.query(QUERY, 0), InvalidArgument),
    (lambda c: c.query(QUERY, 10**6), LimitExceeded),
    (lambda c: c.query(QUERY, 5, filter="n >>= 3"), InvalidFilter),
    (lambda c: c.query(QUERY, 5, using="nothing"), NotFound),
    (lambda c: c.query_multi(np.empty((0, 4)), 5), InvalidVector),
    (lambda c: c.query_multi(TOKENS, 5, rerank="perhaps"), InvalidArgument),
    (lambda c: c.upsert([], {"v": np.empty((0, 6))}), InvalidArgument),
    (lambda c: c.upsert([1, 1], {"v": np.ones((2, 6))}), InvalidId),
    (lambda c: c.upsert([-1], {"v": np.ones((1, 6))}), InvalidId),
    (lambda c: c.upsert([1], {"v": np.ones((2, 6))}), InvalidVector),
    (lambda c: c.upsert([1], {"w": np.ones((1, 6))}), InvalidVector),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, [{"a": float("nan"), "b": object()}]), InvalidPayload),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, [{"a": float("nan")}]), InvalidPayload),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, [{"a": [{"b": np.float32("inf")}]}]), InvalidPayload),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, [{"a": np.array([1.0, np.nan])}]), InvalidPayload),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6), np.bool_)}), InvalidVector),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, ["text"]), InvalidPayload),
    (lambda c: c.upsert([1], {"v": np.ones((1, 6))}, {"a": 1}), InvalidPayload),
    (lambda c: c.delete(), InvalidArgument),
    (lambda c: c.get("abc"), InvalidId),
    (lambda c: c.scroll(limit=0), InvalidArgument),
]


def test_reads_answer_the_same(both: tuple[Any, Any]) -> None:
    local, remote = (filled(database, "reads") for database in both)
    for number, read in enumerate(READS):
        assert plain(tried(lambda: read(remote))) == plain(tried(lambda: read(local))), f"read {number}"  # noqa: B023


def test_errors_are_the_same_and_nothing_is_written(both: tuple[Any, Any]) -> None:
    local, remote = (filled(database, "wrong") for database in both)
    for number, (call, error) in enumerate(WRONG):
        for collection in (local, remote):
            with pytest.raises(error):
                call(collection)
            assert collection.count() == 40, f"call {number}"


def test_databases_answer_the_same(both: tuple[Any, Any]) -> None:
    for database in both:
        made = database.create_collection("one", dim=3, metric="dot", M=8)
        assert made.name == "one"
        with pytest.raises(AlreadyExists):
            database.create_collection("one", dim=3)
        with pytest.raises(InvalidArgument):
            database.create_collection("two")
        with pytest.raises(InvalidArgument):
            database.create_collection("two", dim=3, metric="angular")
        with pytest.raises(NotFound):
            database.collection("two")
        with pytest.raises(NotFound):
            database.drop_collection("two")
        assert "one" in database.list_collections()
        database.drop_collection("one")
        assert "one" not in database.list_collections()


def test_writes_do_the_same(both: tuple[Any, Any]) -> None:
    for database in both:
        collection = filled(database, "writes")
        assert collection.delete([1, "p2", 999]) == 2
        assert collection.delete(filter="n >= 35") == 5
        assert collection.count() == 33
        collection.upsert([5], {"v": np.ones((1, 6))}, [{"n": -1}])
        assert collection.get([5])[0].payload == {"n": -1}
        assert collection.count() == 33


def test_backups_do_the_same(tmp_path: Path) -> None:
    """An archive is named, in the server's folder, where the local database has a path."""
    (tmp_path / "archives").mkdir()
    with (
        vicinal.connect(tmp_path / "local") as local,
        listening(tmp_path / "remote") as url,
        vicinal.connect(url) as remote,
    ):
        each: list[tuple[Any, Any]] = [(local, tmp_path / "archives" / "all.tar"), (remote, "all")]
        for database, archive in each:
            collection = filled(database, "saved")
            database.create_collection("other", dim=2)
            told = database.backup(archive, ["saved"])
            assert told.collections == {"saved": 40} and told.bytes > 1000 and told.path == str(archive)
            collection.delete([1, "p2"])
            with pytest.raises(AlreadyExists):
                database.backup(archive)
            with pytest.raises(AlreadyExists):
                database.restore(archive)
            with pytest.raises(NotFound):
                database.restore(archive, ["other"])
            assert database.restore(archive, {"saved": "again"}) == ["again"]
            database.drop_collection("saved")
            assert database.restore(archive) == ["saved"]
            assert [database.collection(name).count() for name in ("saved", "again")] == [40, 40]
        for number, read in enumerate(READS[:12]):
            ours, theirs = (plain(read(database.collection("again"))) for database in (local, remote))
            assert ours == theirs, f"read {number}"
        for wrong in ("../all", "a/b", ""):
            with pytest.raises(InvalidArgument):
                remote.backup(wrong)
        with pytest.raises(NotFound):
            remote.restore("none")


def test_the_awaited_client_lists_and_removes_backups(tmp_path: Path) -> None:
    async def kept(url: str) -> list[Any]:
        async with await vicinal.connect_async(url) as database:
            collection = await database.create_collection("c", dim=2)
            await collection.upsert([1], [[1.0, 2.0]])
            told = await database.backup("one")
            listed = await database.list_backups()
            restored = await database.restore("one", {"c": "d"})
            await database.drop_backup("one")
            with pytest.raises(NotFound):
                await database.drop_backup("one")
            return [told.bytes, listed, restored, await database.list_backups()]

    with listening(tmp_path) as url:
        size, listed, restored, left = asyncio.run(kept(url))
    assert listed == {"one": size} and restored == ["d"] and left == {}


def test_an_upload_arrives_whole() -> None:
    vectors = np.random.default_rng(4).standard_normal((3000, 16)).astype(np.float16)

    async def again(url: str) -> int:
        async with await vicinal.connect_async(url) as database:
            collection = await database.collection("up")
            await collection.upload(np.arange(3000), vectors, batch=500, progress=False)
            return await collection.count()

    with listening() as url, RemoteDatabase(url) as database:
        collection = database.create_collection("up", dim=16, metric="l2")
        payloads = [{"n": n} for n in range(3000)]
        assert collection.upload(range(3000), vectors, payloads, batch=250, progress=False) == 3000
        assert collection.count() == 3000
        assert collection.get([2999], with_vectors=True)[0].vector.tolist() == vectors[2999].tolist()
        assert collection.query(vectors[7], 1, exact=True)[0].payload == {"n": 7}
        assert asyncio.run(again(url)) == 3000
