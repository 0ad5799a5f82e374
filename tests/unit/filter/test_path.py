import pytest

from vicinal.errors import InvalidFilter
from vicinal.filter.path import KEY_TEXT_MAX, parse_key, render_path


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("year", ("year",)),
        ("country.name", ("country", "name")),
        ("tags[]", ("tags", None)),
        ("a[][].b", ("a", None, None, "b")),
        ('"a.b".c', ("a.b", "c")),
        ('""', ("",)),
        ("update-date", ("update-date",)),
        ("größe", ("größe",)),
        ("with blank", ("with blank",)),
    ],
)
def test_keys_are_read_and_rendered(key, path):
    assert parse_key(key) == path
    assert render_path(path) == key


@pytest.mark.parametrize(
    "key", ["", ".", "a.", ".a", "a..b", "a[0]", "a[", "a]", '"a', 'a"b', "[]", 'a"b"', "x" * (KEY_TEXT_MAX + 1)]
)
def test_malformed_keys_are_refused(key):
    with pytest.raises(InvalidFilter, match="key"):
        parse_key(key)
