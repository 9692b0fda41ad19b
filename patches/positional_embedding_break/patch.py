"""Problem. Each time-wise layer asks the cache for its length, rotates queries and keys by it, appends and reads back.
Compiled, that is a handful of graph breaks per layer, a rotary embedding recompiled for a changing integer, and
attention graphs over a length that grows at every step: one more CUDA graph to record for each.

Change. With a cache, `BaseMultiheadAttention.forward` hands a time-wise layer to `_forward_with_cache`, which runs as
plain Python: first one compiled region (projection and rotary embedding, with the offset as a tensor, so its shapes
never change while decoding), then, eagerly, the cache is written and read and attention runs over it. Without a cache,
and for space-wise layers, nothing changes and no graph breaks. Where `positional_embedding`, `run_attention` or the
rotary embedding's rotation was replaced, on a class or an instance, upstream's own steps run.

Buys. One graph break per time-wise layer, 11 in the published model, none of which synchronises with the GPU. No
compiled region ever sees the length of the cache: nothing to recompile when the horizon changes, and one set of CUDA
graphs for decoding. The breaks that remain are there because the cache is mutated between the two halves of a layer,
and a CUDA graph must not mutate its inputs; the profile `full-graph` is the way to have none.

Cost. Attention and the output projection of time-wise layers are launched eagerly, a handful of kernels a layer. The
hand-over is marked with `torch._dynamo.decorators.skip`, the mark that `torch.compiler.disable(recursive=False)` stood
for until it became a wrapper: the wrapper makes Dynamo examine the frame anew at every call, which costs the host more
than the rest of the layer. Outside of this project nothing promises that name; it was tried on torch 2.11 and 2.13.

Upstream. DataDog/toto, `toto/model/attention.py`, `BaseMultiheadAttention`; 0.1.4 added a log line to the module.
"""

import ast
from pathlib import Path

import libcst as cst

from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.scope import scope_of
from toto_patcher.patching.shape import alike, first_difference, function_shape, read_shapes, statements_of

CLASS = "BaseMultiheadAttention"
SIGNATURES = {
    "rearrange_inputs": ("inputs",),
    "get_qkv": ("inputs",),
    "positional_embedding": ("q", "k", "v", "kv_cache", "layer_idx"),
    "run_attention": ("attention_mask", "q", "k", "v", "seq_pos_offset", "dropout", "seq_len", "variate"),
    "rearrange_output": ("output", "batch", "variate", "seq_len"),
    "forward": ("layer_idx", "inputs", "attention_mask", "kv_cache"),
}
# The cached path takes the place of the first two, so they must compute exactly what it was written for; the rotary
# embedding is handed the positions themselves, where `forward` hands it their offset. `python -m tests.shapes --write`.
SHAPES = read_shapes(Path(__file__).with_name("shapes.json"))
ROTARY = "TimeAwareRotaryEmbedding.rotate_queries_and_keys"
REPLACED = ("positional_embedding", "forward")
HAND_OVER = """\
if (
    self.attention_axis == AttentionAxis.TIME
    and hasattr(kv_cache, "position")
    and getattr(self, "_hands_over", True)
):
    return self._forward_with_cache(layer_idx, inputs, attention_mask, kv_cache)
"""


def transform(module: cst.Module) -> cst.Module:
    """Gives the attention class its cached path and makes ``forward`` use it."""
    codemod.require_import(module, "torch")
    attention = codemod.find_class(module, CLASS)
    codemod.require_methods(module, attention, SIGNATURES)
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "CachedAttention", module)
    for method in added:
        if method.name.value in codemod.methods(attention):
            raise codemod.unmet(module, attention, f"{CLASS} already has a method {method.name.value}")
    _refuse_rebinding(module, attention)
    _require_shapes(module, attention)
    _require_reads_only(module, codemod.methods(attention)["run_attention"])
    forward = codemod.methods(attention)["forward"]
    body = codemod.replaced(attention.body.body, forward, _handing_over(forward))
    changed = attention.with_changes(body=attention.body.with_changes(body=body))
    return module.with_changes(body=codemod.replaced(module.body, attention, codemod.append_methods(changed, added)))


def _refuse_rebinding(module: cst.Module, attention: cst.ClassDef) -> None:
    """The methods must be what their definitions say: not decorated with the class, not assigned, not defined twice."""
    if attention.decorators:
        raise codemod.unmet(module, attention, f"{CLASS} is decorated: {codemod.code(attention.decorators[0])}")
    defined = [node.name.value for node in nodes.every(attention.body, cst.FunctionDef)]
    for name in REPLACED:
        if defined.count(name) != 1:
            raise codemod.unmet(module, attention, f"{CLASS} defines {name} {defined.count(name)} times")
    own = set(map(id, nodes.every(attention, cst.AssignTarget)))
    for node in nodes.every(module, cst.AssignTarget):
        target = node.target
        inside = isinstance(target, cst.Name) and target.value in REPLACED and id(node) in own
        outside = isinstance(target, cst.Attribute) and target.attr.value in REPLACED
        if inside or outside:
            raise codemod.unmet(module, node, f"a method of {CLASS} is assigned: {codemod.code(target)}")


def _require_shapes(module: cst.Module, attention: cst.ClassDef) -> None:
    tree = ast.parse(module.bytes)
    owner = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == CLASS)
    scope = scope_of(tree, owner)
    for name in REPLACED:
        method = codemod.methods(attention)[name]
        if method.decorators:
            raise codemod.unmet(module, method, f"{CLASS}.{name} is decorated: {codemod.code(method.decorators[0])}")
        function = next(node for node in owner.body if isinstance(node, ast.FunctionDef) and node.name == name)
        alternatives = SHAPES[f"{CLASS}.{name}"]
        found = function_shape(function, scope)[1:]  # the head is looked at elsewhere
        wanted = max((statements_of(one)[1:] for one in alternatives if one), key=lambda one: alike(found, one))
        number, line = alike(found, wanted), first_difference(function, scope, alternatives, head=False)
        if number < min(len(found), len(wanted)):
            raise _unknown(name, line, "has a statement here that the patch was not written for")
        if len(found) < len(wanted):
            raise _unknown(name, function.lineno, "ends before the patch expects it to")
        if len(found) > len(wanted):
            raise _unknown(name, line, "goes on where the patch expects it to end")


def _require_reads_only(module: cst.Module, method: cst.FunctionDef) -> None:
    """``run_attention`` is handed views of the cache, where upstream hands it copies: it must not write to them."""
    parameters = {parameter.name.value for parameter in method.params.params}
    for node in nodes.every(method, cst.AugAssign, cst.AssignTarget, cst.Call, cst.Arg):
        target = node.target if isinstance(node, cst.AugAssign | cst.AssignTarget) else None
        stored = isinstance(target, cst.Subscript)
        in_place = isinstance(node, cst.AugAssign) and isinstance(target, cst.Name) and target.value in parameters
        called = node.func.attr.value if isinstance(node, cst.Call) and isinstance(node.func, cst.Attribute) else ""
        written = called.endswith("_") and not called.endswith("__")
        kept = isinstance(node, cst.Arg) and node.keyword is not None and node.keyword.value == "out"
        if in_place or stored or written or kept or called in ("view", "view_as", "data_ptr"):
            message = f"{CLASS}.run_attention may write to the cache or need a copy of it: {codemod.code(node)}"
            raise codemod.unmet(module, node, message)


def _unknown(name: str, line: int, fault: str) -> UnknownSourceError:
    hint = "Move your change into a hook, or select the patch kv-cache-tensor-index alone."
    return UnknownSourceError(f"{CLASS}.{name} {fault}", line=line, hint=hint)


def _handing_over(forward: cst.FunctionDef) -> cst.FunctionDef:
    body = cst.ensure_type(forward.body, cst.IndentedBlock)
    start = 1 if forward.get_docstring() is not None else 0
    statements = [*body.body[:start], cst.parse_statement(HAND_OVER), *body.body[start:]]
    return forward.with_changes(body=body.with_changes(body=statements))


PATCH = Patch(
    title="Write, read and attend over the KV cache in one graph break per layer",
    why=__doc__ or "",
    transforms={CLASS: transform},
    profiles=("graph-breaks",),
    requires=("kv-cache-tensor-index",),
    after=("kv-cache-tensor-index",),
    assumes={ROTARY: SHAPES[ROTARY]},
    sealed={CLASS: REPLACED, "TimeAwareRotaryEmbedding": ("rotate_queries_and_keys",)},
    edits={CLASS: 5},
)
