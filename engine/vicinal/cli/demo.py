"""`vicinal demo`: the whole engine once, on real data: build, serve, insert, search, crash, recover.

The sample is 5,000 arXiv papers: an embedding each (all-MiniLM-L6-v2, 384 numbers), titles and categories,
token matrices of the first 600, and 20 further titles as queries. It travels with the repository.
"""

from __future__ import annotations

import secrets
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from vicinal.cli.kernels import announce_compilation
from vicinal.cli.output import JsonFlag, print_json
from vicinal.errors import InvalidArgument, VicinalError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from vicinal.client import RemoteDatabase
    from vicinal.io.npy import Tokens
    from vicinal.types import Hits, Payload

__all__ = ["DemoFailed", "Sample", "demo", "find_sample", "run_demo"]

_OFFLINE = 4_500
_OFFLINE_TOKENS = 500
_QUERY = 9
_FILTER = "categories = 'cs.LG' and n_authors <= 3"
_K = 5
_FILES = ("vectors.npy", "papers.parquet", "tokens.npz", "queries.npy", "queries.json")


class DemoFailed(VicinalError):
    """Something the demo shows did not hold."""

    code = "demo_failed"


class Sample(NamedTuple):
    """The sample: vectors (n, 384), papers (n), token matrices of the first papers, and the queries."""

    vectors: NDArray[Any]
    papers: list[Payload]
    tokens: Tokens
    queries: NDArray[Any]
    query_tokens: Tokens
    titles: list[str]


class Answers(NamedTuple):
    """The three answers that must survive the crash."""

    plain: Hits
    filtered: Hits
    multi: Hits


def demo(
    sample: Annotated[Path | None, typer.Option(help="Folder of the sample; found in a clone by itself.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Build, serve, insert, search, kill and recover, on 5,000 real papers; takes some 20 s."""
    folder = find_sample(sample)
    steps: list[dict[str, Any]] = []

    def tell(name: str, seconds: float, detail: str) -> None:
        steps.append({"step": name, "seconds": seconds, "detail": detail})
        if not as_json:
            sys.stdout.write(f"{seconds:7.2f} s  {name}: {detail}\n")
            sys.stdout.flush()

    announce_compilation()
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="vicinal-demo-") as workplace:
        run_demo(folder, Path(workplace), tell)
    total = time.perf_counter() - began
    if as_json:
        print_json({"seconds": total, "steps": steps})
    else:
        sys.stdout.write(f"{total:7.2f} s  in all: nothing was lost\n")


def find_sample(given: Path | None) -> Path:
    """Return the sample's folder: the one given, or that of the clone this code runs from."""
    places = [given] if given else [Path(__file__).parents[3] / "tests/data/sample", Path("tests/data/sample")]
    for place in places:
        if all((place / name).is_file() for name in _FILES):
            return place
    raise InvalidArgument(
        "the demo's sample is not here: it comes with the repository, not with the installed package. Clone the"
        f" repository and run `make demo`, or give --sample a folder with {', '.join(_FILES)}",
        field="sample",
        value=str(places[0]),
    )


def run_demo(folder: Path, workplace: Path, tell: Callable[[str, float, str], None]) -> None:
    """Run every step and check it; raises DemoFailed when something is missing."""
    clock = _Clock(tell)
    with clock("read sample") as say:
        sample = _read(folder)
        say(f"{len(sample.papers):,} papers, {sample.tokens.total} token matrices")
    directory = workplace / "data"
    with clock("build offline") as say:
        say(_build_offline(directory, sample))
    from vicinal.cli.child import ChildServer

    server = ChildServer(directory, workplace / "server.log", secrets.token_urlsafe(24))
    try:
        with clock("start server") as say:
            client = server.start()
            say(server.url)
        with clock("insert over HTTP") as say:
            say(_insert_rest(client, sample))
        before = _search(client, sample, clock)
        with clock("kill -9") as say:
            client.close()
            server.kill()
            say("the server is gone without a word")
        with clock("restart") as say:
            client = server.start()
            say("recovered")
        with clock("compare") as say:
            say(_compare(client, sample, before))
        client.close()
    finally:
        server.stop()


class _Clock:
    """Times steps and tells each when it is done."""

    def __init__(self, tell: Callable[[str, float, str], None]) -> None:
        self._tell = tell

    @contextmanager
    def __call__(self, name: str) -> Iterator[Callable[[str], None]]:
        details: list[str] = []
        began = time.perf_counter()
        yield details.append
        self._tell(name, time.perf_counter() - began, "; ".join(details))


def _read(folder: Path) -> Sample:
    import orjson

    from vicinal.io import open_source
    from vicinal.io.npy import read_matrix, read_tokens

    rows = open_source(folder / "papers.parquet")
    papers = [row for batch in rows.batches(rows.total) for row in batch.payloads or []]
    return Sample(
        read_matrix(folder / "vectors.npy"),
        papers,
        read_tokens(folder / "tokens.npz"),
        read_matrix(folder / "queries.npy"),
        read_tokens(folder / "tokens.npz", tokens="qtokens", offsets="qoffsets"),
        orjson.loads((folder / "queries.json").read_bytes()),
    )


def _build_offline(directory: Path, sample: Sample) -> str:
    """Build `papers` from the first vectors and `passages` from the first token matrices, without a server."""
    from vicinal.database import Database
    from vicinal.schema import Multi

    with Database(directory) as database:
        papers = database.create_collection("papers", dim=sample.vectors.shape[1], metric="cosine")
        papers.upsert(range(_OFFLINE), sample.vectors[:_OFFLINE], sample.papers[:_OFFLINE])
        passages = database.create_collection("passages", vectors={"tokens": Multi(sample.tokens.tokens.shape[1])})
        first = sample.tokens.rows(0, _OFFLINE_TOKENS)
        passages.upsert(range(_OFFLINE_TOKENS), tuple(first), sample.papers[:_OFFLINE_TOKENS])
        papers.flush()
        passages.flush()
        return f"{papers.count():,} papers and {passages.count()} token matrices, in the graph and on disk"


def _insert_rest(client: RemoteDatabase, sample: Sample) -> str:
    papers, passages = client.collection("papers"), client.collection("passages")
    rest = range(_OFFLINE, len(sample.papers))
    papers.upload(rest, sample.vectors[_OFFLINE:], sample.papers[_OFFLINE:], progress=False)
    total = sample.tokens.total
    more = tuple(sample.tokens.rows(_OFFLINE_TOKENS, total))
    passages.upload(range(_OFFLINE_TOKENS, total), more, sample.papers[_OFFLINE_TOKENS:total], progress=False)
    _require(papers.count() == len(sample.papers), "not every paper arrived")
    _require(passages.count() == total, "not every token matrix arrived")
    return f"{len(rest)} papers and {total - _OFFLINE_TOKENS} token matrices more, durable when acknowledged"


def _search(client: RemoteDatabase, sample: Sample, clock: _Clock) -> Answers:
    """Ask the three kinds of question, print the titles found, and check them against numpy."""
    papers, passages = client.collection("papers"), client.collection("passages")
    vector, tokens = sample.queries[_QUERY], sample.query_tokens.rows(_QUERY, _QUERY + 1).tokens
    title = sample.titles[_QUERY]
    with clock("plain query") as say:
        say(_titles(title, papers.query(vector, _K)))
    with clock("filtered query") as say:
        found = papers.query(vector, _K, filter=_FILTER)
        _require(len(found) == _K and all(_matches(hit.payload) for hit in found), "a wrong filtered answer")
        say(_titles(_FILTER, found))
    with clock("multi-vector query") as say:
        say(_titles(title, passages.query_multi(tokens, _K)))
    with clock("exact answers") as say:
        answers = _exact(client, sample)
        _require(answers.plain.ids == _nearest(sample, vector), "the exact answer differs from numpy's")
        _require(_close(answers.multi, sample, tokens), "MaxSim scores differ from numpy's")
        say("the same as scans with numpy")
    return answers


def _exact(client: RemoteDatabase, sample: Sample) -> Answers:
    papers, passages = client.collection("papers"), client.collection("passages")
    vector, tokens = sample.queries[_QUERY], sample.query_tokens.rows(_QUERY, _QUERY + 1).tokens
    return Answers(
        papers.query(vector, _K, exact=True),
        papers.query(vector, _K, filter=_FILTER, exact=True),
        passages.query_multi(tokens, _K, exact=True),
    )


def _nearest(sample: Sample, vector: NDArray[Any]) -> list[int]:
    import numpy as np

    rows: NDArray[np.float32] = np.asarray(sample.vectors, np.float32)
    cosines = rows @ np.asarray(vector, np.float32) / np.linalg.norm(rows, axis=1)
    nearest: list[int] = np.argsort(-cosines, kind="stable")[:_K].tolist()
    return nearest


def _matches(payload: Payload | None) -> bool:
    """Whether a payload is one that _FILTER asks for."""
    return payload is not None and "cs.LG" in payload["categories"] and payload["n_authors"] <= 3


def _close(hits: Hits, sample: Sample, tokens: NDArray[np.float32]) -> bool:
    """Whether the hits are the best by numpy's MaxSim, but for the rounding of int8 tokens."""
    import numpy as np

    products = sample.tokens.tokens @ np.asarray(tokens, np.float32).T
    sums = np.maximum.reduceat(products, sample.tokens.offsets[:-1], axis=0).sum(axis=1)
    wanted = np.sort(sums)[::-1][: len(hits)]
    return np.allclose(sums[hits.ids], hits.scores, atol=0.05) and np.allclose(wanted, hits.scores, atol=0.05)


def _titles(asked: str, hits: Hits) -> str:
    lines = [f"{hit.score:10.3f}  {(hit.payload or {}).get('title', '?')}" for hit in hits]
    return "\n".join([asked, *lines])


def _compare(client: RemoteDatabase, sample: Sample, before: Answers) -> str:
    """Check that counts, payloads and answers are those from before the crash."""
    papers, passages = client.collection("papers"), client.collection("passages")
    _require(papers.count() == len(sample.papers), "papers are missing after the crash")
    _require(passages.count() == sample.tokens.total, "token matrices are missing after the crash")
    stored = {point.id: point.payload for point in papers.get(range(len(sample.papers)))}
    _require(stored == dict(enumerate(sample.papers)), "payloads differ after the crash")
    after = _exact(client, sample)
    for name, old, new in zip(Answers._fields, before, after, strict=True):
        same = old.ids == new.ids and bool((abs(old.scores - new.scores) < 1e-5).all())
        _require(same, f"the {name} answer changed over the crash")
    return f"{len(stored):,} papers and {passages.count()} token matrices are there, and the same answers"


def _require(held: bool, what: str) -> None:
    if not held:
        raise DemoFailed(f"the demo failed: {what}", field="demo")
