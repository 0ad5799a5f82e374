"""File formats: vectors and payloads from files, a batch at a time.

`open_source` picks the reader by the file's suffix; see `vicinal.io.source` for what a reader gives.
"""

from __future__ import annotations

from pathlib import Path

from vicinal.errors import InvalidArgument
from vicinal.io.source import Batch, Joined, Source

__all__ = ["Batch", "Joined", "Source", "open_source"]

_SUFFIXES = (".npy", ".fvecs", ".bvecs", ".ivecs", ".parquet", ".jsonl")


def open_source(path: Path, *, id_column: str | None = None, vector_column: str | None = None) -> Source:
    """Open a file of vectors or payloads by its suffix: npy, fvecs, bvecs, ivecs, parquet, jsonl.

    `id_column` and `vector_column` apply to parquet and jsonl. Raises InvalidArgument for another suffix
    or a file that cannot be read.
    """
    suffix = path.suffix
    if suffix == ".parquet":
        from vicinal.io.parquet import ParquetSource

        return ParquetSource(path, id_column=id_column, vector_column=vector_column)
    if suffix == ".jsonl":
        from vicinal.io.jsonl import JsonlSource

        return JsonlSource(path, id_key=id_column, vector_key=vector_column)
    if suffix == ".npy":
        from vicinal.io.npy import NpySource

        return NpySource(path)
    if suffix in (".fvecs", ".bvecs", ".ivecs"):
        from vicinal.io.fvecs import VecsSource

        return VecsSource(path)
    raise InvalidArgument(
        f"{path}: files ending in {suffix or 'nothing'} are not known; give one of {', '.join(_SUFFIXES)}",
        field="path",
        value=str(path),
    )
