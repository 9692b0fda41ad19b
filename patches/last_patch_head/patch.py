"""Problem. At every step of a forecast only the last patch is looked at, and `TotoBackbone` un-embeds all that it was
given: a vector as wide as the model for every time step of the context, then the parameters of a distribution and a
random number for every component of it. At the first step, which reads the context, that is most of the memory.

Change. Where a KV cache is given, which is when the model forecasts, `TotoBackbone.backbone` un-embeds the last patch
alone. Without a cache (training, uncached forecasts, teacher forcing), with a head that has hooks or is not upstream's,
and where patches overlap or leave gaps, nothing changes. New are `every_patch` on the
backbone, which set to `True` gives the original's behaviour back, and the same switch on the forecaster under the name
`sampler`: "fast", or "seed-exact" for proofs.

Buys. The head's time and memory no longer grow with the context, for means and for samples, with and without a
compiler.

Cost. Whoever calls the model itself with a cache gets the distribution of the last patch where the first call gave one
of every patch; `loc` and `scale` stay whole. The same seed gives other samples than the original, which also draws the
context to throw it away; with `every_patch` they are the original's.

Upstream. DataDog/toto, `toto/model/backbone.py`, class `TotoBackbone`; `TotoForecaster.create_affine_transformed`
already takes a distribution that covers the latest patch only.
"""

from pathlib import Path

import libcst as cst

from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.shape import read_shapes

BACKBONE, FORECASTER = "TotoBackbone", "TotoForecaster"
METHOD, CACHE = "backbone", "kv_cache"
INSERTED = Path(__file__).with_name("inserted.py")
# What looks at the last patch only, and what the patch changes. `python -m tests.shapes --write` fills them in.
SHAPES = read_shapes(Path(__file__).with_name("shapes.json"))
HANDED_ON = f"self._to_unembed(hidden, {CACHE})"


def change_backbone(module: cst.Module) -> cst.Module:
    """Makes ``TotoBackbone.backbone`` un-embed what ``_to_unembed`` leaves."""
    codemod.require_import(module, "torch")
    backbone = codemod.find_class(module, BACKBONE)
    added = codemod.insertion(INSERTED, "LastPatchBackbone", module)
    codemod.require_absent(module, backbone, added)
    method = codemod.methods(backbone).get(METHOD)
    if method is None:
        raise codemod.unmet(module, backbone, f"class {BACKBONE} has no method {METHOD}")
    if CACHE not in [parameter.name.value for parameter in method.params.params]:
        raise codemod.unmet(module, method, f"{BACKBONE}.{METHOD} takes no {CACHE}")
    calls = [node for node in nodes.every(method, cst.Call) if codemod.code(node.func) == "self.unembed"]
    if len(calls) != 1 or len(calls[0].args) != 1 or calls[0].args[0].keyword or calls[0].args[0].star:
        raise codemod.unmet(module, method, f"{BACKBONE}.{METHOD} calls self.unembed {len(calls)} times, or otherwise")
    changed = cst.ensure_type(nodes.rewritten(method, _Unembedding(calls[0])), cst.FunctionDef)
    body = codemod.replaced(backbone.body.body, method, changed)
    after = codemod.append_methods(backbone.with_changes(body=backbone.body.with_changes(body=body)), added)
    return module.with_changes(body=codemod.replaced(module.body, backbone, after))


class _Unembedding(cst.CSTTransformer):
    """Lets the argument of one call pass through ``_to_unembed``."""

    def __init__(self, call: cst.Call) -> None:
        super().__init__()
        self._call = call

    def leave_Call(self, original_node: cst.Call, updated_node: cst.Call) -> cst.Call:  # noqa: N802 - libcst's naming
        """Wraps the argument, which keeps its own source."""
        if original_node is not self._call:
            return updated_node
        (argument,) = updated_node.args
        handed_on = cst.ensure_type(cst.parse_expression(HANDED_ON), cst.Call)
        first = handed_on.args[0].with_changes(value=argument.value)
        handed_on = handed_on.with_changes(args=[first, *handed_on.args[1:]])
        return updated_node.with_changes(args=[argument.with_changes(value=handed_on)])


def change_forecaster(module: cst.Module) -> cst.Module:
    """Gives ``TotoForecaster`` the switch under the name that proofs look for."""
    forecaster = codemod.find_class(module, FORECASTER)
    added = codemod.insertion(INSERTED, "SwitchedForecaster", module)
    codemod.require_absent(module, forecaster, added)
    after = codemod.append_methods(forecaster, added)
    return module.with_changes(body=codemod.replaced(module.body, forecaster, after))


PATCH = Patch(
    title="Un-embed only the last patch when forecasting",
    why=__doc__ or "",
    transforms={BACKBONE: change_backbone, FORECASTER: change_forecaster},
    profiles=("eager",),
    after=("kv-cache-tensor-index", "positional-embedding-break"),
    conflicts=("static-decoder",),
    assumes=SHAPES,
    sealed={
        BACKBONE: ("forward",),
        FORECASTER: ("create_affine_transformed", "generate_mean", "generate_samples"),
    },
    edits={BACKBONE: 4, FORECASTER: 2},
)
