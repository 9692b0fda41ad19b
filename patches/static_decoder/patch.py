"""Problem. `TotoForecaster` repeats the whole context for every sample and reads each copy anew, un-embeds and samples
every patch of the context to keep the last one, and its decoding steps differ in shape: nothing can be compiled once.

Change. `TotoForecaster.forecast` first asks a decoder of its own, the package `static_decoder` that the patch puts
beside it. The decoder reads the context once per series, lets all samples share its keys and values, looks at one patch
per step, and does every step at the same shapes and addresses, so that one compiled graph without a break serves all of
them. New on the forecaster: `compile(mode=...)`, `release()`, and `sampler` ("fast", or "seed-exact" for proofs). What
the decoder does not know takes the original's path, and the log says once why: a model in training, hooks, adapters,
quantised layers, another scaler or distribution, no cache, replaced methods. All that it relies on is proved again
before every forecast.

Buys. Time that no longer grows with samples times context, a fraction of the memory, no graph break and no
recompilation while decoding. The benchmark page has the numbers.

Cost. The decoder computes with the weights and never calls the modules, so the patch is refused wherever one of the
methods that it stands for was changed. Buffers, compiled code and recorded graphs of the last few shapes are kept until
`release()`. The fast sampler draws from the same distribution with other random numbers than the original.

Upstream. DataDog/toto, `toto/inference/forecaster.py`, class `TotoForecaster`; 0.2.0 added known future variables.
"""

from pathlib import Path

import libcst as cst

from toto_patcher.patching import codemod
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.shape import read_shapes

CLASS = "TotoForecaster"
SIGNATURE = ("inputs", "prediction_length", "num_samples", "samples_per_batch", "use_kv_cache")
FUTURE = "future_exogenous_variables"
HAND_OVER = """\
decoded = self._decoding().forecast(
    __class__, self, inputs, prediction_length, num_samples, samples_per_batch, use_kv_cache, {future}
)
"""
RETURN = """\
if decoded is not None:
    return Forecast(mean=decoded[0], samples=decoded[1])
"""
# `python -m tests.shapes --write` fills in the shapes that the named functions have in the releases and in the forms
# of them that compute the same.
SHAPES = read_shapes(Path(__file__).with_name("shapes.json"))
# Whether one of these was replaced, the decoder sees by itself and leaves the forecast to it.
WATCHED = ("TotoForecaster", "TotoBackbone")


def transform(module: cst.Module) -> cst.Module:
    """Makes ``TotoForecaster.forecast`` ask the decoder first, and adds the methods that set it up."""
    forecaster = codemod.find_class(module, CLASS)
    forecast = _the_only_forecast(module, forecaster)
    if forecaster.bases or forecaster.decorators:
        raise codemod.unmet(module, forecaster, f"{CLASS} has a base class or a decorator")
    given = tuple(parameter.name.value for parameter in forecast.params.params)[1:]
    more = forecast.params.params[
        len(SIGNATURE) + 1 :
    ]  # nothing reads those that a release has not, or its shape tells
    if given[: len(SIGNATURE)] != SIGNATURE or any(parameter.default is None for parameter in more):
        expected = ", ".join((*SIGNATURE, f"[{FUTURE}]"))
        raise codemod.unmet(module, forecast, f"{CLASS}.forecast takes ({', '.join(given)}), expected ({expected})")
    added = codemod.insertion(Path(__file__).with_name("inserted.py"), "DecodingForecaster", module)
    taken = {name: node for node in forecaster.body.body for name in _bound(node)}
    for method in added:
        if method.name.value in taken:
            node = taken[method.name.value]
            raise codemod.unmet(module, node, f"{CLASS} already has {method.name.value}")
    changed = _handing_over(forecast, FUTURE if FUTURE in given else "None")
    body = codemod.replaced(forecaster.body.body, forecast, changed)
    after = codemod.append_methods(forecaster.with_changes(body=forecaster.body.with_changes(body=body)), added)
    return module.with_changes(body=codemod.replaced(module.body, forecaster, after))


def _the_only_forecast(module: cst.Module, forecaster: cst.ClassDef) -> cst.FunctionDef:
    found = [node for node in forecaster.body.body if isinstance(node, cst.FunctionDef) and "forecast" in _bound(node)]
    if len(found) != 1:
        raise codemod.unmet(module, forecaster, f"{CLASS} defines forecast {len(found)} times")
    if found[0].decorators:
        code = codemod.code(found[0].decorators[0])
        raise codemod.unmet(module, found[0], f"{CLASS}.forecast is decorated: {code}")
    return found[0]


def _bound(node: cst.CSTNode) -> list[str]:
    """The names that one item of a class's body binds."""
    if isinstance(node, cst.FunctionDef | cst.ClassDef):
        return [node.name.value]
    found = []
    for item in node.body if isinstance(node, cst.SimpleStatementLine) else ():
        targets = [target.target for target in item.targets] if isinstance(item, cst.Assign) else []
        targets += [item.target] if isinstance(item, cst.AnnAssign) else []
        found += [target.value for target in targets if isinstance(target, cst.Name)]
    return found


def _handing_over(forecast: cst.FunctionDef, future: str) -> cst.FunctionDef:
    body = cst.ensure_type(forecast.body, cst.IndentedBlock)
    start = 1 if forecast.get_docstring() is not None else 0
    added = [cst.parse_statement(HAND_OVER.format(future=future)), cst.parse_statement(RETURN)]
    return forecast.with_changes(body=body.with_changes(body=[*body.body[:start], *added, *body.body[start:]]))


def _sealed() -> dict[str, tuple[str, ...]]:
    """The methods that the decoder stands for, by class; a subclass with its own version would be bypassed."""
    found: dict[str, tuple[str, ...]] = {}
    for name in SHAPES:
        owner, _, method = name.rpartition(".")
        if owner and owner not in WATCHED:
            found[owner] = (*found.get(owner, ()), method)
    return found


PATCH = Patch(
    title="Forecast with a decoder that reads the context once and decodes at fixed shapes",
    why=__doc__ or "",
    transforms={CLASS: transform},
    profiles=("full-graph",),
    after=("kv-cache-tensor-index", "positional-embedding-break"),
    adds={CLASS: "static_decoder"},
    assumes=SHAPES,
    sealed=_sealed(),
    edits={CLASS: 6},
)
