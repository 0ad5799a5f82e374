"""One module per suite; each has `run(options) -> dict` whose answer is the committed raw result."""
