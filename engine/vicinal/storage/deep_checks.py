"""What a catalogue must hold beside sound pages: the tables of its format, numbers in range, texts and JSON objects.

An archive from elsewhere has right checksums over anything. What is checked here is what the engine reads without
looking: a payload that is no object, or a text that is no UTF-8, would stop it later, in a thread of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import orjson

from vicinal.errors import CorruptData
from vicinal.storage import catalog_schema as sql
from vicinal.storage.sqlite import one

__all__ = ["check_contents", "check_tables"]


def check_tables(connection: apsw.Connection, path: Path | str) -> None:
    """CorruptData unless tables and indexes are those of the format, and there is nothing else."""
    if one(connection, sql.FOREIGN, (sql.TABLES,)):
        raise CorruptData(f"{path}: its tables are not those of its format", field=str(path))


def check_contents(connection: apsw.Connection, path: Path | str) -> None:
    """CorruptData unless rows fit together, payloads are JSON objects and texts are UTF-8. Reads all of them."""
    for what, statement in sql.DEEP_CHECKS.items():
        if one(connection, statement):
            raise CorruptData(f"{path}: {what}", field=str(path))
    for slot, text in _rows(connection, sql.ALL_PAYLOADS):
        try:
            whole = isinstance(orjson.loads(text), dict)
        except orjson.JSONDecodeError:
            whole = False
        if not whole:
            raise CorruptData(
                f"{path}: a payload is not JSON, or no object, at slot {slot}", field=str(path), value=slot
            )
    for slot, text in _rows(connection, sql.ALL_TEXTS):
        try:
            text.decode()
        except UnicodeDecodeError as error:
            message = f"{path}: the id at slot {slot} is no text: {error.reason}"
            raise CorruptData(message, field=str(path), value=slot) from error


def _rows(connection: apsw.Connection, statement: str) -> Any:
    return connection.execute(statement)
