"""What an expression is to a codemod that turns a tensor of integers, an attribute of ``self``, into a list of them."""

from __future__ import annotations

import libcst as cst

from toto_patcher.patching import codemod


def is_own(node: cst.CSTNode | None, *names: str) -> bool:
    """``self.NAME``."""
    return (
        isinstance(node, cst.Attribute)
        and node.attr.value in names
        and isinstance(node.value, cst.Name)
        and node.value.value == "self"
    )


def is_element(node: cst.CSTNode, *names: str) -> bool:
    """``self.NAME[i]``, no slice."""
    return isinstance(node, cst.Subscript) and is_own(node.value, *names) and not is_slice(node)


def is_slice(node: cst.Subscript) -> bool:
    """``X[a:b]``, also as one of several indices."""
    return any(isinstance(item.slice, cst.Slice) for item in node.slice)


def zeros_count(value: cst.CSTNode) -> cst.BaseExpression | None:
    """The ``n`` of ``torch.zeros(n, ...)`` and ``torch.zeros((n,), ...)``."""
    if not (isinstance(value, cst.Call) and codemod.code(value.func) == "torch.zeros"):
        return None
    positional = [argument for argument in value.args if argument.keyword is None]
    if len(positional) != 1 or positional[0].star:
        return None
    count = positional[0].value
    if isinstance(count, cst.Tuple | cst.List):
        count = count.elements[0].value if len(count.elements) == 1 else cst.Ellipsis()
    number = isinstance(count, cst.Name | cst.Attribute | cst.Call | cst.Integer | cst.BinaryOperation)
    return count if number or (isinstance(count, cst.Subscript) and not is_slice(count)) else None


def is_host_value(value: cst.CSTNode) -> bool:
    """A list, a dictionary or a tuple, however it is made."""
    if isinstance(value, cst.BinaryOperation):
        return isinstance(value.operator, cst.Multiply) and isinstance(value.left, cst.List)
    if isinstance(value, cst.Call):
        return codemod.code(value.func) in ("list", "dict", "dict.fromkeys", "tuple")
    return isinstance(value, cst.List | cst.ListComp | cst.Dict | cst.DictComp | cst.Tuple)
