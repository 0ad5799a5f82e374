"""Filtered nearest-neighbour search: the FANNS paper's protocol (arXiv 2507.21989) and what it leaves out.

`cells` are the filters, `truth` their exact answers, `engines` who answers, `worker` one engine in its own process.
"""
