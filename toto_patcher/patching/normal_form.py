"""The normal form of a function: two functions with the same one compute the same, however they are spelled.

Both sides are brought into it before they are compared: the release's function and the one of a vendored tree. Every
rule here keeps what a function computes. What is lost is spelling alone: annotations, casts, the text of messages,
names for values that are used once, the order of arguments given by name, branches that cannot be taken.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Mapping
from dataclasses import dataclass, field

from toto_patcher.patching import normal_blocks as blocks
from toto_patcher.patching.normal_reshape import Reshapes
from toto_patcher.patching.purity import KNOWN_PARAMETERS, SAME, is_plain, is_pure

MARK = "@"  # before the full name of something imported, which no name of Python's can be mistaken for


@dataclass(frozen=True)
class Scope:
    """What is known around a function.

    Attributes:
        origins: global name -> the full dotted name of what it was imported as, for libraries outside of the tree; the
            name there with ``=`` before it, for what the tree itself defines.
        parameters: ``self.method`` -> names of its parameters, for calls within the class.
        never: attributes of ``self`` that are false in every object that exists, for the constructor refuses others.
    """

    origins: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    never: frozenset[str] = frozenset()


def normal_form(function: ast.FunctionDef, scope: Scope) -> ast.FunctionDef:
    """A copy of the function in its normal form; the lines of its statements are those of the original."""
    made = copy.deepcopy(function)
    made.returns = None
    made.body = blocks.without_docstring(made.body)
    given = made.args
    names = {argument.arg for argument in (*given.posonlyargs, *given.args, *given.kwonlyargs)}
    names |= {extra.arg for extra in (given.vararg, given.kwarg) if extra is not None}
    names |= {node.id for node in ast.walk(made) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)}
    _Expressions(scope, frozenset(names)).visit(made)
    before = ""
    while before != (before := ast.dump(made)):
        Reshapes(made).visit(made)
        blocks.Blocks(made).visit(made)
    _drop_unused_parameters(made)
    return made


def _drop_unused_parameters(function: ast.FunctionDef) -> None:
    """Parameters with a default that nothing reads, unless dropping one would renumber another."""
    read = {node.id for node in ast.walk(function) if isinstance(node, ast.Name)}
    given = function.args
    while given.args and given.defaults and given.args[-1].arg not in read and is_pure(given.defaults[-1]):
        given.args.pop()
        given.defaults.pop()
    pairs = zip(given.kwonlyargs, given.kw_defaults, strict=True)
    kept = [(arg, default) for arg, default in pairs if default is None or arg.arg in read or not is_pure(default)]
    given.kwonlyargs, given.kw_defaults = [arg for arg, _ in kept], [default for _, default in kept]


class _Expressions(ast.NodeTransformer):
    """The rules that look at one expression, or one statement, at a time."""

    def __init__(self, scope: Scope, local: frozenset[str]) -> None:
        self._scope, self._local = scope, local

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.stmt | None:
        if node.value is None:
            return None if isinstance(node.target, ast.Name) else ast.copy_location(ast.Pass(), node)
        plain = ast.Assign(targets=[self.visit(node.target)], value=self.visit(node.value))
        return ast.copy_location(plain, node)

    def visit_Name(self, node: ast.Name) -> ast.Name:
        if node.id in self._local or node.id not in self._scope.origins:
            return node
        return _named(self._scope.origins[node.id], node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        self.generic_visit(node)
        if isinstance(node.value, ast.Name) and node.value.id.startswith(MARK):
            return _named(f"{node.value.id[1:]}.{node.attr}", node)
        own = isinstance(node.value, ast.Name) and node.value.id == "self" and isinstance(node.ctx, ast.Load)
        return ast.copy_location(ast.Constant(False), node) if own and node.attr in self._scope.never else node

    def visit_If(self, node: ast.If) -> ast.AST | list[ast.stmt]:
        self.generic_visit(node)
        node.test = blocks.condition(node.test)
        if isinstance(node.test, ast.Constant):
            return list(node.body if node.test.value else node.orelse)
        return node

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        self.generic_visit(node)
        node.test = blocks.condition(node.test)
        if isinstance(node.test, ast.Constant):
            return node.body if node.test.value else node.orelse
        return node

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        node.msg = None
        self.generic_visit(node)
        node.test = blocks.condition(node.test)
        return node

    def visit_Raise(self, node: ast.Raise) -> ast.Raise:
        self.generic_visit(node)
        if isinstance(node.exc, ast.Call) and not node.exc.keywords and all(map(is_plain, node.exc.args)):
            node.exc.args = []
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        called = node.func.id if isinstance(node.func, ast.Name) else ""
        if called == "@typing.cast" and len(node.args) == 2 and not node.keywords and is_plain(node.args[0]):
            return node.args[1]
        if called == "@warnings.warn" and node.args and is_plain(node.args[0]):
            node.args[0] = ast.copy_location(ast.Constant(""), node.args[0])
            return node
        if called.startswith("@torch.distributions."):
            node.keywords = [
                item
                for item in node.keywords
                if item.arg != "validate_args" or not isinstance(item.value, ast.Constant)
            ]
        if isinstance(node.func, ast.Attribute) and node.func.attr == "size" and not node.keywords:
            shape = ast.copy_location(ast.Attribute(node.func.value, "shape", ast.Load()), node)
            if not node.args:
                return shape
            return ast.copy_location(ast.Subscript(shape, node.args[0], ast.Load()), node)
        self._name_arguments(node)
        return node

    def _name_arguments(self, node: ast.Call) -> None:
        """All arguments by name, in the order of their names, where the callee's parameters are known."""
        if any(isinstance(value, ast.Starred) for value in node.args) or any(key.arg is None for key in node.keywords):
            return
        called = ast.unparse(node.func) if isinstance(node.func, ast.Name | ast.Attribute) else ""
        if called in self._local:
            return
        own = self._scope.parameters.get(called, ())
        names = KNOWN_PARAMETERS.get(called, own)
        if len(node.args) <= len(names):
            named = zip(names, node.args, strict=False)
            given = [ast.copy_location(ast.keyword(name, value), value) for name, value in named]
            node.keywords, node.args = [*given, *node.keywords], []
        for key in node.keywords:
            if key.arg in own:  # by place: what the parameters of a function of the tree are called does not matter
                key.arg = f"#{own.index(key.arg):02d}"
        if all(is_pure(key.value) for key in node.keywords):
            node.keywords.sort(key=lambda key: key.arg or "")


def _named(dotted: str, node: ast.expr) -> ast.Name:
    if dotted.startswith("="):
        return ast.copy_location(ast.Name(dotted[1:], ast.Load()), node)
    return ast.copy_location(ast.Name(MARK + SAME.get(dotted, dotted), ast.Load()), node)
