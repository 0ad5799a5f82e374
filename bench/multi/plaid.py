"""fast-plaid: PLAID in Rust and torch, on the processor, with its defaults of 4 bits.

It wants the torch that its wheel was made for, so it runs under an interpreter of its own; see `bench.multi.worker`.
"""

from __future__ import annotations

import shutil
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from bench.multi.base import Floats, MultiEngine
from bench.multi.sets import MultiSet


class FastPlaid(MultiEngine):
    """Settings: cells probed, then documents scored."""

    package = "fast-plaid"

    def build(self, data: MultiSet, folder: Path) -> None:
        """Index all documents, or open what is there."""
        import torch
        from fast_plaid import search

        torch.set_num_threads(1)
        self.folder, marked = folder, folder / "complete"
        if not marked.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
        self.index = search.FastPlaid(index=str(folder / "index"), device="cpu")
        if not marked.exists():
            self.index.create(documents_embeddings=[torch.from_numpy(matrix) for matrix in data.matrices()], nbits=4)
            marked.touch()
        self.torch = torch

    def settings(self, data: MultiSet, k: int) -> list[Any]:  # noqa: ARG002 - its own grid
        """Its default (8, 4096) within a grid; more documents than there are would change nothing."""
        documents = [count for count in (256, 1024, 4096, 16384) if count < 4 * len(data.ends)]
        return sorted(product((2, 4, 8, 16, 32), documents), key=prod)

    def query(self, tokens: Floats, k: int) -> Any:
        """Search one query."""
        cells, documents = self.setting
        asked = self.torch.from_numpy(np.ascontiguousarray(tokens))[None]
        found = self.index.search(
            asked, top_k=k, n_ivf_probe=cells, n_full_scores=documents, show_progress=False, n_processes=1
        )
        return [number for number, _ in found[0]]

    def bytes_used(self) -> int:
        """Bytes of its files, which it reads into memory."""
        return sum(file.stat().st_size for file in self.folder.rglob("*") if file.is_file())
