"""What the processor can do, as numba will compile for it.

The constants are read once, at import, and honour NUMBA_CPU_NAME and NUMBA_CPU_FEATURES.
"""

from __future__ import annotations

from typing import Final

import llvmlite.binding as llvm
from numba.core import config

__all__ = ["HAS_AVX2", "HAS_AVX512", "HAS_VBMI2", "HAS_VNNI", "HAS_VPOPCNT", "NAME"]

# What LLVM takes for granted of processors a user may name together with NUMBA_CPU_FEATURES (which may be empty);
# any other name counts for nothing, which selects portable bodies.
_AVX2 = ("avx2", "fma")
_AVX512 = (*_AVX2, "avx512f", "avx512bw", "avx512dq", "avx512vl")
_VNNI = (*_AVX512, "avx512vnni", "avx512vpopcntdq", "avx512vbmi2")
_OF_NAME = {
    "haswell": _AVX2,
    "znver3": _AVX2,
    "skylake-avx512": _AVX512,
    "icelake-server": _VNNI,
    "sapphirerapids": _VNNI,
    "znver4": _VNNI,
    "znver5": _VNNI,
}


def _features() -> frozenset[str]:
    """The features in force: the host's unless NUMBA_CPU_FEATURES is set, then those and the named processor's."""
    if config.CPU_FEATURES is None:  # numba takes the host's features even when it is given another name
        return frozenset(f for f, present in llvm.get_host_cpu_features().items() if present)
    given = [f for f in config.CPU_FEATURES.split(",") if f]
    implied = frozenset(_OF_NAME.get(config.CPU_NAME or "", ()))
    return (implied | {f[1:] for f in given if f[0] == "+"}) - {f[1:] for f in given if f[0] == "-"}


_have = _features()

# LLVM's name of the processor
NAME: Final[str] = config.CPU_NAME if config.CPU_NAME not in (None, "host") else llvm.get_host_cpu_name()
HAS_AVX2: Final[bool] = {"avx2", "fma"} <= _have
# 512-bit bodies over floats, bytes and masks
HAS_AVX512: Final[bool] = {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= _have
# vpdpbusd on 512 bits
HAS_VNNI: Final[bool] = HAS_AVX512 and "avx512vnni" in _have
# compression of bytes
HAS_VBMI2: Final[bool] = HAS_AVX512 and "avx512vbmi2" in _have
# population count on 512 bits
HAS_VPOPCNT: Final[bool] = HAS_AVX512 and "avx512vpopcntdq" in _have
