"""Problem. Upstream's README says `toto.compile()`, and `TotoForecaster(toto.model)`. The first compiles `Toto` itself,
which nobody calls; the forecaster calls `toto.model`, which stays as it was. The advice has no effect.

Change. `Toto` gets a `compile` of its own that compiles `toto.model`, with the arguments of `torch.compile`. Where
none is given, the mode is "reduce-overhead". Beside the patch `static-decoder` it is the decoder that is compiled, for
every forecaster of that model, as by the forecaster's own `compile()`.

Buys. The documented call does what it says.

Cost. None until it is called.

Upstream. DataDog/toto, `toto/model/toto.py`, class `Toto`; byte-identical in 0.1.3, 0.1.4 and 0.2.0.
"""

from pathlib import Path

import libcst as cst

from toto_patcher.patching import codemod, nodes
from toto_patcher.patching.patch import Patch

CLASS = "Toto"


def transform(module: cst.Module) -> cst.Module:
    """Gives ``Toto`` its own ``compile``."""
    toto = codemod.find_class(module, CLASS)
    bases = [codemod.code(base.value).rpartition(".")[2] for base in toto.bases]
    if "Module" not in bases:
        raise codemod.unmet(module, toto, f"class {CLASS} is no torch.nn.Module")
    init = codemod.methods(toto).get("__init__")
    if init is None or not any(map(_creates_backbone, nodes.walk(init))):
        raise codemod.unmet(module, toto, f"{CLASS}.__init__ does not create self.model as a TotoBackbone")
    if any(isinstance(node, cst.Name) and node.value == "compile" for node in map(_bound, toto.body.body)):
        raise codemod.unmet(module, toto, f"{CLASS} already has compile")
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "EffectiveCompile", module)
    return module.with_changes(body=codemod.replaced(module.body, toto, codemod.append_methods(toto, added)))


def _bound(node: cst.CSTNode) -> cst.CSTNode | None:
    """The name that one item of a class's body binds."""
    if isinstance(node, cst.FunctionDef):
        return node.name
    line = node.body[0] if isinstance(node, cst.SimpleStatementLine) else None
    return line.targets[0].target if isinstance(line, cst.Assign) else None


def _creates_backbone(node: cst.CSTNode) -> bool:
    """``self.model = TotoBackbone(...)``."""
    if not isinstance(node, cst.Assign) or not isinstance(node.value, cst.Call):
        return False
    targets = [codemod.code(target.target) for target in node.targets]
    return targets == ["self.model"] and codemod.code(node.value.func).rpartition(".")[2] == "TotoBackbone"


PATCH = Patch(
    title="Let toto.compile() compile what a forecaster calls",
    why=__doc__ or "",
    transforms={CLASS: transform},
    profiles=("full-graph",),
    after=("static-decoder",),
    where_absent={CLASS: "nothing to change, for no class Toto wraps the backbone here; the forecaster has compile()"},
    edits={CLASS: 1},
)
