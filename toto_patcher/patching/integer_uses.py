"""Whether a class uses an attribute in ways that mean the same for a tensor of integers and for a list of integers.

A codemod that turns the one into the other must know every use. What differs: a tensor's element is a view that can be
written through, a slice of it too; tensors have methods, take part in torch's functions and are told by ``isinstance``.
"""

from __future__ import annotations

import libcst as cst

from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.integer_values import is_element, is_host_value, is_own, is_slice, zeros_count

# Builtins that read the whole attribute alike.
READERS = frozenset({"len", "max", "min", "sum"})
# Calls that may be given an element: they read its value.
VALUES = frozenset({"int", "len", "max", "min", "abs", "range", "slice", "str", "repr", "print"})
LOGGING = frozenset({"debug", "info", "warning", "error"})
# Tensor methods of the whole that have a form for lists.
WHOLE = {"numel": "len", "tolist": "list"}
# They see attributes by other ways than their names.
REFLECTION = frozenset({"vars", "fields", "asdict", "astuple", "replace", "__dict__"})


class Uses:
    """The uses of some attributes of ``self`` in one class.

    Args:
        module: the module, for lines.
        owner: the class.
        attributes: the names.
    """

    def __init__(self, module: cst.Module, owner: cst.ClassDef, attributes: tuple[str, ...]) -> None:
        self._module, self._owner, self._attributes = module, owner, attributes

    def require_known(self) -> None:
        """Refuses the first use whose meaning might change, with its line."""
        inside = {id(node) for method in codemod.methods(self._owner).values() for node in nodes.walk(method)}
        for node in nodes.every(self._owner, cst.Attribute, cst.SimpleString, cst.Name):
            if isinstance(node, cst.Attribute) and node.attr.value in self._attributes:
                if id(node) not in inside or not self.is_own(node):
                    self._refuse(node, "is used outside of the methods' self")
            elif isinstance(node, cst.SimpleString) and node.evaluated_value in self._attributes:
                self._refuse(node, "is used by its name as a string")
            elif isinstance(node, cst.Name) and node.value in REFLECTION:
                self._refuse(node, "may be seen by reflection")
        for method in codemod.methods(self._owner).values():
            _Method(self, method).check()

    def is_own(self, node: cst.CSTNode | None) -> bool:
        """``self.ATTRIBUTE``."""
        return is_own(node, *self._attributes)

    def is_element(self, node: cst.CSTNode) -> bool:
        """``self.ATTRIBUTE[i]``, no slice."""
        return is_element(node, *self._attributes)

    def _refuse(self, node: cst.CSTNode, fault: str, where: str = "") -> None:
        place = f"{self._owner.name.value}{where}"
        raise codemod.unmet(self._module, node, f"{place}: the cache's index {fault}: {codemod.code(node)}")


def _assignments(method: cst.FunctionDef) -> list[tuple[cst.BaseExpression, cst.BaseExpression]]:
    """(target, value) of every assignment, in source order."""
    found: list[tuple[cst.BaseExpression, cst.BaseExpression]] = []
    for node in nodes.every(method, cst.Assign, cst.AnnAssign, cst.NamedExpr):
        if isinstance(node, cst.Assign):
            found += [(target.target, node.value) for target in node.targets]
        elif isinstance(node, cst.AnnAssign | cst.NamedExpr) and node.value is not None:
            found.append((node.target, node.value))
    return found


class _Method:
    """One method: its local names, and its statements one by one."""

    def __init__(self, uses: Uses, method: cst.FunctionDef) -> None:
        self._uses, self._method = uses, method
        self._where = f".{method.name.value}"
        self._parents = nodes.parents(method)
        self._assignments = _assignments(method)
        self._parameters = {parameter.name.value for parameter in method.params.params}
        self._integers = self._names_of_integers()

    def _names_of_integers(self) -> set[str]:
        """Local names that hold an element, or what is computed from one."""
        found: set[str] = set()
        grown = True
        while grown:
            before = len(found)
            for target, value in self._assignments:
                if isinstance(target, cst.Name) and self._mentions(value, found):
                    found.add(target.value)
            grown = len(found) > before
        return found

    def _mentions(self, value: cst.CSTNode, names: set[str]) -> bool:
        """An element or such a name stands in the value as a number, not merely as an index or inside of a call."""
        if self._uses.is_element(value) or (isinstance(value, cst.Name) and value.value in names):
            return True
        if isinstance(value, cst.BinaryOperation | cst.UnaryOperation | cst.IfExp):
            return any(self._mentions(child, names) for child in nodes.children(value))
        if isinstance(value, cst.Call):
            receiver = value.func.value if isinstance(value.func, cst.Attribute) and not value.args else None
            called = codemod.code(value.func) in VALUES
            return (receiver is not None and self._mentions(receiver, names)) or (
                called and any(self._mentions(argument.value, names) for argument in value.args)
            )
        return False

    def check(self) -> None:
        """Refuses the first use that might not mean the same."""
        for node in nodes.every(self._method, cst.Attribute, cst.Subscript, cst.Name):
            if self._uses.is_own(node):
                self._check_whole(node)
            elif self._uses.is_element(node) or (isinstance(node, cst.Name) and node.value in self._integers):
                self._check_number(node)
        self._check_order()
        for target, value in self._assignments:
            if self._uses.is_own(target) and isinstance(count := zeros_count(value), cst.Name):
                for name, number in self._assignments:
                    if codemod.code(name) == count.value and isinstance(number, cst.Tuple | cst.List):
                        self._refuse(value, "has more than one dimension")
            if self._uses.is_own(target) and zeros_count(value) is None and not is_host_value(value):
                self._refuse(value, "is neither torch.zeros(n, ...) nor a list")
            if self._uses.is_element(target):
                self._check_value(value)

    def _check_order(self) -> None:
        """A name for an element is a view of it in a tensor, so it must not be read after the element was written."""
        views = {
            target.value
            for target, value in self._assignments
            if isinstance(target, cst.Name) and self._uses.is_element(value)
        }
        fresh: set[str] = set()
        stale: set[str] = set()
        writing: set[int] = set()  # what stands in the statement that writes was read before
        for node in nodes.every(self._method, cst.Name, cst.Assign, cst.AugAssign):
            if isinstance(node, cst.Name) and node.value in stale and id(node) not in writing:
                self._refuse(node, "is read through a name after it was written")
            if isinstance(node, cst.Assign | cst.AugAssign):
                targets = [node.target] if isinstance(node, cst.AugAssign) else [item.target for item in node.targets]
                written = any(map(self._uses.is_element, targets))
                read = nodes.every(node.value, cst.Name) if stale and not written else []
                if any(name.value in stale for name in read):
                    self._refuse(node, "is read through a name after it was written")
                bound = {target.value for target in targets if isinstance(target, cst.Name)} & views
                fresh, stale = fresh | bound, stale - bound
                if written:
                    stale = stale | fresh
                    writing = {id(below) for below in nodes.walk(node)}

    def _check_whole(self, node: cst.CSTNode) -> None:
        parent = self._parents[id(node)]
        if isinstance(parent, cst.Subscript) and parent.value is node:
            if is_slice(parent):
                above = self._parents[id(parent)]
                written = isinstance(above, cst.AssignTarget) and codemod.code(parent).endswith("[:]")
                statement = self._parents[id(above)] if written else None
                if not (isinstance(statement, cst.Assign) and is_host_value(statement.value)):
                    self._refuse(parent, "is sliced, which is a view of a tensor and a copy of a list")
            return
        if isinstance(parent, cst.CompFor) and codemod.code(parent.target) == "_":  # only counted
            return
        if isinstance(parent, cst.AssignTarget) or (isinstance(parent, cst.AnnAssign) and parent.target is node):
            return
        if isinstance(parent, cst.Attribute) and isinstance(call := self._parents[id(parent)], cst.Call):
            name = parent.attr.value
            alone = not call.args
            if (alone and name in WHOLE) or name == "get":  # only dictionaries have `get`
                return
            if alone and name == "zero_" and isinstance(self._parents[id(call)], cst.Expr):
                return
        if isinstance(parent, cst.Arg):
            call = self._parents[id(parent)]
            if isinstance(call, cst.Call) and codemod.code(call.func) in READERS:
                return
            if isinstance(call, cst.Call) and codemod.code(call.func) in ("list", "tuple"):
                above = self._parents[id(call)]  # self.X = tuple(self.X)
                if isinstance(above, cst.Assign) and all(self._uses.is_own(item.target) for item in above.targets):
                    return
        self._refuse(node, "is used in an unknown way")

    def _check_number(self, node: cst.CSTNode) -> None:
        """A number must not be written through, given to a function that may do so, or asked for tensor methods."""
        parent = self._parents[id(node)]
        if isinstance(parent, cst.AugAssign) and parent.target is node and isinstance(node, cst.Name):
            self._refuse(parent, "is changed through a name that stood for a view of it")
        if isinstance(parent, cst.AugAssign) and parent.target is node:
            self._check_value(parent.value)
        if isinstance(parent, cst.Attribute) and parent.value is node:
            call = self._parents[id(parent)]
            if not (isinstance(call, cst.Call) and not call.args and parent.attr.value in ("item", "tolist")):
                self._refuse(parent, "is treated as a tensor")
        if isinstance(parent, cst.Subscript) and parent.value is node:
            self._refuse(parent, "is treated as a tensor")
        if isinstance(parent, cst.Arg) and isinstance(call := self._parents[id(parent)], cst.Call):
            called = codemod.code(call.func)
            if called not in VALUES and called.rsplit(".", 1)[-1] not in LOGGING and not self._is_own_method(call):
                self._refuse(call, "is handed to a function that might treat it as a tensor")

    def _is_own_method(self, call: cst.Call) -> bool:
        """``self.current_len(cache_idx)`` and the like: a method of the class, which is looked at itself."""
        return (
            isinstance(call.func, cst.Attribute)
            and codemod.code(call.func.value) == "self"
            and call.func.attr.value in ("current_len", "seq_len")
        )

    def _check_value(self, value: cst.CSTNode) -> None:
        """What is stored must be an integer."""
        if isinstance(value, cst.Name):
            if value.value in self._parameters:
                self._refuse(value, "is set to a parameter, which might be a tensor")
            for target, assigned in self._assignments:
                if codemod.code(target) == value.value and "torch." in codemod.code(assigned):
                    self._refuse(value, "is set to a tensor")
        elif isinstance(value, cst.BinaryOperation | cst.UnaryOperation | cst.IfExp):
            for child in nodes.children(value):
                if isinstance(child, cst.BaseExpression):
                    self._check_value(child)
        elif isinstance(value, cst.Call):
            called = codemod.code(value.func)
            read = called.endswith((".item", ".size")) or called in VALUES
            if not read and not self._is_own_method(value):
                self._refuse(value, "is set to what might be a tensor")

    def _refuse(self, node: cst.CSTNode, fault: str) -> None:
        self._uses._refuse(node, fault, self._where)
