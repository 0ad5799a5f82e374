from datetime import UTC, date, datetime, timedelta, timezone

import pytest

from vicinal.filter.instants import instant_of, parse_instant

_SECOND = 1_000_000


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01", 0),
        ("1970-01-01T00:01", 60 * _SECOND),
        ("1970-01-01 00:00:01", _SECOND),
        ("1970-01-01t00:00:01z", _SECOND),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T01:00:00+0100", 0),
        ("1969-12-31T23:59:59.999999Z", -1),
        ("1970-01-01T00:00:00.123456789Z", 123_456),
        ("1970-01-01T00:00:00.5", 500_000),
        ("0001-01-01T00:00:00+14:00", -62_135_596_800 * _SECOND - 14 * 3600 * _SECOND),
        ("9999-12-31T23:59:59-14:00", 253_402_300_799 * _SECOND + 14 * 3600 * _SECOND),
    ],
)
def test_iso_8601_becomes_microseconds(text, instant):
    assert parse_instant(text) == instant


@pytest.mark.parametrize(
    "text",
    ["", "2020", "2020-13-01", "2020-01-32", "2020-1-1", "2020-01-01T25:00", "2020-01-01T", "20200101", "2020-W01-1",
     "2020-01-01T00:00:00+2", "x2020-01-01", "2020-01-01 ", "٢٠٢٠-01-01", "2020-01-01T00:00:00.1234567890Z"],
)  # fmt: skip
def test_other_text_is_no_datetime(text):
    assert parse_instant(text) is None


def test_dates_and_zones_are_taken():
    assert instant_of(date(1970, 1, 2)) == instant_of(datetime(1970, 1, 2)) == 86_400 * _SECOND  # noqa: DTZ001
    assert instant_of(datetime(1970, 1, 1, 2, tzinfo=timezone(timedelta(hours=2)))) == 0
    assert instant_of(datetime(1970, 1, 1, tzinfo=UTC)) == 0
