"""Where results go: one JSON file per suite and data set, so that a new run replaces the old one in history."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

__all__ = ["RESULTS", "every", "path", "save"]

_FOLDERS = re.compile(r"(?<=[\s\"'(])/(?:[^/\s\"']+/)+")
RESULTS = Path(__file__).parent / "results"


def path(answer: dict[str, Any], ending: str) -> Path:
    """File of a result."""
    name = "-".join(str(part) for part in (answer["suite"], answer.get("dataset")) if part)
    RESULTS.mkdir(exist_ok=True)
    return RESULTS / f"{name}.{ending}"


def save(answer: dict[str, Any]) -> Path:
    """Write the raw result as JSON; of files that a rival's failure names, only the names."""
    place = path(answer, "json")
    place.write_text(_FOLDERS.sub("", json.dumps(answer, indent=1)) + "\n")
    return place


def every(suite: str) -> list[dict[str, Any]]:
    """All kept results of a suite, by data set."""
    answers = [json.loads(place.read_text()) for place in sorted(RESULTS.glob("*.json"))]
    return [answer for answer in answers if answer["suite"] == suite]
