"""Problem. To draw samples `TotoForecaster.generate_samples` repeats the whole context for every sample and lets the
model read every copy, again for each batch of samples, though the copies are equal until the first samples are drawn.
It also counts timestamps up, with one copy of the whole series for each time step, that nothing reads;
`generate_mean` does so too.

Change. With a KV cache, the model reads one copy of every series, once for all batches of samples. Its distribution is
repeated for the copies, and so are the keys and values that it cached, by the public methods of `KVCache`, as soon as a
second patch is forecast. Later steps run as before. The timestamps are gone. Without a cache, in training mode (where
dropout makes copies differ), with a distribution of one's own, and with hooks or code of one's own in the model, which
may draw random numbers for each copy, the copies are read as before.

Buys. The time and the memory to read the context no longer grow with the number of samples: the more samples, the
longer the context and the shorter the horizon, the more it saves.

Cost. A second cache, with one copy of every series, for as long as `generate_samples` runs. The same seed gives the
original's samples, up to rounding. Where timestamps do not fit the series, there is no error any more.

Upstream. DataDog/toto, `toto/inference/forecaster.py`, class `TotoForecaster`; 0.2.0 added known future variables.
"""

from collections.abc import Iterable
from pathlib import Path

import libcst as cst

from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.shape import read_shapes

CLASS = "TotoForecaster"
SAMPLES, MEAN = "generate_samples", "generate_mean"
COPIES = "sampling_batch_size"
TIMES = ("timestamp_seconds", "time_interval_seconds")
# What the first step of the copies has in common, and what the patch changes. `python -m tests.shapes --write`.
SHAPES = read_shapes(Path(__file__).with_name("shapes.json"))
NAME = "shared_prefill"


def transform(module: cst.Module) -> cst.Module:
    """Makes ``generate_samples`` call the model through ``_sharing_prefill``; drops the timestamps."""
    codemod.require_import(module, "torch")
    forecaster = codemod.find_class(module, CLASS)
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "PrefillingForecaster", module)
    codemod.require_absent(module, forecaster, added)
    own = codemod.methods(forecaster)
    for name in (SAMPLES, MEAN):
        if name not in own:
            raise codemod.unmet(module, forecaster, f"class {CLASS} has no method {name}")
    body = codemod.replaced(forecaster.body.body, own[MEAN], _without_times(module, own[MEAN]))
    shared = _sharing(module, own[SAMPLES], _without_times(module, own[SAMPLES]))
    body = codemod.replaced(body, own[SAMPLES], shared)
    after = codemod.append_methods(forecaster.with_changes(body=forecaster.body.with_changes(body=body)), added)
    return module.with_changes(body=codemod.replaced(module.body, forecaster, after))


def _sharing(module: cst.Module, original: cst.FunctionDef, method: cst.FunctionDef) -> cst.FunctionDef:
    """The method with its only call of the model redirected, and what it is redirected to made before the loop."""
    if COPIES not in [parameter.name.value for parameter in method.params.params]:
        raise codemod.unmet(module, original, f"{CLASS}.{SAMPLES} takes no {COPIES}")
    if any(name.value == NAME for name in nodes.every(original, cst.Name)):
        raise codemod.unmet(module, original, f"{CLASS}.{SAMPLES} already has {NAME}")
    calls = [node for node in nodes.every(method, cst.Call) if codemod.code(node.func) == "self.model"]
    loops = [node for node in method.body.body if isinstance(node, cst.For) and calls and calls[0] in nodes.walk(node)]
    if len(calls) != 1 or len(loops) != 1 or not all(argument.keyword for argument in calls[0].args):
        message = f"{CLASS}.{SAMPLES} does not call the model once, in a loop, with arguments by name"
        raise codemod.unmet(module, original, message)
    changed = nodes.rewritten(loops[0], _Redirected(calls[0]))
    made = cst.parse_statement(f"{NAME} = self._sharing_prefill({COPIES})")
    at = method.body.body.index(loops[0])
    body = [*method.body.body[:at], made, changed, *method.body.body[at + 1 :]]
    return method.with_changes(body=method.body.with_changes(body=body))


class _Redirected(cst.CSTTransformer):
    def __init__(self, call: cst.Call) -> None:
        super().__init__()
        self._call = call

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:  # noqa: N802 - libcst's naming
        return updated_node.with_changes(func=cst.Name(NAME)) if original_node is self._call else updated_node


def _without_times(module: cst.Module, method: cst.FunctionDef) -> cst.FunctionDef:
    """The method without the statements that only compute timestamps; refused where anything else reads them."""
    parameters = [parameter.name.value for parameter in method.params.params]
    for name in TIMES:
        if name not in parameters:
            raise codemod.unmet(module, method, f"{CLASS}.{method.name.value} takes no {name}")
    names = set(TIMES)
    assigned = [pair for pair in map(_assigned, nodes.every(method, cst.Assign, cst.AnnAssign)) if pair]
    before = 0
    while before < (before := len(names)):
        names |= {name for name, value in assigned if any(node.value in names for node in nodes.every(value, cst.Name))}
    changed = method.with_changes(body=_pruned(method.body, names))
    read = next((node for node in nodes.every(changed.body, cst.Name) if node.value in names), None)
    if read is not None:
        original = next(node for node in nodes.every(method.body, cst.Name) if node.value == read.value)
        message = f"{CLASS}.{method.name.value} uses the timestamps: {read.value}"
        raise codemod.unmet(module, original, message)
    return changed


def _assigned(node: cst.CSTNode) -> tuple[str, cst.BaseExpression] | None:
    """(name, value) of an assignment to one local name, annotated or not."""
    if isinstance(node, cst.AnnAssign) and node.value is not None:
        target: cst.BaseExpression = node.target
        value = node.value
    elif isinstance(node, cst.Assign) and len(node.targets) == 1:
        target, value = node.targets[0].target, node.value
    else:
        return None
    return (target.value, value) if isinstance(target, cst.Name) else None


def _pruned(block: cst.BaseSuite, names: set[str]) -> cst.BaseSuite:
    """A block without assignments to these names, and without the loops that then have nothing left to do."""
    if not isinstance(block, cst.IndentedBlock):
        return block
    return block.with_changes(body=list(_kept(block.body, names)))


def _kept(body: Iterable[cst.BaseStatement], names: set[str]) -> Iterable[cst.BaseStatement]:
    for node in body:
        if isinstance(node, cst.SimpleStatementLine):
            pair = _assigned(node.body[0]) if len(node.body) == 1 else None
            if pair is None or pair[0] not in names:
                yield node
        elif isinstance(node, cst.For):
            changed = node.with_changes(body=_pruned(node.body, names))
            if changed.body.body or not node.body.body:
                yield changed
        else:
            yield node


PATCH = Patch(
    title="Read the context once for all samples",
    why=__doc__ or "",
    transforms={CLASS: transform},
    profiles=("eager",),
    after=("kv-cache-tensor-index", "positional-embedding-break", "last-patch-head"),
    conflicts=("static-decoder",),
    assumes=SHAPES,
    sealed={
        CLASS: ("create_affine_transformed",),
        "TotoBackbone": ("backbone", "forward", "allocate_kv_cache"),
        "BaseMultiheadAttention": ("run_attention",),
        "KVCache": ("__getitem__", "append", "current_len", "seq_len", "reset"),
    },
    edits={CLASS: 8},
)
