"""Multi-vectors: token matrices, their fixed-dimensional encodings (proxies), and MaxSim."""
