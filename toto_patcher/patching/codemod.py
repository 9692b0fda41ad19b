"""libcst building blocks that the patches share: parse, locate, insert, and the notice of change."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

# Not libcst.matchers: importing them alone takes longer than a whole command may.
import libcst as cst

from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching import nodes
from toto_patcher.patching.notice import NOTICE_MARK

REPAIR = "Repair the file, or vendor Toto again: toto-patch vendor."
UNSUPPORTED = "Vendor a supported release (toto-patch vendor), or select patches that do not touch this class."


def parse(source: bytes, path: PurePosixPath | None = None, *, reproduced: bool = False) -> cst.Module:
    """Parses a file that libcst reproduces to the byte.

    Args:
        source: the file's bytes.
        path: its name, for messages.
        reproduced: it is known to be one: to write it out again takes as long as to parse it.

    Raises:
        UnknownSourceError: libcst cannot parse the file, or would not give back the same bytes.
    """
    try:
        module = cst.parse_module(source)
        again = source if reproduced else module.bytes
    except cst.ParserSyntaxError as error:
        raise UnknownSourceError(
            f"syntax error: {error.message}", path=path, line=error.raw_line, hint=REPAIR
        ) from error
    except (UnicodeDecodeError, LookupError, ValueError, SyntaxError) as error:  # the last: a wrong coding cookie
        raise UnknownSourceError(f"cannot be decoded: {error}", path=path, line=1, hint=REPAIR) from error
    except RecursionError as error:
        raise too_deep(path) from error
    if again != source:
        raise UnknownSourceError(
            "libcst does not reproduce this file to the byte, so nothing in it may be edited",
            path=path,
            line=_first_difference(again, source),
            hint="A form feed or an odd line ending is the usual cause; remove it first.",
        )
    return module


def too_deep(path: PurePosixPath | None) -> UnknownSourceError:
    """The refusal of a file whose syntax tree is deeper than Python's stack."""
    hint = "Split the deepest expression or block of the file into several; a generated one is the usual cause."
    return UnknownSourceError("nested too deeply to be edited", path=path, line=1, hint=hint)


def _first_difference(left: bytes, right: bytes) -> int:
    for number, (a, b) in enumerate(zip(left.split(b"\n"), right.split(b"\n"), strict=False), start=1):
        if a != b:
            return number
    return 1


def line_of(module: cst.Module, node: cst.CSTNode) -> int:
    """The 1-based line on which ``node`` starts. Slow, for error messages."""
    from libcst.metadata import MetadataWrapper, PositionProvider

    positions = MetadataWrapper(module, unsafe_skip_copy=True).resolve(PositionProvider)
    return int(positions[node].start.line)


def unmet(module: cst.Module, node: cst.CSTNode, message: str, hint: str | None = None) -> UnknownSourceError:
    """The refusal that names an unmet precondition and the line it was found on."""
    return UnknownSourceError(
        message,
        line=line_of(module, node),
        hint=hint or UNSUPPORTED,
    )


def code(node: cst.CSTNode) -> str:
    """A node's source on one line, for messages."""
    return " ".join(cst.Module([]).code_for_node(node).split())


def find_class(module: cst.Module, name: str) -> cst.ClassDef:
    """The module's top-level class of that name.

    Raises:
        UnknownSourceError: there is none, or more than one.
    """
    found = [node for node in module.body if isinstance(node, cst.ClassDef) and node.name.value == name]
    if len(found) != 1:
        raise UnknownSourceError(f"expected one top-level class {name}, found {len(found)}", line=1, hint=UNSUPPORTED)
    return found[0]


def methods(node: cst.ClassDef) -> dict[str, cst.FunctionDef]:
    """A class's own methods by name."""
    return {item.name.value: item for item in node.body.body if isinstance(item, cst.FunctionDef)}


def require_methods(module: cst.Module, node: cst.ClassDef, signatures: dict[str, tuple[str, ...]]) -> None:
    """Refuses unless the class has these methods with these parameters (``self`` left out), and others by default."""
    own = methods(node)
    for name, parameters in signatures.items():
        if name not in own:
            raise unmet(module, node, f"class {node.name.value} has no method {name}")
        given = tuple(parameter.name.value for parameter in own[name].params.params)[1:]
        more = own[name].params.params[len(parameters) + 1 :]
        if given[: len(parameters)] != parameters or any(parameter.default is None for parameter in more):
            raise unmet(
                module,
                own[name],
                f"{node.name.value}.{name} takes ({', '.join(given)}), expected ({', '.join(parameters)})",
            )


def require_import(module: cst.Module, name: str) -> None:
    """Refuses unless the module has a plain top-level ``import name``."""
    for line in module.body:
        for statement in line.body if isinstance(line, cst.SimpleStatementLine) else ():
            if isinstance(statement, cst.Import) and any(
                alias.asname is None and alias.evaluated_name == name for alias in statement.names
            ):
                return
    message = f"the module does not say `import {name}` at its top level"
    raise UnknownSourceError(message, line=1, hint=f"Add that import to the file; another alias of {name} may stay.")


def replaced(body: Sequence[cst.CSTNode], old: cst.CSTNode, new: cst.CSTNode) -> list[cst.CSTNode]:
    """A body with one of its items exchanged."""
    return [new if item is old else item for item in body]


def insertion(source: Path, class_name: str, into: cst.Module) -> list[cst.FunctionDef]:
    """The methods of a class in a patch's own source file, ready to be put into the module ``into``.

    Annotations that name anything but builtins and ``torch`` are dropped, since the other module may not know them;
    lines inside of docstrings end as the other module's lines do.
    """
    node = find_class(cst.parse_module(source.read_bytes()), class_name)
    added = [_portable(item) for item in node.body.body if isinstance(item, cst.FunctionDef)]
    if into.default_newline == "\n":
        return added
    return [cst.ensure_type(item.visit(_LineEnds(into.default_newline)), cst.FunctionDef) for item in added]


class _LineEnds(cst.CSTTransformer):
    def __init__(self, newline: str) -> None:
        super().__init__()
        self._newline = newline

    def leave_SimpleString(self, original_node: cst.SimpleString, updated_node: cst.SimpleString) -> cst.SimpleString:  # noqa: N802
        return updated_node.with_changes(value=updated_node.value.replace("\n", self._newline))


def _portable(function: cst.FunctionDef) -> cst.FunctionDef:
    given = function.params
    kinds = {
        kind: [_bare(param) for param in getattr(given, kind)] for kind in ("posonly_params", "params", "kwonly_params")
    }
    stars = {kind: getattr(given, kind) for kind in ("star_arg", "star_kwarg")}
    stars = {kind: _bare(param) for kind, param in stars.items() if isinstance(param, cst.Param)}
    returns = function.returns if _is_portable(function.returns) else None
    return function.with_changes(params=given.with_changes(**kinds, **stars), returns=returns)


def _bare(param: cst.Param) -> cst.Param:
    return param if _is_portable(param.annotation) else param.with_changes(annotation=None)


def _is_portable(annotation: cst.Annotation | None) -> bool:
    if annotation is None:
        return True
    roots = {node.value for node in nodes.every(annotation, cst.Name)}
    roots -= {node.attr.value for node in nodes.every(annotation, cst.Attribute)}
    return all(name == "torch" or hasattr(builtins, name) for name in roots)


def require_absent(module: cst.Module, node: cst.ClassDef, added: Sequence[cst.FunctionDef]) -> None:
    """Refuses if the class already binds one of the names that are to be added."""
    names = {function.name.value for function in added}
    for item in node.body.body:
        for name in _bound(item):
            if name in names:
                raise unmet(module, item, f"{node.name.value} already has {name}")


def _bound(item: cst.CSTNode) -> list[str]:
    """The names that one item of a class's body binds."""
    if isinstance(item, cst.FunctionDef | cst.ClassDef):
        return [item.name.value]
    found = []
    for part in item.body if isinstance(item, cst.SimpleStatementLine) else ():
        targets = [target.target for target in part.targets] if isinstance(part, cst.Assign) else []
        targets += [part.target] if isinstance(part, cst.AnnAssign) else []
        found += [target.value for target in targets if isinstance(target, cst.Name)]
    return found


def append_methods(node: cst.ClassDef, added: Sequence[cst.FunctionDef]) -> cst.ClassDef:
    """The class with methods added at its end, one blank line before each; comments above them come along."""
    blank = cst.EmptyLine(indent=False)
    spaced = [
        item.with_changes(leading_lines=[blank, *(line for line in item.leading_lines if line.comment is not None)])
        for item in added
    ]
    return node.with_changes(body=node.body.with_changes(body=[*node.body.body, *spaced]))


def decorate(function: cst.FunctionDef, decorator: str) -> cst.FunctionDef:
    """The function with one more decorator, outermost."""
    expression = cst.parse_expression(decorator)
    return function.with_changes(decorators=[cst.Decorator(decorator=expression), *function.decorators])


def with_notice(module: cst.Module, patches: Sequence[str]) -> cst.Module:
    """The module with a comment saying that it was changed, by which patches, and how to undo it.

    Apache-2.0 section 4(b) asks for it. It stands after the file's own leading comments, so a shebang, a coding
    cookie and a licence stay where they are.
    """
    lines = [
        f"{NOTICE_MARK}{', '.join(patches)}).",
        "# `toto-patch revert` puts the original file back, byte for byte.",
    ]
    notice = [cst.EmptyLine(indent=False, comment=cst.Comment(line)) for line in lines]
    header = list(module.header)
    end = max((number for number, line in enumerate(header, start=1) if line.comment is not None), default=0)
    blank = [cst.EmptyLine(indent=False)] if end else []
    return module.with_changes(header=[*header[:end], *blank, *notice, *header[end:]])
