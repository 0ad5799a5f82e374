"""What commands print: results on standard output, notes and errors on standard error."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Annotated, Any

import typer

from vicinal.errors import VicinalError

__all__ = ["ApiKeyFile", "JsonFlag", "note", "print_error", "print_json", "read_key", "size_text"]

JsonFlag = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]
ApiKeyFile = Annotated[
    str | None,
    typer.Option(envvar="VICINAL_API_KEY_FILE", help="File holding the API key alone, for a server's address."),
]


def note(text: str) -> None:
    """Tell a person what is going on, on standard error."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()


def print_json(result: Any) -> None:
    """Print a result as one line of JSON; numpy values become numbers and lists."""
    import orjson

    sys.stdout.write(orjson.dumps(result, option=orjson.OPT_SERIALIZE_NUMPY).decode() + "\n")
    sys.stdout.flush()


def print_error(error: VicinalError, *, as_json: bool) -> None:
    """Print an error as one line on standard error, or as one JSON object there."""
    notes: list[str] = getattr(error, "__notes__", [])
    if not as_json:
        note("; ".join([f"error: {error.message}", *notes]).replace("\n", " "))
        return
    import orjson

    told: Mapping[str, Any] = {
        "code": error.code,
        "message": error.message,
        "field": error.field,
        "value": error.value,
        "limit": error.limit,
        "notes": notes,
    }
    note(orjson.dumps({"error": told}, default=str).decode())


def read_key(path: str | None) -> str | None:
    """Return the key in a file, without surrounding blanks; raise InvalidArgument when it cannot be read."""
    from pathlib import Path

    from vicinal.errors import InvalidArgument

    if path is None:
        return None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as cause:
        raise InvalidArgument(
            f"the API key file {path} cannot be read: {cause}", field="api_key_file", value=path
        ) from cause
    if not key:
        raise InvalidArgument(f"the API key file {path} is empty: put the key in it", field="api_key_file", value=path)
    return key


def size_text(nbytes: float) -> str:
    """Return a number of bytes as people read it: `712 B`, `3.4 MB`, `1.2 GB`."""
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:.0f} B" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:.1f} TB"
