"""Uses of what the profile full-graph adds to a forecaster and to ``Toto``. They run in the child of ``worker.py``."""

from __future__ import annotations

import contextlib
import copy
import pickle
import threading
import types
from collections.abc import Iterator
from typing import Any

import torch

HOW = {"num_samples": 4, "samples_per_batch": 2}


def _forecaster(tree: Any, model: Any = None) -> Any:
    return tree.module("inference.forecaster").TotoForecaster((model or tree.model()).model)


def _mean(tree: Any, forecaster: Any, **how: Any) -> list[float]:
    return list(forecaster.forecast(tree.series(50, 3), 40, **how).mean.flatten().tolist())


def _told(forecaster: Any) -> list[str]:
    return sorted(vars(forecaster)["_kept_decoding"]._told)


@contextlib.contextmanager
def _compilations() -> Iterator[list[dict[str, Any]]]:
    """What ``torch.compile`` is asked for; nothing is compiled."""
    original, asked = torch.compile, []

    def compile_(function: Any, **options: Any) -> Any:
        asked.append(options)
        return function

    torch.compile = compile_
    try:
        yield asked
    finally:
        torch.compile = original


def upstream(tree: Any) -> Any:
    """Of an unpatched tree: the mean, and samples under a seed."""
    forecaster = _forecaster(tree)
    mean = _mean(tree, forecaster)
    torch.manual_seed(5)
    return {"mean": mean, "samples": forecaster.forecast(tree.series(50, 3), 40, **HOW).samples.flatten().tolist()}


def decoded(tree: Any) -> Any:
    """The same of a patched one, with the sampler that is seed-exact."""
    forecaster = _forecaster(tree)
    mean = _mean(tree, forecaster)
    forecaster.sampler = "seed-exact"
    torch.manual_seed(5)
    samples = forecaster.forecast(tree.series(50, 3), 40, **HOW).samples.flatten().tolist()
    return {"mean": mean, "samples": samples, "told": _told(forecaster)}


def settings(tree: Any) -> Any:
    """The sampler's names, what they refuse, and what ``compile`` and ``release`` return."""
    forecaster = _forecaster(tree)
    before = forecaster.sampler
    forecaster.sampler = "seed-exact"
    after, refused = forecaster.sampler, ""
    try:
        forecaster.sampler = "exact"
    except ValueError as error:
        refused = str(error)
    return [before, after, refused, forecaster.sampler, forecaster.compile() is forecaster, forecaster.release()]


def copies(tree: Any) -> Any:
    """A copy keeps the settings, has buffers of its own, and forecasts the same.

    The model stays the same object: upstream's scaler can be neither copied nor pickled.
    """
    forecaster = _forecaster(tree)
    forecaster.sampler = "seed-exact"
    first = _mean(tree, forecaster)
    pickled = copy.copy(forecaster)
    pickled._kept_decoding = pickle.loads(pickle.dumps(forecaster._decoding()))
    deep = copy.deepcopy(forecaster, {id(forecaster.model): forecaster.model})
    twins = [deep, pickled, copy.copy(forecaster)]
    own = [twin._decoding() is not forecaster._decoding() for twin in twins]
    return [[twin.sampler, _mean(tree, twin) == first] for twin in twins], own


def released(tree: Any) -> Any:
    """After a release nothing is kept, and the next forecast is the same."""
    forecaster = _forecaster(tree)
    first = _mean(tree, forecaster)
    forecaster.release()
    kept = forecaster._decoding().decoder is not None
    return [kept, _mean(tree, forecaster) == first]


def kept(tree: Any) -> Any:
    """How many shapes are kept after one, three and six forecasts of different shapes; whether the last one is."""
    forecaster = _forecaster(tree)
    counts = []
    for number in range(1, 7):
        forecaster.forecast(tree.series(16 * number, 3), 5)
        sessions = forecaster._decoding().decoder.sessions
        counts.append(len(sessions))
    return [counts, [shape.context for shape in sessions]]


def imported(tree: Any) -> Any:
    """What ``compile`` imports for each backend, where that fails too."""
    decoding, found = tree.module("inference.static_decoder.decoding"), []

    def missing(name: str) -> None:
        found.append(name)
        raise RuntimeError(name)

    real, decoding.importlib = decoding.importlib, types.SimpleNamespace(import_module=missing)
    try:
        for options in ({}, {"mode": None, "backend": "eager"}, {"backend": "inductor"}):
            found.append(str(options))
            _forecaster(tree).compile(**options)
    finally:
        decoding.importlib = real
    return found


def compiled(tree: Any) -> Any:
    """What each way to compile asks of ``torch.compile``, without repeats."""
    found: dict[str, Any] = {}
    ways = {
        "nothing": lambda model, forecaster: None,
        "forecaster.compile()": lambda model, forecaster: forecaster.compile(),
        "forecaster.compile(backend)": lambda model, forecaster: forecaster.compile(mode=None, backend="eager"),
        "toto.compile()": lambda model, forecaster: model.compile(),
        "toto.compile(backend)": lambda model, forecaster: model.compile(backend="eager"),
        "toto.compile(disable)": lambda model, forecaster: model.compile(disable=True),
        "after a forecast": lambda model, forecaster: (_mean(tree, forecaster), model.compile(backend="eager")),
    }
    for name, way in ways.items():
        model = tree.model()
        forecaster = _forecaster(tree, model)
        with _compilations() as asked:
            way(model, forecaster)
            asked.clear()
            _mean(tree, forecaster)
        found[name] = sorted({str(sorted(options.items())) for options in asked})
    return found


def toto_compiles_the_backbone(tree: Any) -> Any:
    """Without the decoder: which arguments reach ``torch.compile``, and that the backbone's code runs compiled."""
    asked_for = []
    for arguments in ({}, {"mode": "default"}, {"backend": "eager"}, {"options": {"trace.enabled": False}}):
        with _compilations() as asked:
            tree.model().compile(**arguments)
        asked_for += asked
    graphs: list[int] = []

    def backend(graph: Any, inputs: Any) -> Any:
        graphs.append(len(inputs))
        return graph.forward

    torch._dynamo.reset()
    model = tree.model()
    model.compile(backend=backend)
    values = _mean(tree, _forecaster(tree, model))
    torch._dynamo.reset()
    return {
        "asked": [sorted(map(str, options.items())) for options in asked_for],
        "graphs": len(graphs) > 0,
        "mean": values,
    }


def compiled_for_real(tree: Any) -> Any:
    """The decoder's parts as graphs without a break."""
    torch._dynamo.reset()
    forecaster = _forecaster(tree).compile(mode=None, backend="eager")
    values = _mean(tree, forecaster)
    torch._dynamo.reset()
    return {"mean": values, "told": _told(forecaster)}


def left_to_upstream(tree: Any) -> Any:
    """Reasons to take upstream's path, and the mean that comes out."""
    found: dict[str, Any] = {}

    def hooked(forecaster: Any) -> None:
        forecaster.model.unembed.register_forward_hook(lambda *_: None)

    def replaced(forecaster: Any) -> None:
        original = forecaster.generate_mean
        forecaster.generate_mean = lambda *args, **kwargs: original(*args, **kwargs)

    def other_gate(forecaster: Any) -> None:
        layer = forecaster.model.transformer.layers[0]
        layer.mlp[1] = type("Gate", (type(layer.mlp[1]),), {})().eval()

    def part_in_training(forecaster: Any) -> None:
        forecaster.model.transformer.layers[0].mlp.train()
        forecaster.model.transformer.layers[0].mlp[3].p = 0.0

    def of_another_class(forecaster: Any) -> None:
        attention = forecaster.model.transformer.layers[0].attention
        attention.wO.weight = type("Weight", (torch.nn.Parameter,), {})(attention.wO.weight.data)

    for change in (hooked, replaced, other_gate, part_in_training, of_another_class):
        forecaster = _forecaster(tree)
        for when in ("before", "after a forecast"):
            if when != "before":
                forecaster = _forecaster(tree)
                _mean(tree, forecaster)
            change(forecaster)
            found[f"{change.__name__}, {when}"] = {"mean": _mean(tree, forecaster), "told": _told(forecaster)}
    return found


def masks(tree: Any) -> Any:
    """Masks of other dtypes: those of upstream's README, and a padding mask of numbers."""
    series = tree.series(50, 3)
    readme = series._replace(id_mask=torch.zeros_like(series.series))
    numbers = series._replace(padding_mask=series.padding_mask.float())
    found = {}
    for name, given in {"readme": readme, "numbers": numbers}.items():
        forecaster = _forecaster(tree)
        mean = forecaster.forecast(given, 40).mean.flatten().tolist()
        found[name] = {"mean": mean, "told": _told(forecaster)}
    return found


def precisions(tree: Any) -> Any:
    """Precision of products set as newer torch wants it, and a float64 model in a caller's autocast."""
    matmul = torch.backends.cuda.matmul
    before = getattr(matmul, "fp32_precision", None)
    try:
        if before is not None:
            matmul.fp32_precision = "tf32"
        newer = _mean(tree, _forecaster(tree))
    finally:
        if before is not None:
            matmul.fp32_precision = before
    model = tree.model().double()
    series = tree.series(50, 3)
    series = series._replace(series=series.series.double())
    forecaster = _forecaster(tree, model)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        wide = forecaster.forecast(series, 40).mean.flatten().tolist()
    return {"newer": newer, "wide": wide, "told": _told(forecaster)}


def two_threads(tree: Any) -> Any:
    """Two threads on one forecaster, both its first."""
    forecaster = _forecaster(tree)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(_mean(tree, forecaster))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found
