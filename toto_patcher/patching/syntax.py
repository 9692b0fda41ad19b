"""Python's own syntax trees of a checkout's files. Without libcst, so that commands that only look can use it."""

from __future__ import annotations

import ast
import functools
import warnings
from pathlib import PurePosixPath

from toto_patcher.errors import UnknownSourceError


@functools.lru_cache(maxsize=64)  # several patches ask for classes of the same files
def class_statements(source: bytes, path: PurePosixPath) -> tuple[ast.ClassDef, ...]:
    """Every class that a file defines, at whatever depth; not to be changed.

    Raises:
        UnknownSourceError: as ``parse_syntax``.
    """
    return tuple(node for node in statements(parse_syntax(source, path)) if isinstance(node, ast.ClassDef))


def statements(tree: ast.AST) -> list[ast.AST]:
    """The node and the statements below it, as ``ast.walk`` orders them, which visits every expression too."""
    found = [tree]
    for node in found:
        for name in ("body", "handlers", "orelse", "finalbody", "cases"):
            found += getattr(node, name, ())
    return found


@functools.lru_cache(maxsize=64)
def parse_syntax(source: bytes, path: PurePosixPath) -> ast.Module:
    """Parses with Python's own parser, for its better error messages.

    Raises:
        UnknownSourceError: the bytes are not Python source in their declared encoding.
    """
    hint = "Repair the file, or vendor Toto again: toto-patch vendor."
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # invalid escapes in other people's strings are not our business
            return ast.parse(source)
    except SyntaxError as error:
        raise UnknownSourceError(f"syntax error: {error.msg}", path=path, line=error.lineno, hint=hint) from error
    except (RecursionError, MemoryError) as error:  # the second is how the parser says that its own stack is full
        raise UnknownSourceError("nested too deeply to be parsed", path=path, line=1, hint=hint) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise UnknownSourceError(f"cannot be decoded: {error}", path=path, line=1, hint=hint) from error
