"""Problem. `KVCache` keeps its lengths and its layer map in device tensors and reads them back with `.item()`: a host
synchronisation and a graph break at each, with the key and value tensors mutated inside compiled regions, so that CUDA
graphs are skipped. A cache that keeps a Python list of ints instead makes `torch.compile` specialise on every value
until it hits `config.recompile_limit`.

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
from libcst import matchers as m

from toto_patcher.patching import codemod
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
# Builtins that read a list of ints as they read a tensor of ints.
READERS = ("len", "list", "tuple", "max", "min", "sum", "sorted", "enumerate", "zip", "range", "isinstance")

OWN = m.Attribute(value=m.Name("self"), attr=m.OneOf(*(m.Name(name) for name in ATTRIBUTES)))
ELEMENT = m.Subscript(value=OWN)
HOST_VALUE = (
    m.List()
    | m.ListComp()
    | m.Dict()
    | m.DictComp()
    | m.Tuple()
    | m.BinaryOperation(left=m.List(), operator=m.Multiply())
    | m.Call(func=m.Name("list") | m.Name("dict") | m.Name("tuple"))
)
ZEROS = m.Call(
    func=m.Attribute(value=m.Name("torch"), attr=m.Name("zeros")),
    args=[m.Arg(keyword=None), m.ZeroOrMore(m.Arg(keyword=m.Name()))],
)


def transform(module: cst.Module) -> cst.Module:
    """Rewrites the index of ``KVCache`` and marks what touches the cache."""
    codemod.require_import(module, "torch")
    cache = codemod.find_class(module, "KVCache")
    codemod.require_methods(module, cache, SIGNATURES)
    _refuse_changed_by_hand(module, cache)
    _refuse_use_elsewhere(module, cache)
    allocator = _allocating_method(module, cache)
    for method in codemod.methods(cache).values():
        _require_known_uses(module, method)
    changed = cst.ensure_type(cache.visit(_HostIndex(allocator)), cst.ClassDef)
    _require_no_tensor_left(module, cache, changed)
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "PositionedCache")
    return cst.ensure_type(module.deep_replace(cache, codemod.append_methods(changed, added)), cst.Module)


def _refuse_changed_by_hand(module: cst.Module, cache: cst.ClassDef) -> None:
    traces = m.Name("graph_break") | m.Name("disable") | m.Name("is_compiling") | m.Name("mark_static_address")
    for node in m.findall(cache, traces):
        raise codemod.unmet(
            module, node, f"KVCache was already changed for torch.compile by hand: {codemod.code(node)}"
        )
    for name in ("position", "_allocate_position"):
        if name in codemod.methods(cache):
            raise codemod.unmet(module, codemod.methods(cache)[name], f"KVCache already has a method {name}")


def _refuse_use_elsewhere(module: cst.Module, cache: cst.ClassDef) -> None:
    inside = set(map(id, m.findall(cache, m.Attribute())))
    for node in m.findall(module, m.Attribute(attr=m.OneOf(*(m.Name(name) for name in ATTRIBUTES)))):
        if id(node) not in inside:
            raise codemod.unmet(module, node, f"the cache's index is used outside of KVCache: {codemod.code(node)}")


def _allocating_method(module: cst.Module, cache: cst.ClassDef) -> str:
    """The method that creates both attributes, usually ``__post_init__``."""
    makers = []
    for name in ATTRIBUTES:
        target = m.Attribute(value=m.Name("self"), attr=m.Name(name))
        assigned = m.Assign(targets=[m.AssignTarget(target=target)]) | m.AnnAssign(target=target)
        found = [method for method in ("__post_init__", "__init__") if _has(cache, method, assigned)]
        if not found:
            raise codemod.unmet(module, cache, f"KVCache does not create self.{name} in __post_init__ or __init__")
        method = codemod.methods(cache)[found[0]]
        for statement in m.findall(method, assigned):
            value = cst.ensure_type(statement, type(statement)).value  # type: ignore[attr-defined] # both kinds have it
            if value is None or not m.matches(value, HOST_VALUE | ZEROS):
                raise codemod.unmet(
                    module,
                    statement,
                    f"self.{name} is neither torch.zeros(n, ...) nor a list: {codemod.code(statement)}",
                )
        makers.append(found[0])
    if makers[0] != makers[1]:
        raise codemod.unmet(module, cache, "KVCache creates its index and its layer map in different methods")
    if not _has(cache, makers[0], m.AssignTarget(target=m.Attribute(value=m.Name("self"), attr=m.Name("_keys")))):
        raise codemod.unmet(module, cache, f"KVCache.{makers[0]} does not create self._keys")
    return makers[0]


def _has(cache: cst.ClassDef, method: str, matcher: m.BaseMatcherNode) -> bool:
    own = codemod.methods(cache)
    return method in own and bool(m.findall(own[method], matcher))


def _index_locals(method: cst.FunctionDef) -> set[str]:
    """Local names that hold an element of the index, so that ``.item()`` on them reads the index."""
    assigned = m.Assign(targets=[m.AssignTarget(target=m.Name())], value=ELEMENT)
    return {
        node.targets[0].target.value
        for node in m.findall(method, assigned)
        if isinstance(node, cst.Assign) and isinstance(node.targets[0].target, cst.Name)
    }


def _require_known_uses(module: cst.Module, method: cst.FunctionDef) -> None:
    """Refuses the first use of the index whose meaning for a list of ints is not known."""
    known: set[int] = set()
    forms = (
        m.Subscript(value=m.SaveMatchedNode(OWN, "own"))
        | m.AssignTarget(target=m.SaveMatchedNode(OWN, "own"))
        | m.AnnAssign(target=m.SaveMatchedNode(OWN, "own"))
        | m.For(iter=m.SaveMatchedNode(OWN, "own"))
        | m.Call(
            func=m.Attribute(value=m.SaveMatchedNode(OWN, "own"), attr=m.Name("numel") | m.Name("tolist")), args=[]
        )
        | m.Expr(value=m.Call(func=m.Attribute(value=m.SaveMatchedNode(OWN, "own"), attr=m.Name("zero_")), args=[]))
    )
    for node in m.findall(method, forms):
        known.add(id((m.extract(node, forms) or {})["own"]))
    for call in m.findall(method, m.Call(func=m.OneOf(*(m.Name(name) for name in READERS)))):
        known |= {id(argument.value) for argument in cst.ensure_type(call, cst.Call).args}
    for node in m.findall(method, OWN):
        if id(node) not in known:
            raise codemod.unmet(
                module, node, f"KVCache.{method.name.value} uses {codemod.code(node)} in an unknown way"
            )


def _require_no_tensor_left(module: cst.Module, before: cst.ClassDef, after: cst.ClassDef) -> None:
    """Refuses if a tensor method or a tensor value would meet the host integers."""
    to_element = [m.AtLeastN(m.AssignTarget(target=ELEMENT), n=1)]
    leftovers = (
        m.Attribute(value=ELEMENT)
        | m.Attribute(attr=m.Name("item"))
        | m.Assign(targets=to_element, value=m.Call(func=m.Attribute(value=m.Name("torch"))))
    )
    for name, method in codemod.methods(after).items():
        for node in m.findall(method, leftovers):
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
        self._locals = _index_locals(node)

    def leave_FunctionDef(  # noqa: N802
        self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef
    ) -> cst.FunctionDef:
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
        if m.matches(original_node.target, m.OneOf(*(m.Name(name) for name in ATTRIBUTES))):
            annotation = updated_node.annotation.with_changes(annotation=cst.parse_expression("list[int]"))
            return updated_node.with_changes(annotation=annotation)
        if m.matches(original_node.target, OWN) and updated_node.value is not None:
            return updated_node.with_changes(value=_host_value(updated_node.value))
        return updated_node

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:  # noqa: N802
        if m.matches(original_node, m.Assign(targets=[m.AssignTarget(target=OWN)])):
            return updated_node.with_changes(value=_host_value(updated_node.value))
        return updated_node

    def leave_Expr(self, original_node: cst.Expr, updated_node: cst.Expr) -> cst.BaseSmallStatement:  # noqa: N802
        cleared = m.Expr(value=m.Call(func=m.Attribute(value=m.SaveMatchedNode(OWN, "own"), attr=m.Name("zero_"))))
        found = m.extract(original_node, cleared)
        if found is None:
            return updated_node
        own = codemod.code(cst.ensure_type(found["own"], cst.Attribute))
        line = cst.ensure_type(cst.parse_statement(f"{own} = [0] * len({own})"), cst.SimpleStatementLine)
        return line.body[0]

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        local = m.OneOf(*(m.Name(name) for name in sorted(self._locals))) if self._locals else ELEMENT
        item = m.Call(func=m.Attribute(value=m.OneOf(ELEMENT, local), attr=m.Name("item")), args=[])
        if m.matches(updated_node, item):
            return _unwrapped(updated_node, cst.ensure_type(updated_node.func, cst.Attribute).value)
        if m.matches(updated_node, m.Call(func=m.Name("int"), args=[m.Arg(value=m.OneOf(ELEMENT, local))])):
            return _unwrapped(updated_node, updated_node.args[0].value)
        for method, reader in (("numel", "len"), ("tolist", "list")):
            if m.matches(updated_node, m.Call(func=m.Attribute(value=OWN, attr=m.Name(method)), args=[])):
                own = cst.ensure_type(updated_node.func, cst.Attribute).value
                return updated_node.with_changes(func=cst.Name(reader), args=[cst.Arg(own)])
        return updated_node


def _host_value(value: cst.BaseExpression) -> cst.BaseExpression:
    """``[0] * n`` for ``torch.zeros(n, ...)`` and ``torch.zeros((n,), ...)``; host values stay as they are."""
    if not m.matches(value, ZEROS):
        return value
    count = cst.ensure_type(value, cst.Call).args[0].value
    if isinstance(count, cst.Tuple | cst.List) and len(count.elements) == 1:
        count = count.elements[0].value
    simple = isinstance(count, cst.Name | cst.Attribute | cst.Call | cst.Integer)
    if not simple:
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
