"""The same code with other type annotations, or none."""

from __future__ import annotations

import re
from pathlib import Path

import libcst as cst
import libcst.matchers as m

from .base import variation
from .edit import (
    CACHE,
    add_import,
    defining,
    is_import,
    rewrite,
    rewrite_text,
    sources,
    statements,
    target_files,
    visit,
)

JAXTYPING = ("Float", "Int", "Bool", "Shaped", "Num")


def _elements(node: cst.Subscript) -> list[cst.BaseExpression]:
    return [cst.ensure_type(part.slice, cst.Index).value for part in node.slice]


class _Pep604(cst.CSTTransformer):
    """``Optional[X]`` becomes ``X | None`` and ``Union[A, B]`` becomes ``A | B``; forward references stay."""

    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> cst.BaseExpression:  # noqa: N802
        if not m.matches(updated_node.value, m.Name("Optional") | m.Name("Union")):
            return updated_node
        parts = _elements(updated_node)
        if cst.ensure_type(updated_node.value, cst.Name).value == "Optional":
            parts.append(cst.Name("None"))
        joined = parts[0]
        for part in parts[1:]:
            joined = cst.BinaryOperation(left=joined, operator=cst.BitOr(), right=part)
        return joined


def _lazy(path: Path) -> None:
    def change(module: cst.Module) -> cst.Module:
        at = next(i for i, node in enumerate(module.body) if is_import(node))
        future = statements("from __future__ import annotations\n")
        return module.with_changes(body=[*module.body[:at], *future, *module.body[at:]])

    if "from __future__ import annotations" not in path.read_text(encoding="utf-8"):
        rewrite(path, change)


@variation()
def future_annotations(root: Path) -> None:
    for path in target_files(root):
        _lazy(path)


@variation()
def pep_604(root: Path) -> None:
    for path in target_files(root):
        if re.search(r"\b(Optional|Union)\[", path.read_text(encoding="utf-8")):
            visit(path, _Pep604())
        _lazy(path)


class _WithoutJaxtyping(cst.CSTTransformer):
    def leave_Subscript(self, original_node: cst.Subscript, updated_node: cst.Subscript) -> cst.BaseExpression:  # noqa: N802
        if m.matches(updated_node.value, m.OneOf(*(m.Name(name) for name in JAXTYPING))):
            return _elements(updated_node)[0]
        return updated_node

    def leave_ImportFrom(  # noqa: N802
        self, original_node: cst.ImportFrom, updated_node: cst.ImportFrom
    ) -> cst.ImportFrom | cst.RemovalSentinel:
        if m.matches(original_node.module, m.Name("jaxtyping")):  # type: ignore[arg-type]
            return cst.RemoveFromParent()
        return updated_node


@variation()
def jaxtyping_removed(root: Path) -> None:
    for path in sources(root / "toto" / "model"):
        if "jaxtyping" in path.read_text(encoding="utf-8"):
            visit(path, _WithoutJaxtyping())


class _WithoutAnnotations(cst.CSTTransformer):
    """Drops every annotation; those of class bodies, which make dataclass fields, become ``object``."""

    def __init__(self) -> None:
        super().__init__()
        self._scopes: list[str] = ["module"]

    def visit_ClassDef(self, node: cst.ClassDef) -> None:  # noqa: N802
        self._scopes.append("class")

    def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> cst.ClassDef:  # noqa: N802
        self._scopes.pop()
        return updated_node

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802
        self._scopes.append("function")

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> cst.FunctionDef:  # noqa: N802
        self._scopes.pop()
        return updated_node.with_changes(returns=None)

    def leave_Param(self, original_node: cst.Param, updated_node: cst.Param) -> cst.Param:  # noqa: N802
        return updated_node.with_changes(annotation=None, equal=cst.MaybeSentinel.DEFAULT)

    def leave_AnnAssign(  # noqa: N802
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.BaseSmallStatement:
        if self._scopes[-1] == "class":
            return updated_node.with_changes(annotation=cst.Annotation(cst.Name("object")))
        if updated_node.value is None:
            return cst.Pass()
        return cst.Assign([cst.AssignTarget(updated_node.target)], updated_node.value)


@variation()
def annotations_dropped(root: Path) -> None:
    for path in target_files(root):
        visit(path, _WithoutAnnotations())


class _BareFields(cst.CSTTransformer):
    """``name: T = field(init=False)`` becomes ``name: "T" = field(init=False, repr=False)`` without its type."""

    def leave_AnnAssign(self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign) -> cst.AnnAssign:  # noqa: N802
        if not m.matches(updated_node, m.AnnAssign(value=m.Call(func=m.Name("field")))):
            return updated_node
        return updated_node.with_changes(
            annotation=cst.Annotation(cst.Name("object")), value=cst.parse_expression("field(init=False, repr=False)")
        )


@variation()
def dataclass_fields_without_types(root: Path) -> None:
    visit(defining(root, CACHE), _BareFields())


class _Qualified(cst.CSTTransformer):
    """``@dataclass`` becomes ``@dataclasses.dataclass`` and ``field(...)`` becomes ``dataclasses.field(...)``."""

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802
        return False

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.BaseExpression:  # noqa: N802
        if original_node.value in ("dataclass", "field"):
            return cst.Attribute(cst.Name("dataclasses"), cst.Name(original_node.value))
        return updated_node


@variation()
def dataclasses_imported_whole(root: Path) -> None:
    util = defining(root, CACHE)
    visit(util, _Qualified())
    rewrite_text(util, lambda text: text.replace("from dataclasses import dataclass, field", "import dataclasses"))


@variation()
def dataclass_with_arguments(root: Path) -> None:
    """``eq=False`` makes caches hashable and ``repr=False`` keeps tensors out of logs."""
    rewrite_text(defining(root, CACHE), lambda text: text.replace("@dataclass\n", "@dataclass(eq=False, repr=False)\n"))


@variation()
def beartype_free_tensor_alias(root: Path) -> None:
    """A local ``Tensor`` alias beside the shipped names."""
    for path in target_files(root):
        add_import(path, "from torch import Tensor as T_\n")
