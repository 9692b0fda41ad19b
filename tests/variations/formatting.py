"""The same code in another dress: formatters, line endings, encodings, stripped text."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import black
import libcst as cst

from .base import variation
from .edit import TARGETS, defining, rewrite, rewrite_text, sources, target_files, visit

BOM = b"\xef\xbb\xbf"


class _SingleQuotes(cst.CSTTransformer):
    def leave_SimpleString(self, original_node: cst.SimpleString, updated_node: cst.SimpleString) -> cst.SimpleString:  # noqa: N802
        text = updated_node.value
        if text.startswith('"') and not text.startswith('"""') and not set("'\\") & set(text):
            return updated_node.with_changes(value=f"'{text[1:-1]}'")
        return updated_node


@variation()
def black_88_single_quotes(root: Path) -> None:
    for path in sources(root):
        text = black.format_str(path.read_text(encoding="utf-8"), mode=black.Mode(line_length=88))
        path.write_text(cst.parse_module(text).visit(_SingleQuotes()).code, encoding="utf-8")


@variation()
def black_60(root: Path) -> None:
    """Nearly every call, signature and assert spread over several lines."""
    for path in target_files(root):
        rewrite_text(path, lambda text: black.format_str(text, mode=black.Mode(line_length=60)))


def _crlf(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def _bom(path: Path) -> None:
    path.write_bytes(BOM + path.read_bytes())


@variation()
def crlf(root: Path) -> None:
    for path in sources(root):
        _crlf(path)


@variation("refused", says="does not reproduce", full_graph="does not reproduce")
def old_mac_line_ends(root: Path) -> None:
    """A lone CR ends each line: Python reads it, few editors do."""
    for path in target_files(root):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))


@variation()
def mixed_line_ends(root: Path) -> None:
    for path in target_files(root):
        lines = path.read_bytes().split(b"\n")
        path.write_bytes(b"".join(line + (b"\r\n" if n % 3 == 0 else b"\n") for n, line in enumerate(lines[:-1])))


@variation()
def bom(root: Path) -> None:
    for path in sources(root):
        _bom(path)


@variation()
def bom_and_crlf(root: Path) -> None:
    for path in sources(root):
        _crlf(path)
        _bom(path)


@variation()
def latin_1_cookie(root: Path) -> None:
    for path in target_files(root):
        head = "# -*- coding: latin-1 -*-\n# Für die Auswertung geändert\n".encode("latin-1")
        path.write_bytes(head + path.read_bytes())


@variation()
def utf_8_cookie_and_shebang(root: Path) -> None:
    for path in target_files(root):
        path.write_bytes("#!/usr/bin/env python\n# vim: set fileencoding=utf-8 : é\n".encode() + path.read_bytes())


@variation()
def tab_indented(root: Path) -> None:
    for path in target_files(root):
        rewrite(path, lambda module: module.with_changes(default_indent="\t"))


@variation()
def two_space_indented(root: Path) -> None:
    for path in target_files(root):
        rewrite(path, lambda module: module.with_changes(default_indent="  "))


@variation()
def no_final_newline(root: Path) -> None:
    for path in target_files(root):
        rewrite_text(path, lambda text: text.rstrip("\n"))


@variation()
def trailing_whitespace(root: Path) -> None:
    for path in target_files(root):
        rewrite_text(path, lambda text: re.sub(r"(?m)(?<=[:)\w])$", "  ", text))


class _WithoutDocstrings(ast.NodeTransformer):
    def visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
        return node


@variation()
def docstrings_and_comments_stripped(root: Path) -> None:
    for path in sources(root):
        tree = _WithoutDocstrings().visit(ast.parse(path.read_text(encoding="utf-8")))
        path.write_text(ast.unparse(ast.fix_missing_locations(tree)) + "\n", encoding="utf-8")


def _asserting_files(root: Path) -> list[Path]:
    return [path for path in target_files(root) if "assert " in path.read_text(encoding="utf-8")]


class _WithoutMessages(cst.CSTTransformer):
    def leave_Assert(self, original_node: cst.Assert, updated_node: cst.Assert) -> cst.Assert:  # noqa: N802
        return updated_node.with_changes(msg=None, comma=cst.MaybeSentinel.DEFAULT)


@variation()
def assert_messages_dropped(root: Path) -> None:
    for path in _asserting_files(root):
        visit(path, _WithoutMessages())


class _WithoutAsserts(cst.CSTTransformer):
    def leave_Assert(self, original_node: cst.Assert, updated_node: cst.Assert) -> cst.RemovalSentinel:  # noqa: N802
        return cst.RemoveFromParent()


@variation()
def asserts_removed(root: Path) -> None:
    for path in _asserting_files(root):
        visit(path, _WithoutAsserts())


@variation("refused", says="util.py:.*does not reproduce", full_graph="forecaster.py:.*does not reproduce")
def form_feed(root: Path) -> None:
    """libcst drops a form feed before code, so writing the module back would lose it."""
    for name in TARGETS:
        rewrite_text(defining(root, name), lambda text, name=name: text.replace(f"class {name}", f"\x0cclass {name}"))


@variation()
def form_feed_elsewhere(root: Path) -> None:
    """In a file that no patch writes it is nobody's business."""
    rewrite_text(defining(root, "TimeAwareRotaryEmbedding"), lambda text: text.replace("class Time", "\x0cclass Time"))


@variation()
def long_comment_header(root: Path) -> None:
    """A company's own licence header and a module docstring come first."""
    for path in target_files(root):
        head = "# Copyright Example GmbH\n#\n# Vendored, see THIRD_PARTY.md\n\n" + '"""Local copy."""\n\n'
        rewrite_text(path, lambda text, head=head: head + text)


@variation()
def nothing_changed(root: Path) -> None:
    """The release as published."""


@variation()
def header_removed(root: Path) -> None:
    """The first line of the file is an import."""
    for path in target_files(root):
        rewrite_text(path, lambda text: re.sub(r"(?s)\A.*?^(?=import |from )", "", text, flags=re.MULTILINE))
