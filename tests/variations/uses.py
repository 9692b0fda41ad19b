"""Names of the probes, for the parent process, which must not import torch."""

from __future__ import annotations

import ast
from pathlib import Path


def _names() -> tuple[str, ...]:
    tree = ast.parse(Path(__file__).with_name("probes.py").read_bytes())
    return tuple(
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(isinstance(mark, ast.Name) and mark.id == "probe" for mark in node.decorator_list)
    )


PROBES = _names()
