"""The rules of the house: public names, layers' edges, sizes, and what must never be imported."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import zipfile
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = sorted(p for top in ("engine", "server") for p in (ROOT / top).rglob("*.py"))
ALL_PYTHON = sorted(
    path
    for top in ("engine", "server", "tests", "bench", "docker")
    for path in (ROOT / top).rglob("*.py")
    if ".cache" not in path.relative_to(ROOT).parts  # where the benchmarks keep rivals' environments
)
FILE_LINES_MAX = 400
FUNCTION_LINES_MAX = 40
KERNEL_LINES_MAX = 90


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _rank(name: str) -> tuple[int, list[str | int]]:
    """Constants, then classes, then the rest, numbers by value: the order that the linter keeps too."""
    parts = [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", name)]
    return (0 if name.isupper() and len(name) > 1 else 1 if name[0].isupper() else 2), parts


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_public_names_are_sorted_and_exist(path: Path) -> None:
    tree = ast.parse(path.read_text())
    listed = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
    ]
    if not listed:
        public = [n.name for n in tree.body if isinstance(n, ast.FunctionDef | ast.ClassDef) and n.name[0] != "_"]
        assert not public or path.name == "__main__.py", f"{_name(path)} has no __all__ but defines {public}"
        return
    assert listed[0] == sorted(listed[0], key=_rank), f"__all__ of {_name(path)} is not sorted"
    module = import_module(_module(path))
    missing = [name for name in listed[0] if not hasattr(module, name)]
    assert not missing, f"{_name(path)} lists names it does not have"


@pytest.mark.parametrize("path", ALL_PYTHON, ids=_name)
def test_files_and_functions_stay_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= FILE_LINES_MAX
    limit = KERNEL_LINES_MAX if "kernels" in path.parts else FUNCTION_LINES_MAX
    long = {
        node.name: size
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (size := _body_lines(node)) > limit
    }
    assert not long, f"functions of {_name(path)} over {limit} lines"


def _body_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring: explaining must not cost room."""
    first = node.body[0]
    documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
    docstring = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
    return (node.end_lineno or 0) - node.lineno + 1 - docstring


@pytest.mark.parametrize("path", ALL_PYTHON, ids=_name)
def test_nothing_can_run_code_from_a_file(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {a.name.partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.Import) for a in n.names}
    imported |= {(n.module or "").partition(".")[0] for n in ast.walk(tree) if isinstance(n, ast.ImportFrom)}
    assert not imported & {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    allowed = [
        k.arg
        for n in ast.walk(tree)
        if isinstance(n, ast.Call)
        for k in n.keywords
        if k.arg == "allow_pickle" and not (isinstance(k.value, ast.Constant) and k.value.value is False)
    ]
    assert not allowed


def test_importing_the_package_stays_light() -> None:
    heavy = ("numba", "httpx", "fastapi", "pyarrow", "typer", "rich", "apsw")
    probe = f"import sys, vicinal; print([m for m in {heavy!r} if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_the_wheel_holds_exactly_two_packages(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    tops = {name.partition("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    packages = {top for top in tops if not top.endswith(".dist-info")}
    assert packages == {"vicinal", "vicinal_server"}


def test_source_roots_are_not_packages() -> None:
    assert not (ROOT / "engine" / "__init__.py").exists()
    assert not (ROOT / "server" / "__init__.py").exists()
