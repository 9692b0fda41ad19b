"""Walks and rewrites libcst's trees: far faster than libcst's own visitors, which would take a third of a command."""

from __future__ import annotations

from dataclasses import fields
from functools import cache, lru_cache
from typing import TypeVar, cast

import libcst as cst

N = TypeVar("N", bound=cst.CSTNode)


@cache
def _child_fields(kind: type[cst.CSTNode]) -> tuple[str, ...]:
    layout = ("whitespace", "lpar", "rpar", "comma", "leading_lines", "lines_after", "header", "footer", "trailing")
    signs = ("dot", "equal", "operator", "semicolon", "asynchronous")
    return tuple(field.name for field in fields(kind) if not field.name.startswith(layout + signs))


class _Roles(dict[type, str]):
    """What the value of a field is, by its type: asking an abstract class about each value takes far longer."""

    def __missing__(self, kind: type) -> str:
        role = self[kind] = "node" if cst.CSTNode in kind.__mro__ else "several" if kind in (list, tuple) else ""
        return role


_ROLES = _Roles()


def children(node: cst.CSTNode) -> list[cst.CSTNode]:
    """What a node directly consists of, in source order, without whitespace, comments and signs such as operators."""
    found: list[cst.CSTNode] = []
    for name in _child_fields(type(node)):
        child = getattr(node, name)
        role = _ROLES[type(child)]
        if role == "node":
            found.append(child)
        elif role:
            found += [item for item in child if _ROLES[type(item)] == "node"]
    return found


@lru_cache(maxsize=64)  # every check asks for the same class and its methods again
def _index(node: cst.CSTNode) -> tuple[tuple[cst.CSTNode, ...], dict[int, cst.CSTNode]]:
    found: list[cst.CSTNode] = []
    above: dict[int, cst.CSTNode] = {}
    left = [node]
    while left:
        node = left.pop()
        found.append(node)
        below = children(node)
        for child in below:
            above[id(child)] = node
        left += reversed(below)
    return tuple(found), above


def walk(node: cst.CSTNode) -> tuple[cst.CSTNode, ...]:
    """The node and everything below it in source order, with what ``children`` leaves out left out."""
    return _index(node)[0]


def parents(node: cst.CSTNode) -> dict[int, cst.CSTNode]:
    """The ``id`` of everything below the node -> the node directly above it."""
    return _index(node)[1]


def every(node: cst.CSTNode, *kinds: type[N]) -> list[N]:
    """What ``walk`` finds of some kinds of nodes: far faster than to ask ``isinstance`` of each."""
    return [cast(N, found) for found in walk(node) if type(found) in kinds]


def rewritten(node: cst.CSTNode, transformer: cst.CSTTransformer) -> cst.CSTNode:
    """``node.visit(transformer)`` for a transformer of code: leaves whitespace alone and copies only what changes."""
    transformer.on_visit(node)
    changes: dict[str, object] = {}
    for name in _child_fields(type(node)):
        child = getattr(node, name)
        role = _ROLES[type(child)]
        if role == "node":
            new = rewritten(child, transformer)
            if new is not child:
                changes[name] = new
        elif role:
            items = [rewritten(item, transformer) if _ROLES[type(item)] == "node" else item for item in child]
            if any(item is not old for item, old in zip(items, child, strict=True)):
                changes[name] = items
    left = transformer.on_leave(node, node.with_changes(**changes) if changes else node)
    assert _ROLES[type(left)] == "node"  # removing and splitting nodes is more than any patch here needs
    return cast(cst.CSTNode, left)
