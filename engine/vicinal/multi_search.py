"""Search one multi-vector field: proxies find candidates, exact MaxSim orders them (MUVERA, arXiv 2405.19504).

Few matches are compared exactly at once. Slots whose proxy is not in the graph yet (the tail) are re-ranked too,
so a point is found by the next query after its upsert.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vicinal import limits
from vicinal.fields import encoder_options
from vicinal.multivector.fde import FixedDimensionalEncoder
from vicinal.multivector.search import exact_maxsim, rerank_slots
from vicinal.planner import Target, plan_search, search
from vicinal.schema import Multi
from vicinal.types import Bits, Metric, Rerank
from vicinal.view import MultiView, slots_from_bits

__all__ = ["search_multi"]

Answer = tuple[NDArray[np.uint32], NDArray[np.float32], dict[str, Any]]
