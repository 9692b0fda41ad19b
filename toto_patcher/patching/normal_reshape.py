"""The rule of normal forms for shapes: einops' patterns that only regroup axes, and ``view``, are the same reshape."""

from __future__ import annotations

import ast
from collections import Counter

RESHAPE, REST = "#reshape", "#rest"


class Reshapes(ast.NodeTransformer):
    """Writes every reshape whose sizes are told apart by one axis at most as ``#reshape(tensor, [sizes])``.

    A size is ``#axis<n>``, which is the tensor's own, an expression, or ``#rest``: since the number of elements stays,
    one size follows from the others, whatever it is called. Sizes that do not fit raise, here as there.
    """

    def __init__(self, function: ast.FunctionDef) -> None:
        stores = Counter(
            node.id for node in ast.walk(function) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        )
        parameters = {node.arg for node in ast.walk(function) if isinstance(node, ast.arg)}
        self._once = {name for name, count in stores.items() if count == 1} - parameters
        self._sizes: dict[str, tuple[str, int]] = {}  # a name -> (the tensor, the axis) whose size it is
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Tuple):
                tensor = _shape_of(node.value)
                for axis, target in enumerate(node.targets[0].elts):
                    if tensor and isinstance(target, ast.Name) and target.id in self._once:
                        self._sizes[target.id] = (tensor, axis)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """``rearrange`` with a pattern that is a constant, and ``.view`` or ``.reshape``."""
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("view", "reshape") and not node.keywords:
            sizes = list(node.args)
            if len(sizes) == 1 and isinstance(sizes[0], ast.Tuple | ast.List):
                sizes = list(sizes[0].elts)
            return self._viewed(node, node.func.value, sizes)
        if isinstance(node.func, ast.Name) and node.func.id == "@einops.rearrange":
            given = {key.arg: key.value for key in node.keywords if key.arg}
            tensor, pattern = given.pop("tensor", None), given.pop("pattern", None)
            if tensor is not None and isinstance(pattern, ast.Constant) and isinstance(pattern.value, str):
                return _unsqueezed(node, tensor, pattern.value) or _regrouped(node, tensor, pattern.value, given)
        return node

    def _viewed(self, node: ast.Call, tensor: ast.expr, sizes: list[ast.expr]) -> ast.Call:
        if not isinstance(tensor, ast.Name) or tensor.id not in self._once:
            return node
        told = [self._size(tensor.id, size) for size in sizes]
        free = [number for number, size in enumerate(told) if size is None]
        if len(free) > 1 or not sizes:
            return node
        return _reshape(node, tensor, [size or _name(REST, node) for size in told])

    def _size(self, tensor: str, size: ast.expr) -> ast.expr | None:
        """A size that is known, or ``None`` for one that follows from the others."""
        if isinstance(size, ast.Name):
            own = self._sizes.get(size.id)
            return _name(f"#axis{own[1]}", size) if own and own[0] == tensor else size
        if isinstance(size, ast.Subscript) and _shape_of(size.value) == tensor and isinstance(size.slice, ast.Constant):
            return _name(f"#axis{size.slice.value!r}", size)
        return size if isinstance(size, ast.Attribute) else None


def _shape_of(value: ast.expr) -> str | None:
    """The name of the tensor of ``x.shape`` and of ``x.shape[:n]``."""
    if isinstance(value, ast.Subscript) and isinstance(value.slice, ast.Slice):
        if value.slice.lower is not None or value.slice.step is not None:
            return None
        value = value.value
    if isinstance(value, ast.Attribute) and value.attr == "shape" and isinstance(value.value, ast.Name):
        return value.value.id
    return None


def _groups(side: str) -> list[list[str]]:
    found: list[list[str]] = []
    inside = False
    for token in side.replace("(", " ( ").replace(")", " ) ").split():
        if token in "()":
            inside = token == "("
            found += [[]] if inside else []
        elif inside:
            found[-1].append(token)
        else:
            found.append([token])
    return found


def _regrouped(node: ast.Call, tensor: ast.expr, pattern: str, given: dict[str, ast.expr]) -> ast.Call:
    before, arrow, after = pattern.partition("->")
    left, right = _groups(before), _groups(after)
    flat = [axis for group in left for axis in group]
    plain = arrow and len(set(flat)) == len(flat) and all(axis.isidentifier() for axis in flat)
    if not plain or flat != [axis for group in right for axis in group]:
        return node
    sizes: list[ast.expr | None] = []
    for group in right:
        if group in left:
            sizes.append(_name(f"#axis{left.index(group)}", node))
        else:
            sizes.append(given.get(group[0]) if len(group) == 1 else None)
    if sizes.count(None) > 1:
        return node
    return _reshape(node, tensor, [size or _name(REST, node) for size in sizes])


def _unsqueezed(node: ast.Call, tensor: ast.expr, pattern: str) -> ast.Call | None:
    """``... n -> ... n 1`` is ``unsqueeze(-1)``."""
    before, _, after = pattern.partition("->")
    left, right = before.split(), after.split()
    if left[:1] != ["..."] or right.count("1") != 1 or [axis for axis in right if axis != "1"] != left:
        return None
    function = ast.copy_location(ast.Attribute(tensor, "unsqueeze", ast.Load()), node)
    place = ast.UnaryOp(ast.USub(), ast.Constant(len(right) - right.index("1")))
    return ast.copy_location(ast.Call(function, [place], []), node)


def _reshape(node: ast.Call, tensor: ast.expr, sizes: list[ast.expr]) -> ast.Call:
    made = ast.Call(_name(RESHAPE, node), [tensor, ast.List(sizes, ast.Load())], [])
    return ast.copy_location(made, node)


def _name(name: str, node: ast.expr) -> ast.Name:
    return ast.copy_location(ast.Name(name, ast.Load()), node)
