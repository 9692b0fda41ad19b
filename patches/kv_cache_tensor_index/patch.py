"""Problem. `KVCache` keeps its lengths and its layer map in device tensors and reads them back with `.item()`: a host
synchronisation and a graph break at each, and recompilations when the horizon changes. A cache that keeps a Python list
of ints instead makes `torch.compile` specialise on every value until it hits `config.recompile_limit`, and skips CUDA
graphs because compiled code mutates its inputs.

Change. The layer map and the lengths become host integers, for they steer Python code: which slice to write and to
read. Compiled code that needs the length as a number gets it from the new method `position(layer_idx)`, a 0-d tensor
at one fixed address. `append`, `__getitem__`, `seq_len` and `reset` are marked with `torch.compiler.disable`: a graph
break stands before every mutation, and the cache is only ever written between compiled regions. `current_len` stays
traceable, since the backbone's slicing by it compiles to one dynamic size.

Buys. No `.item()`, no mutation inside a graph, no guard on a cache index, one graph break per call into the cache.

Cost. Two host integers per layer instead of two device tensors; the values of the cache are unchanged to the bit.

Upstream. DataDog/toto, `toto/model/util.py`, class `KVCache`; byte-identical in 0.1.3, 0.1.4 and 0.2.0.
"""

from pathlib import Path

import libcst as cst

from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.integer_uses import WHOLE, Uses
from toto_patcher.patching.integer_values import is_element, is_own, zeros_count
from toto_patcher.patching.patch import Patch

INDEX = "_current_idx"
LAYER_MAP = "_layer_cache_map"
ATTRIBUTES = (INDEX, LAYER_MAP)
SIGNATURES = {
    "__getitem__": ("layer_idx",),
    "current_len": ("cache_idx",),
    "seq_len": ("layer_idx",),
    "append": ("layer_idx", "kv"),
    "reset": (),
}
# These write the cache, or hand out a slice or a length that changes at every step.
BETWEEN_GRAPHS = ("__getitem__", "seq_len", "append", "reset")
BY_HAND = frozenset({"graph_break", "disable", "is_compiling", "mark_static_address"})
# What the patch adds; it must not be there yet, as a method, a field or an attribute.
ADDED = frozenset({"position", "_allocate_position", "_position", "_position_value"})


def transform(module: cst.Module) -> cst.Module:
    """Rewrites the index of ``KVCache`` and marks what touches the cache."""
    codemod.require_import(module, "torch")
    cache = codemod.find_class(module, "KVCache")
    codemod.require_methods(module, cache, SIGNATURES)
    _refuse_changed_by_hand(module, cache)
    _refuse_use_elsewhere(module, cache)
    allocator = _allocating_method(module, cache)
    Uses(module, cache, ATTRIBUTES).require_known()
    changed = cst.ensure_type(nodes.rewritten(cache, _HostIndex(allocator)), cst.ClassDef)
    _require_no_tensor_left(module, cache, changed)
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "PositionedCache", module)
    return module.with_changes(body=codemod.replaced(module.body, cache, codemod.append_methods(changed, added)))


def _method_call(node: cst.CSTNode) -> tuple[cst.BaseExpression, str] | None:
    """(receiver, method) of a call without arguments."""
    if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) and not node.args:
        return node.func.value, node.func.attr.value
    return None


def _assigned(node: cst.CSTNode) -> tuple[cst.BaseExpression, cst.BaseExpression] | None:
    """(target, value) of an assignment to one target, annotated or not."""
    if isinstance(node, cst.Assign) and len(node.targets) == 1:
        return node.targets[0].target, node.value
    if isinstance(node, cst.AnnAssign) and node.value is not None:
        return node.target, node.value
    return None


def _assignments(method: cst.FunctionDef) -> list[tuple[cst.BaseExpression, cst.BaseExpression]]:
    return [pair for pair in map(_assigned, nodes.every(method, cst.Assign, cst.AnnAssign)) if pair]


def _refuse_changed_by_hand(module: cst.Module, cache: cst.ClassDef) -> None:
    for word in nodes.every(cache, cst.Name):
        if word.value in BY_HAND:
            raise codemod.unmet(module, word, f"KVCache was already changed for torch.compile by hand: {word.value}")
    for node in nodes.every(cache, cst.FunctionDef, cst.Attribute, cst.AnnAssign, cst.Arg, cst.Name):
        if isinstance(node, cst.FunctionDef | cst.Attribute):
            name = node.name.value if isinstance(node, cst.FunctionDef) else node.attr.value
        else:
            name = node.target.value if isinstance(node, cst.AnnAssign) and isinstance(node.target, cst.Name) else ""
        if name in ADDED:
            raise codemod.unmet(module, node, f"KVCache already has {name}")
        slots = isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "slots"
        if slots or (isinstance(node, cst.Name) and node.value == "__slots__"):
            raise codemod.unmet(module, node, "KVCache has slots, so no attribute can be added")


def _refuse_use_elsewhere(module: cst.Module, cache: cst.ClassDef) -> None:
    for statement in module.body:
        for node in nodes.every(statement, cst.Attribute) if statement is not cache else ():
            if node.attr.value in ATTRIBUTES:
                raise codemod.unmet(module, node, f"the cache's index is used outside of KVCache: {codemod.code(node)}")


def _allocating_method(module: cst.Module, cache: cst.ClassDef) -> str:
    """The method that creates the index, the layer map and the keys; usually ``__post_init__``."""
    for name in ("__post_init__", "__init__"):
        method = codemod.methods(cache).get(name)
        assignments = _assignments(method) if method else []
        if any(is_own(target, INDEX) for target, _ in assignments):
            break
    else:
        raise codemod.unmet(module, cache, f"KVCache does not create self.{INDEX} in __post_init__ or __init__")
    for attribute in (LAYER_MAP, "_keys"):
        if not any(is_own(target, attribute) for target, _ in assignments):
            raise codemod.unmet(module, cache, f"KVCache.{name} does not create self.{attribute}")
    for node in nodes.every(codemod.methods(cache)[name], cst.Return):
        raise codemod.unmet(module, node, f"KVCache.{name} may return before its end")
    return name


def _require_no_tensor_left(module: cst.Module, before: cst.ClassDef, after: cst.ClassDef) -> None:
    """Refuses if a tensor method or a tensor value would meet the host integers."""
    for name, method in codemod.methods(after).items():
        for node in nodes.every(method, cst.Attribute, cst.Assign, cst.AnnAssign):
            pair = _assigned(node)
            if (
                isinstance(node, cst.Attribute) and (is_element(node.value, *ATTRIBUTES) or node.attr.value == "item")
            ) or (pair and is_element(pair[0], *ATTRIBUTES) and codemod.code(pair[1]).startswith("torch.")):
                # Lines are those of the original, so the message points at the method there.
                place = codemod.methods(before)[name]
                raise codemod.unmet(module, place, f"KVCache.{name} treats the index as a tensor: {codemod.code(node)}")


class _HostIndex(cst.CSTTransformer):
    """Turns tensor reads, writes and creation of the index into those of a list of ints; marks the methods."""

    def __init__(self, allocator: str) -> None:
        super().__init__()
        self._allocator = allocator
        self._locals: set[str] = set()

    def visit_FunctionDef(self, node: cst.FunctionDef) -> None:  # noqa: N802 - libcst's naming
        """Notes the local names that hold an element, so that ``.item()`` on them is known to read the index."""
        self._locals = {
            target.value
            for target, value in _assignments(node)
            if isinstance(target, cst.Name) and is_element(value, *ATTRIBUTES)
        }

    def leave_FunctionDef(  # noqa: N802
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
        """Decorates what runs between graphs; lets the allocating method create the position as well."""
        name = original_node.name.value
        if name in BETWEEN_GRAPHS:
            return codemod.decorate(updated_node, "torch.compiler.disable")
        if name == self._allocator:
            call = cst.parse_statement("self._allocate_position()")
            body = cst.ensure_type(updated_node.body, cst.IndentedBlock)
            return updated_node.with_changes(body=body.with_changes(body=[*body.body, call]))
        return updated_node

    def leave_AnnAssign(  # noqa: N802
        self, original_node: cst.AnnAssign, updated_node: cst.AnnAssign
    ) -> cst.AnnAssign:
        """The field declarations of the dataclass say what the attributes hold now."""
        target = original_node.target
        if is_own(target, *ATTRIBUTES) or (isinstance(target, cst.Name) and target.value in ATTRIBUTES):
            annotation = updated_node.annotation.with_changes(annotation=cst.parse_expression("list[int]"))
            updated_node = updated_node.with_changes(annotation=annotation)
        if is_own(target, *ATTRIBUTES) and updated_node.value is not None:
            return updated_node.with_changes(value=_host_value(updated_node.value))
        return updated_node

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:  # noqa: N802
        """Creation."""
        if len(original_node.targets) == 1 and is_own(original_node.targets[0].target, *ATTRIBUTES):
            return updated_node.with_changes(value=_host_value(updated_node.value))
        return updated_node

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.BaseSmallStatement:  # noqa: N802
        """Reset: ``self._current_idx.zero_()``."""
        call = _method_call(original_node.value)
        if call and call[1] == "zero_" and is_own(call[0], *ATTRIBUTES):
            own = codemod.code(call[0])
            # In place, as zero_() is: a shallow copy of the cache shares the index.
            line = cst.parse_statement(f"{own}[:] = [0] * len({own})")
            return cst.ensure_type(line, cst.SimpleStatementLine).body[0]
        return updated_node

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        """Reads: ``.item()``, ``.tolist()`` and ``int(...)`` of an element, ``.numel()`` and ``.tolist()`` of all."""
        call = _method_call(updated_node)
        if call and call[1] in ("item", "tolist") and self._holds_element(call[0]):
            return _unwrapped(updated_node, call[0])
        if call and call[1] in WHOLE and is_own(call[0], *ATTRIBUTES):
            return updated_node.with_changes(func=cst.Name(WHOLE[call[1]]), args=[cst.Arg(call[0])])
        if codemod.code(updated_node.func) == "int" and len(updated_node.args) == 1:
            value = updated_node.args[0].value
            if self._holds_element(value):
                return _unwrapped(updated_node, value)
        return updated_node

    def _holds_element(self, node: cst.BaseExpression) -> bool:
        return is_element(node, *ATTRIBUTES) or (isinstance(node, cst.Name) and node.value in self._locals)


def _host_value(value: cst.BaseExpression) -> cst.BaseExpression:
    """``[0] * n`` for ``torch.zeros(n, ...)``; host values stay as they are."""
    count = zeros_count(value)
    if count is None:
        return value
    if not isinstance(count, cst.Name | cst.Attribute | cst.Call | cst.Integer):
        count = count.with_changes(lpar=[cst.LeftParen()], rpar=[cst.RightParen()])
    return cst.BinaryOperation(left=cst.List([cst.Element(cst.Integer("0"))]), operator=cst.Multiply(), right=count)


def _unwrapped(outer: cst.BaseExpression, inner: cst.BaseExpression) -> cst.BaseExpression:
    """``inner`` in place of ``outer``, keeping the parentheses of both."""
    return inner.with_changes(lpar=[*outer.lpar, *inner.lpar], rpar=[*inner.rpar, *outer.rpar])


PATCH = Patch(
    title="Keep the KV cache's index on the host and its mutations out of compiled regions",
    why=__doc__ or "",
    transforms={"KVCache": transform},
    profiles=("graph-breaks",),
    private=ATTRIBUTES,
    edits={"KVCache": 8},
)
