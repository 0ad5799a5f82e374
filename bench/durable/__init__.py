"""One script per store, each run in an interpreter of its own: insert rows in batches, each durable before the next."""
