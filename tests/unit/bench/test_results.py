"""Kept results name no folder of the machine they were measured on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bench import results


def test_failures_name_files_without_their_folders(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    told = "RuntimeError: Failed to open file /home/me/a.b/index.pb"
    place = results.save({"suite": "memory", "engines": {"x": {"failed": told}}, "rate": "queries/second, 1/2"})
    kept = json.loads(place.read_text())
    assert kept["engines"]["x"]["failed"] == "RuntimeError: Failed to open file index.pb"
    assert kept["rate"] == "queries/second, 1/2"


@pytest.mark.parametrize("place", sorted(results.RESULTS.glob("*.json")), ids=lambda p: p.name)
def test_no_kept_result_names_one(place: Path) -> None:
    assert not results._FOLDERS.search(place.read_text())
