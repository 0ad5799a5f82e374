"""The command line. `vicinal --help` loads no kernel, no server and no HTTP client."""
