"""vicinal in ann-benchmarks."""
