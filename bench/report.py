"""Everything under `bench/results` as a page, the README's figures and a table of goals: `python -m bench.report`.

The page, `bench/results/report.html`, holds its charts and needs no other file. The README's block stands between
`<!-- figures -->` and `<!-- /figures -->`, that of docs/benchmarks.md between `<!-- goals -->` and `<!-- /goals -->`;
nothing in them is typed by hand.
"""

from __future__ import annotations

import base64
import html
import sys
from pathlib import Path
from typing import Any

from bench import tables
from bench.fanns import tables as filtered
from bench.goals import goals
from bench.results import RESULTS, every, path
from bench.tables import Table

__all__ = ["main", "page", "readme_block"]

ROOT = Path(__file__).parent.parent
SECTIONS = (
    ("recall_qps", "One thread, one query per call", tables.speed),
    ("batch", "Batch calls", tables.speed),
    ("fanns", "Filtered search", filtered.cells),
    ("multivector", "Token matrices", tables.multivector),
    ("filtered_scans", "Filtered scans, the bitmap given", filtered.scans),
    ("filter_masks", "Filters over a million slots", filtered.masks),
    ("columns_cost", "Queries without a filter beside columns", filtered.columns_cost),
    ("build", "Build time", tables.build),
    ("memory", "Resident memory", tables.memory),
    ("compression", "Dtypes and codes", tables.compression),
    ("scaling", "Growth with the number of rows", tables.scaling),
    ("reach", "Recall that is reached", tables.reach),
    ("cold_start", "A fresh process to its first answer", tables.cold_start),
    ("overhead", "What the API adds to the kernel", tables.overhead),
    ("insert", "Additions to a built graph", tables.insert),
    ("ingest", "Durable ingest", tables.ingest),
    ("durability", "Durable ingest beside other stores", tables.durability),
    ("durability", "Opening, closing, saving", tables.recovery),
    ("start", "Start-up", tables.start),
)
SHORT = (
    "vicinal",
    "hnswlib",
    "faiss-hnsw",
    "muvera",
    "fast-plaid",
    "lancedb",
    "chromadb",
    "milvus",
)  # rows of the README's tables
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: .5rem 0 1.5rem; font-variant-numeric: tabular-nums }
th, td { padding: .15rem .7rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child { text-align: left }
tr.ours { font-weight: 600 }
img { max-width: 100% }
small { color: #666 }
"""


def main() -> int:
    """Write the page, and the blocks of README and docs where these have a place for them."""
    (RESULTS / "report.html").write_text(page())
    _rewrite(ROOT / "README.md", "figures", readme_block())
    _rewrite(ROOT / "docs" / "benchmarks.md", "goals", "\n".join(_markdown(goals())))
    return 0


def _rewrite(file: Path, name: str, block: str) -> None:
    """Put a block between its marks."""
    start, stop = f"<!-- {name} -->", f"<!-- /{name} -->"
    text = file.read_text()
    if start not in text or stop not in text:
        print(f"{file.name} has no {start} ... {stop}")
        return
    before, _, rest = text.partition(start)
    after = rest.partition(stop)[2]
    file.write_text(f"{before}{start}\n{block}\n{stop}{after}")
    print(f"rewrote the {name} of {file.name}")


def page() -> str:
    """Give the whole report as HTML, charts inside."""
    parts = [f"<!doctype html><meta charset=utf-8><title>vicinal: benchmarks</title><style>{STYLE}</style>"]
    parts.append("<h1>vicinal: benchmarks</h1>")
    parts += ["<h2>What was asked</h2>", _table(goals())]
    charted = set()
    for suite, title, make in SECTIONS:
        answers = every(suite)
        if answers:
            parts.append(f"<h2>{title}</h2>")
        for answer in answers:
            chart = "" if suite in charted else _chart(answer)
            parts += [f"<h3>{html.escape(answer.get('dataset', ''))}</h3>", _table(make(answer)), chart]
            parts.append(f"<p><small>{html.escape(_machine(answer))}</small></p>")
        charted.add(suite)
    return "\n".join(parts) + "\n"


def _table(table: Table) -> str:
    cells = "".join(f"<th>{html.escape(name)}" for name in table.head)
    lines = [f"<table><tr>{cells}"]
    for row in table.rows:
        mark = ' class="ours"' if row[0].startswith("vicinal") else ""
        lines.append(f"<tr{mark}>" + "".join(f"<td>{html.escape(cell)}" for cell in row))
    return "\n".join([*lines, "</table>"]) + "".join(
        f"<p><small>{html.escape(note)}</small></p>" for note in table.notes
    )


def _chart(answer: dict[str, Any]) -> str:
    whole = path(answer, "png")
    places = [whole, *sorted(whole.parent.glob(f"{whole.stem}.*.png"))]  # one, or one per kind of filter
    return "".join(
        f'<img alt="chart" src="data:image/png;base64,{base64.b64encode(place.read_bytes()).decode()}">'
        for place in places
        if place.exists()
    )


def _machine(answer: dict[str, Any]) -> str:
    machine = answer["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    commit = machine["commit"][:10]
    return f"{machine['processor']} ({machine['family_model']}), {machine['cores']} cores, {versions}, commit {commit}"


def readme_block() -> str:
    """Give the README's figures in Markdown: speed per data set, then the other suites in short."""
    lines: list[str] = []
    for suite, title in (("recall_qps", "One thread, one query per call"), ("batch", "Batch calls, two threads")):
        table = tables.summary(every(suite))
        if table.rows:
            lines += [
                f"{title}: queries per second at recall@10, as a multiple of hnswlib and of the fastest rival.",
                "",
            ]
            lines += [*_markdown(table), ""]
    if every("fanns"):
        lines += [
            "Filtered search, the filter evaluated in every call:",
            "",
            *_markdown(filtered.summary(every("fanns"))),
            "",
        ]
    for suite, title, make in SECTIONS[3:]:
        for answer in every(suite):
            name = f" ({answer['dataset']})" if "dataset" in answer else ""
            lines += [f"{title}{name}:", "", *_markdown(_short(make(answer))), ""]
    answers = every("recall_qps")
    if answers:
        lines.append(_machine(answers[0]) + ".")
    return "\n".join(lines)


def _short(table: Table) -> Table:
    """Ours and hnswlib of a long table; faiss stands for hnswlib where that does not count, MUVERA where it answers."""
    kept = [row for row in table.rows if row[0].startswith(SHORT)]
    return Table(table.head, kept or table.rows, ())


def _markdown(table: Table) -> list[str]:
    rows = [table.head, tuple("---" for _ in table.head), *table.rows]
    return ["| " + " | ".join(row) + " |" for row in rows]


if __name__ == "__main__":
    sys.exit(main())
