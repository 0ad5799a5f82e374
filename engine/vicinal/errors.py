"""Every error the engine raises on purpose, one tree.

    VicinalError
    ├── InvalidArgument (ValueError)     a value the caller sent is wrong; nothing was written
    │   ├── InvalidVector                shape, dtype, NaN, infinity, zero under cosine
    │   ├── InvalidId                    not a u64 or a string of 1..512 bytes, or twice in a batch
    │   ├── InvalidPayload               not JSON, or too large
    │   ├── UnknownMetric                neither built in nor registered in this process
    │   └── InvalidFilter                malformed, too deep, too wide
    ├── LimitExceeded (ValueError)       a bound of limits.py
    ├── NotFound (LookupError)           collection or field unknown
    ├── AlreadyExists                    collection exists
    ├── Unauthorized                     no key, or the wrong one
    ├── DatabaseLocked                   another process holds the directory
    ├── FormatTooNew                     written by a newer version
    ├── CorruptData                      a checksum or a length is wrong; says which file and where
    ├── ReadOnly                         opened read-only, or a sync failed
    ├── StorageFull                      disk or memory budget used up; reads go on
    ├── Unavailable                      shutting down, overloaded or unreachable
    └── Closed                           the database was closed

Each carries `code` (stable, for programs) and, where they apply, `field`, `value` and `limit`.
"""

from __future__ import annotations

from typing import Any, ClassVar

__all__ = [
    "AlreadyExists",
    "Closed",
    "CorruptData",
    "DatabaseLocked",
    "FormatTooNew",
    "InvalidArgument",
    "InvalidFilter",
    "InvalidId",
    "InvalidPayload",
    "InvalidVector",
    "LimitExceeded",
    "NotFound",
    "ReadOnly",
    "StorageFull",
    "Unauthorized",
    "Unavailable",
    "UnknownMetric",
    "VicinalError",
]

_SHOWN = 120


def _short(value: Any) -> str:
    """The value as text for a message: one line, bounded."""
    text = repr(value)
    return text if len(text) <= _SHOWN else text[: _SHOWN - 1] + "…"


class VicinalError(Exception):
    """Base of every error of the engine.

    `message` says what is wrong and how to mend it; `field`, `value` and `limit` name the culprit
    so that a program, or the HTTP layer, can show them apart.
    """

    code: ClassVar[str] = "internal"

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        value: Any = None,
        limit: Any = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.value = None if value is None else _short(value)
        self.limit = limit


class InvalidArgument(VicinalError, ValueError):
    """A value the caller sent is wrong."""

    code = "invalid_argument"


class InvalidVector(InvalidArgument):
    """A vector of wrong shape or dtype, with NaN or infinity, or of length zero under cosine."""

    code = "invalid_vector"


class InvalidId(InvalidArgument):
    """An id that is neither a u64 nor a string of 1..512 bytes, or that occurs twice in a batch."""

    code = "invalid_id"


class InvalidPayload(InvalidArgument):
    """A payload that is not a JSON object, or is too large."""

    code = "invalid_payload"


class UnknownMetric(InvalidArgument):
    """A metric that is neither built in nor registered in this process."""

    code = "unknown_metric"


class InvalidFilter(InvalidArgument):
    """A filter that cannot be understood, is too deep or too wide."""

    code = "invalid_filter"


class LimitExceeded(VicinalError, ValueError):
    """A bound of `vicinal.limits` was passed."""

    code = "limit_exceeded"


class NotFound(VicinalError, LookupError):
    """The named collection or vector field does not exist."""

    code = "not_found"


class AlreadyExists(VicinalError):
    """A collection of that name exists."""

    code = "already_exists"


class Unauthorized(VicinalError):
    """The API key is missing or wrong."""

    code = "unauthorized"


class DatabaseLocked(VicinalError):
    """Another process holds the data directory."""

    code = "database_locked"


class FormatTooNew(VicinalError):
    """The directory was written by a newer version of the engine."""

    code = "format_too_new"


class CorruptData(VicinalError):
    """A file does not hold what its checksum or the catalogue says."""

    code = "corrupt_data"


class ReadOnly(VicinalError):
    """Writes are refused: opened read-only, or a sync failed and the directory must be reopened."""

    code = "read_only"


class StorageFull(VicinalError):
    """The disk or the memory budget is used up; reads go on."""

    code = "storage_full"


class Unavailable(VicinalError):
    """The service is shutting down, overloaded or cannot be reached."""

    code = "unavailable"


class Closed(VicinalError):
    """The database was closed."""

    code = "closed"
