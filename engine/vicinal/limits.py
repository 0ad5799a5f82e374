"""Every bound of the engine, one constant each, with its reason."""

from __future__ import annotations

from typing import Final

# Vectors and ids
DIM_MAX: Final = 8_192  # 32 KiB per float32 row; no embedding model in use is wider
INT8_CODE_DIM_MAX: Final = 56  # dimensions of 8 bits that a code line of 64 bytes holds beside its constants
SHARE_MIN: Final = 0.001  # of a length: float32 tells cosines apart by about the square of this
SHARE_MAX: Final = 0.5  # wider groups cost searches more than they save
QUERY_TOKENS_MAX: Final = 1 << 14  # tokens of one query: its table of products with centroids takes 512 MiB then
POOLING_MAX: Final = 1_000  # tokens that one takes the place of
PROXY_DIM_MAX: Final = 1 << 16  # numbers of one fixed dimensional encoding
FIELDS_MAX: Final = 32  # vector fields of a collection; their presence is one bit mask
SLOTS_MAX: Final = (1 << 31) - 2  # slots are u32 and kernels keep one bit beside the slot
ID_MAX: Final = (1 << 64) - 1
ID_BYTES_MAX: Final = 512  # a string id is an index key of the catalogue
PAYLOAD_BYTES_MAX: Final = 64 * 1024  # read with every hit; larger documents belong in a store
BATCH_POINTS_MAX: Final = 100_000  # one commit holds the batch in memory
NAME_PATTERN: Final = r"[A-Za-z0-9_-]{1,64}"  # collections, fields: safe as file and path parts

# Queries
K_MAX: Final = 10_000
EF_MAX: Final = 4_096
CANDIDATES_MAX: Final = 100_000
QUERY_BATCH_MAX: Final = 10_000
SCROLL_MAX: Final = 10_000
FACET_MAX: Final = 10_000

# Filters: walked recursively, so depth bounds the stack; nodes and values bound the work
FILTER_DEPTH_MAX: Final = 16
FILTER_NODES_MAX: Final = 256
FILTER_VALUES_MAX: Final = 10_000
FILTER_TEXT_MAX: Final = 64 * 1024

SORTED_BYTES_MAX: Final = 1 << 30  # of the sorted sides of a collection's columns; scans answer for the rest

# Graph
M_MIN: Final = 2
M_MAX: Final = 128
EF_CONSTRUCTION_MAX: Final = 4_096

# Tail: points committed and not yet in the graph, scanned exactly
TAIL_SOFT_BYTES: Final = (
    32 * 1024 * 1024
)  # scanned in some milliseconds: below, the indexer lets a burst of writes pass
TAIL_HARD_BYTES: Final = 512 * 1024 * 1024  # writers wait from here
EXACT_BELOW_ROWS: Final = 2_000  # a scan of so few rows beats walking a graph and is exact

# Compaction: rewriting a collection without its dead slots, in the background
COMPACT_SHARE: Final = 0.25  # of the slots, above which the dead are worth a rewrite
COMPACT_ROWS_MIN: Final = 1024  # fewer dead slots, or replaced payloads, cost nothing
COMPACT_PAYLOADS: Final = 1.0  # replaced payloads per slot: a rewrite builds graphs anew, which costs more than disk

# HTTP
BODY_JSON_MAX: Final = 32 * 1024 * 1024  # floats grow about eightfold while JSON is decoded
BODY_BINARY_MAX: Final = 256 * 1024 * 1024
IN_FLIGHT_MAX: Final = 256  # requests admitted at once, 503 beyond
BODY_SECONDS_MAX: Final = 30.0  # a slower sender holds a connection, not a worker
