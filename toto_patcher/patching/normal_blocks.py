"""The rules of normal forms that look at several statements: what is dead goes, what is used once moves to its use."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator, Sequence

from toto_patcher.patching.purity import is_plain, is_pure

# The constructor refuses to make an attention with any other.
BOTH_AXES = {f"self.attention_axis == AttentionAxis.{axis}" for axis in ("TIME", "SPACE")}


def without_docstring(body: list[ast.stmt]) -> list[ast.stmt]:
    """A body without its first statement, where that is a docstring."""
    first = body[0] if body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        return body[1:]
    return body


def condition(test: ast.expr) -> ast.expr:
    """A test of which only the truth counts, without the parts that are known."""
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        inner = condition(test.operand)
        if isinstance(inner, ast.Constant):
            return ast.copy_location(ast.Constant(not inner.value), test)
        return ast.copy_location(ast.UnaryOp(ast.Not(), inner), test)
    if not isinstance(test, ast.BoolOp):
        return test
    deciding = isinstance(test.op, ast.Or)
    parts: list[ast.expr] = []
    for part in map(condition, test.values):
        if not isinstance(part, ast.Constant):
            parts.append(part)
        elif bool(part.value) is deciding:
            if all(map(is_pure, parts)):
                return ast.copy_location(ast.Constant(deciding), test)
            parts.append(part)
            break
    if not parts:
        return ast.copy_location(ast.Constant(not deciding), test)
    return parts[0] if len(parts) == 1 else ast.copy_location(ast.BoolOp(test.op, parts), test)


class Blocks(ast.NodeTransformer):
    """One round of the rules over every block of a function; it is repeated until nothing changes."""

    def __init__(self, function: ast.FunctionDef) -> None:
        names = [node for node in ast.walk(function) if isinstance(node, ast.Name)]
        self._loads = Counter(node.id for node in names if isinstance(node.ctx, ast.Load))
        self._stores = Counter(node.id for node in names if not isinstance(node.ctx, ast.Load))
        self._parameters = {argument.arg for argument in ast.walk(function) if isinstance(argument, ast.arg)}
        self._fixed: set[str] = set()  # seen by other ways than by their places in this function's statements
        for node in ast.walk(function):
            if isinstance(node, ast.Global | ast.Nonlocal):
                self._fixed |= set(node.names)
            elif isinstance(node, ast.ExceptHandler | ast.alias):
                self._fixed |= {node.name or "", getattr(node, "asname", None) or ""}
            elif isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
                self._loads[node.target.id] += 1  # it reads what it changes
            elif isinstance(node, ast.Lambda | ast.GeneratorExp | ast.FunctionDef) and node is not function:
                self._fixed |= {below.id for below in ast.walk(node) if isinstance(below, ast.Name)}
        self._guarded = any(isinstance(node, ast.Try) for node in ast.walk(function))
        self._always_true = set(self._constants(function))

    def _constants(self, function: ast.FunctionDef) -> Iterator[str]:
        """Names that only ever hold a constant that is true."""
        given: Counter[str] = Counter()
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value:
                given.update(target.id for target in node.targets if isinstance(target, ast.Name))
        yield from (
            name
            for name, count in given.items()
            if count == self._stores[name] and name not in self._fixed | self._parameters
        )

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Every block of the node, from the innermost outwards."""
        super().generic_visit(node)
        for name in ("body", "orelse", "finalbody"):
            block = getattr(node, name, None)
            if isinstance(block, list):
                setattr(node, name, self._block(block))
        return node

    def visit_If(self, node: ast.If) -> ast.If:
        """The second of two cases that are all there are needs no test, and what follows it is never reached."""
        if len(node.orelse) == 1 and isinstance(other := node.orelse[0], ast.If):
            cases = {ast.unparse(node.test), ast.unparse(other.test)}
            never = not other.orelse or (len(other.orelse) == 1 and isinstance(other.orelse[0], ast.Raise))
            if cases == BOTH_AXES and never:
                node.orelse = other.body
        self.generic_visit(node)
        return node

    def _block(self, block: list[ast.stmt]) -> list[ast.stmt]:
        kept = list(_hoisted([node for node in block if not self._is_nothing(node)]))
        number = 0
        while number + 1 < len(kept):
            if self._goes(kept[number], kept[number + 1]):
                del kept[number]
                number = max(number - 1, 0)
            else:
                number += 1
        return kept

    def _goes(self, node: ast.stmt, after: ast.stmt) -> bool:
        """Whether an assignment is not needed: the name gets another value, or its value was moved to its only use."""
        name = _assigned_name(node)
        if name is None or name in self._fixed or not isinstance(node, ast.Assign):
            return False
        if is_plain(node.value) and _always_assigns(after, name):
            return True
        only = self._stores[name] == self._loads[name] == 1 and name not in self._parameters
        use = _first_use(after, name) if only or self._ends(after, name) else None
        if use is not None:
            _Replacement(use, node.value).visit(after)
        return use is not None

    def _ends(self, after: ast.stmt, name: str) -> bool:
        """Whether a statement is the last that can see the value a name has before it, and reads it once."""
        reads = [node for node in ast.walk(after) if isinstance(node, ast.Name) and node.id == name]
        ends = isinstance(after, ast.Return) or _assigned_name(after) == name
        return ends and not self._guarded and sum(isinstance(node.ctx, ast.Load) for node in reads) == 1

    def _is_nothing(self, node: ast.stmt) -> bool:
        if isinstance(node, ast.Pass):
            return True
        if isinstance(node, ast.Expr):
            return isinstance(node.value, ast.Constant)
        if isinstance(node, ast.Assert):
            return isinstance(node.test, ast.Name) and node.test.id in self._always_true
        if not isinstance(node, ast.Assign) or len(node.targets) != 1 or not is_pure(node.value):
            return False
        target = node.targets[0]
        parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        names = [part.id for part in parts if isinstance(part, ast.Name)]
        return len(names) == len(parts) and not any(self._loads[name] or name in self._fixed for name in names)


def _hoisted(block: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """``if a: return b`` and what follows, for ``if a: return b`` with an ``else``."""
    for node in block:
        if isinstance(node, ast.If) and node.orelse and isinstance(node.body[-1], ast.Return | ast.Raise):
            rest, node.orelse = node.orelse, []
            yield node
            yield from rest
        else:
            yield node


def _assigned_name(node: ast.stmt) -> str | None:
    if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
        return node.targets[0].id
    return None


def _always_assigns(node: ast.stmt, name: str) -> bool:
    """Whether a statement gives the name another value on every path before anything can read it."""
    if isinstance(node, ast.If):
        branches = [node.body, node.orelse]
        read = any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.test))
        return not read and all(len(branch) == 1 and _always_assigns(branch[0], name) for branch in branches)
    if not isinstance(node, ast.Assign):
        return False
    read = any(isinstance(part, ast.Name) and part.id == name for part in ast.walk(node.value))
    return _assigned_name(node) == name and not read


def _first_use(statement: ast.stmt, name: str) -> ast.Name | None:
    """The use of the name in a statement, if it is always reached, and nothing with an effect is evaluated before."""
    for part in _evaluated(statement):
        if isinstance(part, ast.Name) and part.id == name and isinstance(part.ctx, ast.Load):
            return part
        if not isinstance(part, ast.Name | ast.Attribute | ast.Constant | ast.Slice):
            return None
    return None


def _evaluated(node: ast.AST | None) -> Iterator[ast.AST]:
    """Expressions in the order in which they are complete; ends at the first that may not be reached."""
    if isinstance(node, ast.Return | ast.Expr | ast.Assign):
        yield from _evaluated(node.value)
        yield _END
    elif isinstance(node, ast.If):
        yield from _evaluated(node.test)
        yield _END
    elif isinstance(node, ast.For):
        yield from _evaluated(node.iter)
        yield _END
    elif isinstance(node, ast.Name | ast.Constant):
        yield node
    elif isinstance(node, ast.Attribute):
        yield from _evaluated(node.value)
        yield node
    elif isinstance(node, ast.Call):
        yield from _evaluated(node.func)
        for value in (*node.args, *(key.value for key in node.keywords)):
            yield from _evaluated(value.value if isinstance(value, ast.Starred) else value)
        yield node
    elif isinstance(node, ast.BinOp):
        yield from _evaluated(node.left)
        yield from _evaluated(node.right)
        yield node
    elif isinstance(node, ast.UnaryOp):
        yield from _evaluated(node.operand)
        yield node
    elif isinstance(node, ast.Subscript):
        yield from _evaluated(node.value)
        yield from _evaluated(node.slice)
        yield node
    elif isinstance(node, ast.Tuple | ast.List):
        for item in node.elts:
            yield from _evaluated(item)
    elif isinstance(node, ast.Compare):
        yield from _evaluated(node.left)
        yield from _evaluated(node.comparators[0])
        yield _END
    elif isinstance(node, ast.IfExp):
        yield from _evaluated(node.test)
        yield _END
    elif isinstance(node, ast.BoolOp):
        yield from _evaluated(node.values[0])
        yield _END
    else:
        yield _END


_END = ast.Pass()


class _Replacement(ast.NodeTransformer):
    def __init__(self, use: ast.Name, value: ast.expr) -> None:
        self._use, self._value = use, value

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self._value if node is self._use else node
