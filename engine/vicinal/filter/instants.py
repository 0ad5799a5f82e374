"""Datetimes of filters and payloads: ISO 8601 text to microseconds since 1970, UTC.

Accepted: `2023-02-08`, `2023-02-08T10:49`, with seconds, up to nine digits of fraction (cut to
microseconds), a blank instead of `T`, `Z` or an offset. Without an offset the time is UTC, as in Qdrant.
"""

from __future__ import annotations

import re
from datetime import date, datetime

__all__ = ["instant_of", "parse_datetime", "parse_instant"]

_ISO = re.compile(
    r"\d{4}-\d{2}-\d{2}(?:[Tt ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,9})?)?(?:[Zz]|[+-]\d{2}:?\d{2})?)?", re.ASCII
)
_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - compared with other naive times only


def parse_datetime(text: str) -> datetime | None:
    """The datetime (naive without an offset) of ISO 8601 text, None if it is something else."""
    # the cheap test first: this runs once for every distinct string of a payload
    if text[4:5] != "-" or not _ISO.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper())
    except ValueError:  # month 13, 25 o'clock
        return None


def parse_instant(text: str) -> int | None:
    """Microseconds since 1970-01-01 UTC of ISO 8601 text, None if it is something else."""
    moment = parse_datetime(text)
    return None if moment is None else instant_of(moment)


def instant_of(moment: date) -> int:
    """Microseconds since 1970-01-01 UTC of a datetime (naive: taken as UTC) or a date (its midnight)."""
    if not isinstance(moment, datetime):
        moment = datetime(moment.year, moment.month, moment.day)  # noqa: DTZ001 - taken as UTC below
    # subtracting the offset by hand keeps years 1 and 9999 from overflowing
    since = moment.replace(tzinfo=None) - _EPOCH
    offset = moment.utcoffset()
    if offset:
        since -= offset
    return (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
