"""Benchmarks: `python -m bench.run SUITE`. Nothing here is installed with the package."""
