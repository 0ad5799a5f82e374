"""Tables and statements of a collection's catalogue.

    meta      what the collection is (opaque to storage) and the last commit, one row
    files     committed rows of each row file, and the seq of the commit that last changed it
    points    one row per slot; `id` is the integer id - 2^63, or the UTF-8 bytes of a string id as a BLOB,
              so that 7 and "7" differ; `died` is the seq that replaced or deleted it, NULL while it lives
    payloads  versions by (slot, seq); NULL is "payload removed"; no row is "never had one"
    blocks    CRC32C of each 1,024-row block of each row file; of each snapshot, as block 0 under its name
    snapshots the newest durable snapshot of each derived structure, by name

At most one live slot per id is not a convention but the unique index `live`; `dead` serves readers of
older commits. Both are partial, so that a point is in exactly one of them.

Lists go in as arrays bound by `carray` and come out as one aggregate: a statement per batch, not per
point, and the GIL is given up once for all of it. Payloads are joined with the record separator (RFC
7464), which cannot occur raw inside JSON text; an empty item stands for NULL.
"""

from __future__ import annotations

from typing import Final

__all__ = ["APPLICATION_ID", "FORMAT", "SEQ_MAX", "TABLES"]

APPLICATION_ID: Final = 0x7669636E  # "vicn"
FORMAT: Final = 1
SEQ_MAX: Final = 1 << 62  # commits that nobody lives to see: the next number is one as well

TABLES: Final = """
CREATE TABLE meta(
    one INTEGER PRIMARY KEY CHECK (one = 1),
    config BLOB NOT NULL,
    seq INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    time REAL NOT NULL
) STRICT;
CREATE TABLE files(name TEXT PRIMARY KEY, rows INTEGER NOT NULL, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE TABLE points(
    slot INTEGER PRIMARY KEY,
    id ANY NOT NULL,
    fields INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    died INTEGER
) STRICT;
CREATE UNIQUE INDEX live ON points(id) WHERE died IS NULL;
CREATE INDEX dead ON points(id) WHERE died IS NOT NULL;
CREATE TABLE payloads(
    slot INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    payload BLOB,
    PRIMARY KEY (slot, seq)
) STRICT, WITHOUT ROWID;
CREATE TABLE blocks(
    file TEXT NOT NULL,
    block INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (file, block)
) STRICT, WITHOUT ROWID;
CREATE TABLE snapshots(name TEXT PRIMARY KEY, seq INTEGER NOT NULL) STRICT, WITHOUT ROWID;
"""

INSERT_POINTS: Final = """
INSERT INTO points(slot, id, fields, seq, died)
SELECT ?1 + c.rowid - 1, c.value, ?3, ?4, ?5 FROM carray(?2) c"""

INSERT_PAYLOADS: Final = """
INSERT INTO payloads(slot, seq, payload)
SELECT ?1 + c.rowid - 1, ?3, c.value FROM carray(?2) c WHERE c.value != x''"""

UPDATE_PAYLOAD: Final = "INSERT OR REPLACE INTO payloads(slot, seq, payload) VALUES (?, ?, ?)"

MARK_DEAD: Final = "UPDATE points SET died = ?2 WHERE slot IN (SELECT value FROM carray(?1)) AND died IS NULL"

LIVE_SLOTS: Final = """
SELECT group_concat(coalesce((SELECT slot FROM points WHERE id = c.value AND died IS NULL), -1))
FROM carray(?1) c"""

SLOTS_AT: Final = """
SELECT group_concat(coalesce(
    (SELECT slot FROM points WHERE id = c.value AND died IS NULL AND seq <= ?2),
    (SELECT slot FROM points WHERE id = c.value AND died IS NOT NULL AND seq <= ?2 AND died > ?2),
    -1))
FROM carray(?1) c"""

PAYLOADS: Final = """
SELECT CAST(group_concat(coalesce(
    (SELECT payload FROM payloads WHERE slot = c.value AND seq <= ?2 ORDER BY seq DESC LIMIT 1),
    x''), char(30)) AS BLOB)
FROM carray(?1) c"""

PAYLOAD_RANGE: Final = """
SELECT group_concat(slot), CAST(group_concat(coalesce(payload, x''), char(30)) AS BLOB)
FROM (SELECT slot, payload, max(seq) FROM payloads WHERE slot >= ?1 AND slot < ?2 AND seq <= ?3 GROUP BY slot)"""

CHANGED_SLOTS: Final = "SELECT DISTINCT slot FROM payloads WHERE slot < ?1 AND seq > ?2 ORDER BY slot"

# 16 hexadecimal digits of the biased integer id (0 for a string id) and 8 of the fields, most significant first
IDS: Final = """
SELECT unhex(group_concat(format('%016X%08X', iif(typeof(id) = 'integer', id, 0), fields), ''))
FROM (SELECT id, fields FROM points WHERE slot >= ?1 AND slot < ?2 ORDER BY slot)"""

STRINGS: Final = """
SELECT group_concat(slot), group_concat(hex(id))
FROM points WHERE slot >= ?1 AND slot < ?2 AND typeof(id) = 'blob'"""

DEAD: Final = "SELECT group_concat(slot) FROM points WHERE slot >= ?1 AND slot < ?2 AND died IS NOT NULL"

ROW_SUMS: Final = "SELECT name, rows, block, crc FROM files LEFT JOIN blocks ON file = name"

SNAPSHOT_SUMS: Final = "SELECT name, crc FROM snapshots LEFT JOIN blocks ON file = name"

LIVING: Final = "SELECT count(*) FROM points WHERE seq <= ?1 AND (died IS NULL OR died > ?1)"

FOREIGN: Final = "SELECT count(*) FROM sqlite_schema WHERE sql IS NOT NULL AND instr(?1, sql || ';') = 0"

# What is wrong when the statement gives something other than 0
DEEP_CHECKS: Final = {
    "a commit later than the last is in it": """
SELECT (SELECT count(*) FROM points, meta WHERE points.seq > meta.seq OR died > meta.seq)
     + (SELECT count(*) FROM payloads, meta WHERE payloads.seq > meta.seq)
     + (SELECT count(*) FROM files, meta WHERE files.seq > meta.seq)""",
    "a point died before it was written": "SELECT count(*) FROM points WHERE died < seq",
    "an id is neither a number nor a text": """
SELECT count(*) FROM points WHERE typeof(id) NOT IN ('integer', 'blob')""",
    "a payload belongs to no point": """
SELECT count(*) FROM payloads LEFT JOIN points USING (slot) WHERE points.slot IS NULL""",
    "a number is out of its range": """
SELECT (SELECT count(*) FROM points WHERE slot < 0 OR seq < 0 OR fields NOT BETWEEN 0 AND 0xFFFFFFFF)
     + (SELECT count(*) FROM payloads WHERE seq < 0)
     + (SELECT count(*) FROM files WHERE rows < 0 OR seq < 0)""",
    "a snapshot's name is no file name": "SELECT count(*) FROM snapshots WHERE instr(name, '/') > 0",
}

ALL_PAYLOADS: Final = "SELECT slot, payload FROM payloads WHERE payload IS NOT NULL"

ALL_TEXTS: Final = "SELECT slot, id FROM points WHERE typeof(id) = 'blob'"
