"""Resident memory per engine: growth of a fresh process that opens a saved index and answers all queries.

`all` counts every resident page (VmRSS): `anonymous` ones (RssAnon), which the process needs, and those of mapped
`files` (RssFile), which the system takes back when others need memory. Both ratios are to all of hnswlib's, which
maps no file.
"""

from __future__ import annotations

import argparse
from typing import Any

from bench import datasets
from bench.engine import Engine, EngineFailed, names, saved
from bench.kept import Kept
from bench.locks import busy

__all__ = ["run"]


def run(options: argparse.Namespace) -> dict[str, Any]:
    """MB in all, anonymous and of mapped files; imports, compiled kernels and queries are in the baseline."""
    data = datasets.prepare(options.dataset)
    kept = Kept(options)
    engines: dict[str, Any] = {}
    for name in names(options):
        engines[name] = kept.get(name, _memory, name, options)
        print(name, engines[name], flush=True)
    ratios = {part: _ratios(engines, part) for part in ("all", "anonymous")}
    kept.done()
    return {
        "suite": options.suite,
        "dataset": options.dataset,
        "vectors_mb": data.base.nbytes / 2**20,
        "engines": engines,
        "counts": "all = anonymous (RssAnon) + mapped files (RssFile); ratios are to all of hnswlib's",
        "ratio_to_hnswlib": ratios["all"],
        "anonymous_to_hnswlib": ratios["anonymous"],
        "machine": kept.machine,
    }


def _ratios(engines: dict[str, Any], part: str) -> dict[str, float]:
    base = engines.get("hnswlib", {}).get("all")
    return {name: round(told[part] / base, 3) for name, told in engines.items() if part in told and base}


def _memory(name: str, options: argparse.Namespace) -> dict[str, Any]:
    try:
        folder, _ = saved(name, options)
        with busy(options.lock), Engine(name, options.dataset, options.queries, options.k) as engine:
            grown: dict[str, Any] = engine.ask("memory", folder=str(folder))
            return grown
    except EngineFailed as reason:
        return {"failed": str(reason)}
