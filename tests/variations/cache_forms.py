"""Other forms of the cache's index and layer map, with the same behaviour."""

from __future__ import annotations

from pathlib import Path

import libcst as cst
import libcst.matchers as m

from .base import variation
from .edit import CACHE, add_methods, defining, in_class, in_method, prepend, rewrite_text, statement, visit


def _attribute(name: str) -> m.Attribute:
    return m.Attribute(value=m.Name("self"), attr=m.Name(name))


def _reads(name: str) -> m.Subscript:
    return m.Subscript(value=_attribute(name))


def _item(name: str) -> m.Call:
    return m.Call(func=m.Attribute(value=_reads(name), attr=m.Name("item")), args=[])


class HostList(cst.CSTTransformer):
    """Turns a tensor attribute into a Python list of ints: allocation, reads, writes and reset."""

    def __init__(self, name: str, allocation: str = "[0] * ({size})") -> None:
        super().__init__()
        self._name = name
        self._allocation = allocation

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:  # noqa: N802
        if not m.matches(
            updated_node,
            m.Assign(
                targets=[m.AssignTarget(target=_attribute(self._name))],
                value=m.Call(func=m.Attribute(value=m.Name("torch"), attr=m.Name("zeros"))),
            ),
        ):
            return updated_node
        size = cst.ensure_type(updated_node.value, cst.Call).args[0].value
        if isinstance(size, cst.Tuple):
            size = size.elements[0].value
        code = self._allocation.format(size=cst.Module([]).code_for_node(size))
        return updated_node.with_changes(value=cst.parse_expression(code))

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        if m.matches(updated_node, m.Call(func=m.Name("int"), args=[m.Arg(_reads(self._name))])):
            return updated_node.args[0].value
        if m.matches(updated_node, _item(self._name)):
            return cst.ensure_type(updated_node.func, cst.Attribute).value
        if m.matches(updated_node, m.Call(func=m.Attribute(value=_attribute(self._name), attr=m.Name("numel")))):
            return cst.parse_expression(f"len(self.{self._name})")
        if m.matches(updated_node, m.Call(func=m.Attribute(value=_attribute(self._name), attr=m.Name("zero_")))):
            return cst.parse_expression(f"self.{self._name}.__init__([0] * len(self.{self._name}))")
        return updated_node


class _PlainReset(cst.CSTTransformer):
    """``self.x.__init__(...)`` in the reset becomes an assignment."""

    def __init__(self, name: str, code: str) -> None:
        super().__init__()
        self._name, self._code = name, code

    def leave_SimpleStatementLine(  # noqa: N802
        self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
    ) -> cst.BaseStatement:
        call = m.Expr(m.Call(func=m.Attribute(value=_attribute(self._name))))
        return statement(self._code) if m.matches(updated_node, m.SimpleStatementLine(body=[call])) else updated_node


def _list_index(root: Path, reset: str) -> None:
    util = defining(root, CACHE)
    visit(util, HostList("_current_idx"))
    visit(util, _PlainReset("_current_idx", reset))


@variation()
def index_as_list(root: Path) -> None:
    """The index is a Python list: dynamo specialises on every value and hits the recompile limit."""
    _list_index(root, "self._current_idx = [0] * len(self._current_idx)\n")


@variation()
def index_as_list_reset_in_place(root: Path) -> None:
    _list_index(root, "self._current_idx[:] = [0] * len(self._current_idx)\n")


@variation()
def index_as_list_reset_in_a_loop(root: Path) -> None:
    _list_index(root, "for i in range(len(self._current_idx)):\n    self._current_idx[i] = 0\n")


@variation()
def index_as_list_comprehension(root: Path) -> None:
    util = defining(root, CACHE)
    visit(util, HostList("_current_idx", "[0 for _ in range({size})]"))
    visit(util, _PlainReset("_current_idx", "self._current_idx = [0 for _ in self._current_idx]\n"))


@variation()
def index_and_map_as_lists(root: Path) -> None:
    index_as_list(root)
    map_as_list(root)


@variation()
def map_as_list(root: Path) -> None:
    visit(defining(root, CACHE), HostList("_layer_cache_map"))


@variation()
def map_as_dict(root: Path) -> None:
    visit(defining(root, CACHE), HostList("_layer_cache_map", "dict.fromkeys(range({size}), 0)"))


@variation()
def map_as_empty_dict(root: Path) -> None:
    """Only time layers are in the dict; other layers read ``get(i, 0)``."""
    util = defining(root, CACHE)
    visit(util, HostList("_layer_cache_map", "{{}}"))
    rewrite_text(
        util,
        lambda text: text.replace("= self._layer_cache_map[layer_idx]", "= self._layer_cache_map.get(layer_idx, 0)"),
    )


@variation()
def map_as_tuple(root: Path) -> None:
    util = defining(root, CACHE)
    visit(util, HostList("_layer_cache_map"))

    def change(function: cst.FunctionDef) -> cst.FunctionDef:
        body = [*function.body.body, statement("self._layer_cache_map = tuple(self._layer_cache_map)\n")]
        return function.with_changes(body=function.body.with_changes(body=body))

    in_method(util, CACHE, "__post_init__", change)


class _Reads(cst.CSTTransformer):
    """Replaces ``int(self._current_idx[i].item())`` by another spelling of the same read."""

    def __init__(self, spell: str) -> None:
        super().__init__()
        self._spell = spell

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.BaseExpression:  # noqa: N802
        if m.matches(updated_node, m.Call(func=m.Name("int"), args=[m.Arg(_item("_current_idx"))])):
            item = cst.ensure_type(updated_node.args[0].value, cst.Call)
            read = cst.ensure_type(item.func, cst.Attribute).value
            return cst.parse_expression(self._spell.format(cst.Module([]).code_for_node(read)))
        return updated_node


@variation()
def index_read_with_item_only(root: Path) -> None:
    visit(defining(root, CACHE), _Reads("{}.item()"))


@variation()
def index_read_with_int_only(root: Path) -> None:
    visit(defining(root, CACHE), _Reads("int({})"))


@variation()
def index_read_with_tolist(root: Path) -> None:
    visit(defining(root, CACHE), _Reads("{}.tolist()"))


@variation("refused", says="treat(s the index|ed) as a tensor")
def index_read_through_cpu(root: Path) -> None:
    visit(defining(root, CACHE), _Reads("int({}.detach().cpu().item())"))


@variation()
def index_read_with_walrus(root: Path) -> None:
    visit(defining(root, CACHE), _Reads("(end_position := int({}.item()))"))


class _Advance(cst.CSTTransformer):
    """Makes the last store into the index an addition: what it stores less what it started from."""

    def __init__(self, start: str) -> None:
        super().__init__()
        self._start = start

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.BaseSmallStatement:  # noqa: N802
        target = updated_node.targets[0].target
        if not m.matches(target, _reads("_current_idx")):
            return updated_node
        gain = cst.BinaryOperation(updated_node.value, cst.Subtract(), cst.Name(self._start))
        return cst.AugAssign(cst.ensure_type(target, cst.Subscript), cst.AddAssign(), gain)


class _IntStart(cst.CSTTransformer):
    """Makes a plain read of the index an int."""

    def leave_Assign(self, original_node: cst.Assign, updated_node: cst.Assign) -> cst.Assign:  # noqa: N802
        if not m.matches(updated_node.value, _reads("_current_idx")):
            return updated_node
        read = cst.Module([]).code_for_node(updated_node.value)
        return updated_node.with_changes(value=cst.parse_expression(f"int({read}.item())"))


def _append(root: Path, transformer: cst.CSTTransformer) -> None:
    def change(function: cst.FunctionDef) -> cst.FunctionDef:
        after = cst.ensure_type(function.visit(transformer), cst.FunctionDef)
        assert not after.deep_equals(function)
        return after

    in_method(defining(root, CACHE), CACHE, "append", change)


@variation()
def index_advanced_with_add(root: Path) -> None:
    """``append`` ends with ``+=`` instead of storing the end."""
    _append(root, _Advance("start_idx"))


@variation()
def start_read_as_int(root: Path) -> None:
    """``append`` reads its start as an int, the mending that many made by hand."""
    _append(root, _IntStart())


@variation()
def index_as_int64(root: Path) -> None:
    rewrite_text(defining(root, CACHE), lambda text: text.replace("dtype=torch.int)", "dtype=torch.long)"))


@variation()
def explicit_init(root: Path) -> None:
    """An ordinary class with ``__init__`` instead of a dataclass with ``__post_init__``."""

    def change(node: cst.ClassDef) -> cst.ClassDef:
        fields = [
            part.body[0] for part in node.body.body if m.matches(part, m.SimpleStatementLine(body=[m.AnnAssign()]))
        ]  # type: ignore[union-attr]
        code = cst.Module([]).code_for_node
        given = [field for field in fields if not m.matches(field, m.AnnAssign(value=m.Call(func=m.Name("field"))))]
        names = [cst.ensure_type(field.target, cst.Name).value for field in given]  # type: ignore[union-attr]
        defaults = ["" if field.value is None else f"={code(field.value)}" for field in given]  # type: ignore[union-attr]
        signature = ", ".join(f"{name}{default}" for name, default in zip(names, defaults, strict=True))
        lines = "\n".join(f"    self.{name} = {name}" for name in names)
        init = cst.ensure_type(statement(f"def __init__(self, {signature}):\n{lines}\n"), cst.FunctionDef)
        post = next(part for part in node.body.body if m.matches(part, m.FunctionDef(name=m.Name("__post_init__"))))
        whole = prepend(init, "")
        whole = whole.with_changes(body=whole.body.with_changes(body=[*whole.body.body, *post.body.body]))  # type: ignore[attr-defined]
        methods = [part for part in node.body.body if isinstance(part, cst.FunctionDef) and part is not post]
        return node.with_changes(decorators=[], body=node.body.with_changes(body=[whole, *methods]))

    in_class(defining(root, CACHE), CACHE, change)


@variation()
def helper_reads_the_index(root: Path) -> None:
    """A local method uses the tensor's own methods; it must keep working or the tree be refused."""
    add_methods(defining(root, CACHE), CACHE, "def lengths(self):\n    return self._current_idx.tolist()\n")


@variation("refused", says="KVCache.to: the cache's index")
def helper_moves_the_index(root: Path) -> None:
    """A local ``to`` moves every tensor, the index among them."""
    code = """
def to(self, device):
    self.device = device
    self._keys = self._keys.to(device)
    self._values = self._values.to(device)
    self._current_idx = self._current_idx.to(device)
    self._layer_cache_map = self._layer_cache_map.to(device)
    return self
"""
    add_methods(defining(root, CACHE), CACHE, code)


@variation(
    "refused", says="backbone.py:.*uses _current_idx", full_graph="backbone.py:.*TotoBackbone.backbone is not the one"
)
def index_read_elsewhere(root: Path) -> None:
    """Another module reads the private index as a tensor."""
    rewrite_text(
        defining(root, "TotoBackbone"),
        lambda text: text.replace("kv_cache.current_len(0)", "int(kv_cache._current_idx[0].item())"),
    )


@variation()
def extra_methods(root: Path) -> None:
    util = defining(root, CACHE)
    code = """
def nbytes(self):
    return self._keys.numel() * self._keys.element_size() * 2

def __len__(self):
    return self._keys.shape[0]

@property
def capacity(self):
    return self.max_seq_len
"""
    add_methods(util, CACHE, code)
    rewrite_text(
        util,
        lambda text: text.replace(
            "@dataclass\nclass", "def make_cache(**kw):\n    return KVCache(**kw)\n\n\n@dataclass\nclass"
        ),
    )


@variation(full_graph="KVCache.reset is not the one")
def list_reset_by_statements(root: Path) -> None:
    """The reset also clears what a local method remembers."""
    util = defining(root, CACHE)
    in_method(
        util, CACHE, "reset", lambda function: prepend(function, "self._resets = getattr(self, '_resets', 0) + 1\n")
    )
