"""Tools of the generators: find files and classes in the real tree and rewrite them. Holds none of its code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import libcst as cst
import libcst.matchers as m

CACHE = "KVCache"
ATTENTION = "BaseMultiheadAttention"
FORECASTER = "TotoForecaster"
BACKBONE_FILE = "TotoBackbone"
TARGETS = (CACHE, ATTENTION, FORECASTER, "Toto")


def sources(root: Path) -> list[Path]:
    """Every python file under the root, sorted."""
    return sorted(root.rglob("*.py"))


def defining(root: Path, class_name: str) -> Path:
    """The first file that defines the class."""
    needle = re.compile(rf"^class {class_name}\b", re.MULTILINE)
    return next(path for path in sources(root) if needle.search(path.read_text(encoding="utf-8")))


def target_files(root: Path) -> list[Path]:
    """The files that define the classes that patches change."""
    return [defining(root, name) for name in TARGETS]


def rewrite(path: Path, change: Callable[[cst.Module], cst.Module]) -> None:
    """Parses, changes and writes one file; a change that changes nothing is a broken generator."""
    before = path.read_bytes()
    after = change(cst.parse_module(before)).bytes
    assert after != before, f"nothing changed in {path.name}"
    path.write_bytes(after)


def rewrite_text(path: Path, change: Callable[[str], str]) -> None:
    """The same on text; line endings are kept as they are."""
    before = path.read_bytes()
    after = change(before.decode("utf-8")).encode("utf-8")
    assert after != before, f"nothing changed in {path.name}"
    path.write_bytes(after)


def visit(path: Path, transformer: cst.CSTTransformer) -> None:
    """Rewrites one file with a libcst transformer."""
    rewrite(path, lambda module: module.visit(transformer))


def statement(code: str) -> cst.BaseStatement:
    """One parsed statement."""
    return cst.parse_statement(code)


def statements(code: str) -> list[cst.BaseStatement]:
    """Several parsed statements."""
    return list(cst.parse_module(code).body)  # type: ignore[arg-type]


def in_class(path: Path, class_name: str, change: Callable[[cst.ClassDef], cst.ClassDef]) -> None:
    """Rewrites one class of a file."""

    class Visitor(cst.CSTTransformer):
        def leave_ClassDef(self, original_node: cst.ClassDef, updated_node: cst.ClassDef) -> cst.ClassDef:  # noqa: N802
            return change(updated_node) if original_node.name.value == class_name else updated_node

    visit(path, Visitor())


def in_method(
    path: Path, class_name: str, method: str | None, change: Callable[[cst.FunctionDef], cst.FunctionDef]
) -> None:
    """Rewrites one method of a class, or every method when none is named."""

    def edit(node: cst.ClassDef) -> cst.ClassDef:
        body = [
            change(part) if isinstance(part, cst.FunctionDef) and method in (None, part.name.value) else part
            for part in node.body.body
        ]
        return node.with_changes(body=node.body.with_changes(body=body))

    in_class(path, class_name, edit)


def add_methods(path: Path, class_name: str, code: str) -> None:
    """Appends methods to a class."""
    extra = statements(code)
    in_class(
        path, class_name, lambda node: node.with_changes(body=node.body.with_changes(body=[*node.body.body, *extra]))
    )


def prepend(function: cst.FunctionDef, code: str) -> cst.FunctionDef:
    """Puts statements first in a function, after its docstring."""
    body = list(function.body.body)
    at = 1 if function.get_docstring() is not None else 0
    return function.with_changes(body=function.body.with_changes(body=[*body[:at], *statements(code), *body[at:]]))


def before_return(function: cst.FunctionDef, code: str) -> cst.FunctionDef:
    """Puts statements before a function's last statement when it returns, else at its end."""
    body = list(function.body.body)
    returns = m.matches(body[-1], m.SimpleStatementLine(body=[m.AtLeastN(n=0), m.Return()]))
    at = len(body) - 1 if returns else len(body)
    return function.with_changes(body=function.body.with_changes(body=[*body[:at], *statements(code), *body[at:]]))


def is_import(node: cst.CSTNode) -> bool:
    """True for a line of imports and for ``if TYPE_CHECKING:``."""
    return m.matches(node, m.If(test=m.Name("TYPE_CHECKING"))) or m.matches(
        node, m.SimpleStatementLine(body=[m.Import() | m.ImportFrom()])
    )


def is_future(node: cst.CSTNode) -> bool:
    """True for ``from __future__ import ...``."""
    return m.matches(node, m.SimpleStatementLine(body=[m.ImportFrom(module=m.Name("__future__"))]))


def names_of(nodes: Iterable[cst.CSTNode]) -> set[str]:
    """Every name that the nodes mention."""
    return {name.value for node in nodes for name in m.findall(node, m.Name())}  # type: ignore[attr-defined]


def add_import(path: Path, code: str) -> None:
    """Adds an import after the file's first import."""

    def change(module: cst.Module) -> cst.Module:
        at = next(i for i, node in enumerate(module.body) if is_import(node) and not is_future(node))
        return module.with_changes(body=[*module.body[:at], *statements(code), *module.body[at:]])

    rewrite(path, change)
