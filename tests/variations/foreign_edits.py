"""Local changes around and inside the methods that the patches touch: keep them or refuse, never lose them."""

from __future__ import annotations

import ast
from pathlib import Path

import libcst as cst
import libcst.matchers as m

from .base import variation
from .edit import (
    ATTENTION,
    CACHE,
    add_import,
    add_methods,
    before_return,
    defining,
    in_method,
    prepend,
    rewrite_text,
    sources,
    statement,
    target_files,
)

LOG = "import logging as _logging\n"
LINE = "_logging.getLogger('local').debug('{}')\n"


KEPT = ("rearrange_inputs", "get_qkv", "run_attention", "rearrange_output")


@variation(full_graph="BaseMultiheadAttention.get_qkv is not the one")
def logging_at_the_start_of_methods(root: Path) -> None:
    """In every method of the cache, and in those of the attention that stay in use."""
    for name, methods in ((CACHE, (None,)), (ATTENTION, KEPT)):
        path = defining(root, name)
        for method in methods:
            in_method(path, name, method, lambda function: prepend(function, LINE.format(function.name.value)))
        add_import(path, LOG)


@variation(full_graph="KVCache.append is not the one")
def logging_at_the_end_of_cache_methods(root: Path) -> None:
    path = defining(root, CACHE)
    in_method(path, CACHE, None, lambda function: before_return(function, LINE.format(function.name.value)))
    add_import(path, LOG)


@variation(
    "refused",
    says="BaseMultiheadAttention.forward has a statement",
    full_graph="BaseMultiheadAttention.forward is not the one",
)
def logging_inside_forward(root: Path) -> None:
    path = defining(root, ATTENTION)
    in_method(path, ATTENTION, "forward", lambda function: before_return(function, LINE.format("end of forward")))
    add_import(path, LOG)


class _Rename(cst.CSTTransformer):
    def __init__(self, names: set[str]) -> None:
        super().__init__()
        self._names = names

    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:  # noqa: N802
        value = original_node.value
        return updated_node.with_changes(value=f"local_{value}") if value in self._names else updated_node

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:  # noqa: N802
        return updated_node.with_changes(attr=original_node.attr)

    def leave_Arg(self, original_node: cst.Arg, updated_node: cst.Arg) -> cst.Arg:  # noqa: N802
        return updated_node.with_changes(keyword=original_node.keyword)


def _locals(function: cst.FunctionDef) -> set[str]:
    tree = ast.parse(cst.Module([function.with_changes(decorators=[])]).code)
    stored = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    return stored - {argument.arg for argument in ast.walk(tree) if isinstance(argument, ast.arg)}


@variation()
def local_variables_renamed(root: Path) -> None:
    for name in (CACHE, ATTENTION):
        in_method(
            defining(root, name),
            name,
            None,
            lambda function: cst.ensure_type(function.visit(_Rename(_locals(function))), cst.FunctionDef),
        )


@variation("refused", says="expected .layer_idx")
def parameters_renamed(root: Path) -> None:
    """Callers pass them by position, so nothing else notices."""
    in_method(
        defining(root, ATTENTION),
        ATTENTION,
        "forward",
        lambda function: cst.ensure_type(
            function.visit(_Rename({"kv_cache", "layer_idx", "inputs", "attention_mask"})), cst.FunctionDef
        ),
    )
    for method in ("append", "seq_len", "__getitem__"):
        in_method(
            defining(root, CACHE),
            CACHE,
            method,
            lambda function: cst.ensure_type(function.visit(_Rename({"layer_idx"})), cst.FunctionDef),
        )


def _decorate(function: cst.FunctionDef, code: str) -> cst.FunctionDef:
    decorator = cst.Decorator(cst.parse_expression(code))
    return function.with_changes(decorators=[decorator, *function.decorators])


@variation("refused", says="forward is decorated", full_graph="BaseMultiheadAttention.forward is not the one")
def no_grad_on_forward(root: Path) -> None:
    in_method(defining(root, ATTENTION), ATTENTION, "forward", lambda f: _decorate(f, "torch.no_grad()"))


@variation(full_graph="KVCache.append is not the one")
def decorated_cache_methods(root: Path) -> None:
    for method in ("append", "__getitem__", "reset"):
        in_method(defining(root, CACHE), CACHE, method, lambda f: _decorate(f, "torch.no_grad()"))


@variation("refused", says="top-level class KVCache")
def class_wrapped_in_condition(root: Path) -> None:
    """The class is defined inside ``if True:``, as version switches do."""
    path = defining(root, CACHE)

    def change(text: str) -> str:
        head, tail = text.split("@dataclass\nclass KVCache", 1)
        body = "@dataclass\nclass KVCache" + tail
        return head + "if True:\n" + "".join(f"    {line}" if line.strip() else line for line in body.splitlines(True))

    rewrite_text(path, change)


@variation()
def helpers_in_attention(root: Path) -> None:
    add_methods(defining(root, ATTENTION), ATTENTION, "def extra_repr(self):\n    return f'heads={self.num_heads}'\n")


@variation()
def final_pass_statements(root: Path) -> None:
    for path in target_files(root):
        rewrite_text(path, lambda text: text + "\n\nif __name__ == '__main__':\n    pass\n")


@variation(full_graph="KVCache.append is not the one")
def sliding_window(root: Path) -> None:
    """A cache that starts again when it is full."""
    code = """
if self._current_idx[0] >= self.max_seq_len:
    self._current_idx[0] = 0
"""
    in_method(defining(root, CACHE), CACHE, "append", lambda f: prepend(f, code))


# Changes of the mathematics: whatever is patched must give what the SAME tree gave unpatched.


@variation(
    "refused",
    says="positional_embedding has a statement",
    same_as_release=False,
    full_graph="BaseMultiheadAttention.positional_embedding is not the one",
)
def rotary_rewritten_locally(root: Path) -> None:
    """A fork scales its queries where the rotary embedding is applied."""
    path = defining(root, ATTENTION)
    in_method(path, ATTENTION, "positional_embedding", lambda f: prepend(f, "q = q * 0.5\n"))


@variation(
    "refused",
    says="forward has a statement",
    same_as_release=False,
    full_graph="BaseMultiheadAttention.forward is not the one",
)
def output_scaled_in_forward(root: Path) -> None:
    """A fork changes the attention's output before its projection."""
    path = defining(root, ATTENTION)
    in_method(path, ATTENTION, "forward", lambda f: before_return(f, "output = output * 0.5\n"))


@variation(
    "refused",
    says="forward has a statement",
    same_as_release=False,
    full_graph="BaseMultiheadAttention.forward is not the one",
)
def inputs_scaled_in_forward(root: Path) -> None:
    path = defining(root, ATTENTION)
    in_method(path, ATTENTION, "forward", lambda f: prepend(f, "inputs = inputs * 0.5\n"))


@variation("refused", says="forward has a statement", full_graph="BaseMultiheadAttention.forward is not the one")
def penalty_recorded_in_forward(root: Path) -> None:
    """Upstream's development branch computes a regularizer between rotary and attention when it is switched on."""
    path = defining(root, ATTENTION)

    def change(function: cst.FunctionDef) -> cst.FunctionDef:
        body = list(function.body.body)
        at = next(i for i, part in enumerate(body) if m.findall(part, m.Attribute(attr=m.Name("run_attention"))))
        hook = statement(
            "if getattr(self, 'penalise', False) and self.training:\n    self.penalty = q.square().mean()\n"
        )
        body.insert(at, hook)
        return prepend(function.with_changes(body=function.body.with_changes(body=body)), "self.penalty = None\n")

    in_method(path, ATTENTION, "forward", change)


@variation(
    "refused",
    says="TimeWiseMultiheadAttention overrides BaseMultiheadAttention.positional_embedding",
    same_as_release=False,
    full_graph="overrides BaseMultiheadAttention.positional_embedding",
)
def subclass_overrides_positions(root: Path) -> None:
    """The time-wise subclass replaces the method that applies positions; it must still be called."""
    code = """
def positional_embedding(self, q, k, v, kv_cache, layer_idx):
    return super().positional_embedding(q * 0.5, k, v, kv_cache, layer_idx)
"""
    add_methods(defining(root, ATTENTION), "TimeWiseMultiheadAttention", code)


@variation(same_as_release=False, full_graph="overrides BaseMultiheadAttention.run_attention")
def subclass_overrides_attention(root: Path) -> None:
    code = """
def run_attention(self, *args, **kwargs):
    return super().run_attention(*args, **kwargs) * 0.5
"""
    add_methods(defining(root, ATTENTION), "TimeWiseMultiheadAttention", code)


@variation(
    "refused",
    says="TimeWiseMultiheadAttention overrides BaseMultiheadAttention.forward",
    same_as_release=False,
    full_graph="overrides BaseMultiheadAttention.forward",
)
def subclass_overrides_forward(root: Path) -> None:
    code = """
def forward(self, *args, **kwargs):
    return super().forward(*args, **kwargs) * 0.5
"""
    add_methods(defining(root, ATTENTION), "TimeWiseMultiheadAttention", code)


@variation(same_as_release=False, full_graph="KVCache.append is not the one")
def keys_scaled_in_append(root: Path) -> None:
    path = defining(root, CACHE)
    in_method(path, CACHE, "append", lambda f: prepend(f, "kv = (kv[0] * 0.5, kv[1])\n"))


class _Shifted(cst.CSTTransformer):
    def leave_Return(self, original_node: cst.Return, updated_node: cst.Return) -> cst.Return:  # noqa: N802
        assert updated_node.value is not None
        more = cst.BinaryOperation(updated_node.value, cst.Add(), cst.Integer("3"))
        return updated_node.with_changes(value=more)


@variation(same_as_release=False, full_graph="KVCache.seq_len is not the one")
def length_shifted(root: Path) -> None:
    """A fork counts a prefix that is not in the cache: whoever asks for the length must get what ``seq_len`` says."""
    in_method(
        defining(root, CACHE),
        CACHE,
        "seq_len",
        lambda f: cst.ensure_type(f.visit(_Shifted()), cst.FunctionDef),
    )


@variation(
    "refused",
    says="local.py:.*LocalAttention overrides BaseMultiheadAttention.forward",
    runs=False,
    full_graph="local.py:.*overrides BaseMultiheadAttention.forward",
)
def subclass_in_another_file(root: Path) -> None:
    code = """
from .attention import TimeWiseMultiheadAttention


class Between(TimeWiseMultiheadAttention):
    pass


class LocalAttention(Between):
    def forward(self, *args, **kwargs):
        return super().forward(*args, **kwargs) * 0.5
"""
    (root / "toto/model/local.py").write_text(code)


@variation("refused", says="TimeAwareRotaryEmbedding", runs=False, full_graph="defines class TimeAwareRotaryEmbedding")
def rotary_class_under_another_name(root: Path) -> None:
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace("TimeAwareRotaryEmbedding", "LocalRotary"), encoding="utf-8")


@variation(same_as_release=False, full_graph="BaseMultiheadAttention.get_qkv is not the one")
def queries_normalised(root: Path) -> None:
    """A fork normalises queries and keys in ``get_qkv``."""
    path = defining(root, ATTENTION)
    in_method(path, ATTENTION, "get_qkv", lambda f: prepend(f, "inputs = inputs / (1 + inputs.abs().mean())\n"))


@variation(same_as_release=False, full_graph="rope.py:.*get_scale is not the one")
def rotary_module_replaced(root: Path) -> None:
    """The rotary embedding itself is another: plain rotation, no xPos scale."""
    path = defining(root, "TimeAwareRotaryEmbedding")
    in_method(
        path, "TimeAwareRotaryEmbedding", "get_scale", lambda f: prepend(f, "return torch.ones_like(t)[..., None]\n")
    )


@variation(
    "refused",
    says="rope.py:.*rotate_queries_and_keys is not the one",
    same_as_release=False,
    full_graph="rope.py:.*rotate_queries_and_keys is not the one",
)
def rotary_offset_used_twice(root: Path) -> None:
    """The rotary embedding treats its offset argument in its own way."""
    path = defining(root, "TimeAwareRotaryEmbedding")
    in_method(
        path,
        "TimeAwareRotaryEmbedding",
        "rotate_queries_and_keys",
        lambda f: prepend(f, "seq_pos_offset = 2 * seq_pos_offset\n"),
    )
