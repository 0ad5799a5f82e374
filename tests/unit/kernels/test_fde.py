"""The encoder's product kernel: tails, and results that do not depend on the rows beside."""

from __future__ import annotations

import numpy as np
import pytest

from vicinal.kernels import fde


@pytest.mark.parametrize("columns", [1, fde.PANEL - 1, fde.PANEL, fde.PANEL + 1])
@pytest.mark.parametrize("depth", [1, 7, 128])
def test_product_equals_numpy(depth: int, columns: int) -> None:
    rng = np.random.default_rng(depth)
    rows = rng.standard_normal((23, depth)).astype(np.float32)
    matrix = rng.standard_normal((depth, columns)).astype(np.float32)
    panels = fde.pack_panels(matrix)
    for start, stop in ((0, 23), (3, 4), (5, 18), (22, 23)):
        out = np.empty((30, panels.shape[0] * fde.PANEL), np.float32)
        fde.product(rows, start, stop, panels, out)
        expected = rows[start:stop].astype(np.float64) @ matrix.astype(np.float64)
        assert np.allclose(out[: stop - start, :columns], expected, atol=1e-4)
        alone = np.empty_like(out)
        fde.product(rows, stop - 1, stop, panels, alone)
        assert alone[0].tobytes() == out[stop - start - 1].tobytes()


def test_no_columns_make_no_panels() -> None:
    assert fde.pack_panels(np.empty((5, 0), np.float32)).shape == (0, 5, fde.PANEL)
    fde.product(
        np.ones((3, 5), np.float32), 0, 3, np.empty((0, 5, fde.PANEL), np.float32), np.empty((9, 0), np.float32)
    )


def test_count_sketch_adds_in_order() -> None:
    rng = np.random.default_rng(3)
    encodings = rng.standard_normal((2, 100)).astype(np.float32)
    columns, signs = rng.integers(0, 7, 100), rng.choice([-1.0, 1.0], 100).astype(np.float32)
    out = np.zeros((2, 7), np.float32)
    fde.add_signed(encodings, columns, signs, out)
    expected = np.zeros((2, 7), np.float32)
    for j in range(100):
        expected[:, columns[j]] += signs[j] * encodings[:, j]
    assert np.array_equal(out, expected)
