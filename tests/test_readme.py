"""Every Python block of the README runs as it stands, and what pages promise is where they say."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BLOCKS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
GOALS = {"A": (3, 4), "C": (1, 2), "D": range(1, 9), "H": range(1, 6), "M": (1, 2), "S": (2,)}
LINKS = re.findall(r"\]\(([^)#:]+)\)", (ROOT / "README.md").read_text() + (ROOT / "ARCHITECTURE.md").read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_blocks_run(block: str, tmp_path: Path) -> None:
    run = subprocess.run([sys.executable, "-c", block], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip()


def test_there_are_blocks() -> None:
    assert len(BLOCKS) >= 2


@pytest.mark.parametrize("link", sorted(set(LINKS)))
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("page", sorted(path.name for path in (ROOT / "docs").glob("*.md")))
def test_links_of_pages_lead_somewhere(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / "docs" / page).read_text())
    assert [link for link in links if not (ROOT / "docs" / link).exists()] == []


def test_tests_that_durability_mentions_are_there() -> None:
    mentioned = set(re.findall(r"\btest_\w+\.py\b", (ROOT / "docs" / "durability.md").read_text()))
    assert mentioned <= {path.name for path in (ROOT / "tests").rglob("test_*.py")}


def test_every_goal_of_durability_names_tests_that_there_are() -> None:
    text = (ROOT / "docs" / "durability.md").read_text()
    named = dict(re.findall(r"^\| ([A-Z]\d) \|.*\| (.+?) \|$", text, re.MULTILINE))
    assert sorted(named) == [f"{letter}{number}" for letter, numbers in GOALS.items() for number in numbers]
    for goal, tests in named.items():
        pairs = re.findall(r"\[(\w+)\.py\]\(\.\./([\w/]+\.py)\)|`(\w+)`", tests)
        assert pairs, goal
        where = ""
        for _, path, name in pairs:
            where = path or where
            assert (ROOT / where).is_file(), (goal, where)
            if name:
                assert f"def {name}(" in (ROOT / where).read_text(), (goal, where, name)
