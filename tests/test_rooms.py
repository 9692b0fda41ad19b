"""Imports point one way: who may know whom, of the rooms that README draws."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "toto_patcher"
KNOWS = {
    "errors": set(),
    "supported": set(),
    "roots": {"errors"},
    "runtime": {"errors", "roots", "supported"},
    "compat": {"runtime"},
    "patching": {"errors", "__version__"},
    "equivalence": {"errors", "patching", "supported"},
    "workspace": {"errors", "patching", "results", "__version__"},
    "evidence": {
        "errors",
        "roots",
        "runtime",
        "patching",
        "equivalence",
        "workspace",
        "results",
        "progress",
        "supported",
    },
}
"""Room -> what it may import of this package."""


def imported(file: Path) -> set[str]:
    """The rooms that a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module == PACKAGE.name:
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module.split(".")[1]} if node.module.startswith(f"{PACKAGE.name}.") else set()
        elif isinstance(node, ast.Import):
            found |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith(f"{PACKAGE.name}.")}
    return found


@pytest.mark.parametrize("room", KNOWS)
def test_a_room_knows_only_those_below_it(room: str) -> None:
    files = sorted((PACKAGE / room).rglob("*.py")) or [PACKAGE / f"{room}.py"]
    strange = {file.name: sorted(imported(file) - KNOWS[room] - {room}) for file in files}
    assert {name: rooms for name, rooms in strange.items() if rooms} == {}
