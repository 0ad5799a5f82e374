"""Saying that kernels are being compiled, before a command goes quiet for it."""

from __future__ import annotations

from vicinal.cli.output import note

__all__ = ["announce_compilation", "has_compiled_kernels"]


def has_compiled_kernels() -> bool:
    """Whether the kernel cache of this version and processor holds anything."""
    from vicinal.kernels import cache_folder

    folder = cache_folder()
    return folder is not None and next(folder.rglob("*.nbi"), None) is not None


def announce_compilation() -> None:
    """Say on standard error that kernels will be compiled, when none are cached yet."""
    if not has_compiled_kernels():
        note("compiling kernels for this processor, which happens once and takes some 20 s ...")
