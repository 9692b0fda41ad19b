"""Uses of what the profile full-graph adds to a forecaster and to ``Toto``. They run in the child of ``worker.py``."""

from __future__ import annotations

import contextlib
import copy
import gc
import os
import pickle
import signal
import threading
import time
import types
import weakref
from collections.abc import Iterator
from typing import Any

import numpy
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


def after_what_is_not_finite(tree: Any) -> Any:
    """A clean forecast after a series with NaN, and one after a weight that was NaN for one forecast."""
    found: dict[str, Any] = {}
    for what in ("series", "weight"):
        model = tree.model()
        forecaster = _forecaster(tree, model)
        _mean(tree, forecaster)
        bad, weight = tree.series(50, 3), model.model.transformer.layers[0].attention.wO.weight
        with contextlib.suppress(ValueError), torch.no_grad():
            if what == "series":
                bad = bad._replace(series=bad.series.clone().index_fill_(1, torch.tensor([20]), float("nan")))
            else:
                right = float(weight[0, 0])
                weight[0, 0] = float("nan")
            forecaster.forecast(bad, 40)
        if what == "weight":
            with torch.no_grad():
                weight[0, 0] = right
        told = _told(forecaster)
        forecaster._decoding()._told.clear()
        found[what] = {"mean": _mean(tree, forecaster), "told": [*told, *_told(forecaster)]}
    return found


def rounds_of_one_sample(tree: Any) -> Any:
    """Three samples of a context of one patch, one after the other, under a seed."""
    forecaster = _forecaster(tree)
    forecaster.sampler = "seed-exact"
    torch.manual_seed(5)
    how = {"num_samples": 3, "samples_per_batch": 1}
    return forecaster.forecast(tree.series(16, 3), 40, **how).samples.flatten().tolist()


def seeds_after_changes(tree: Any) -> Any:
    """Whether the same seed gives the same samples in the first forecast after a change and in the second."""
    model = tree.model()
    forecaster = _forecaster(tree, model)

    def samples() -> Any:
        torch.manual_seed(0)
        return forecaster.forecast(tree.series(50, 3), 40, **HOW).samples

    def weight() -> None:
        model.model.unembed.bias.data.add_(0.01)

    def setting() -> None:
        model.model.scaler.minimum_scale = 0.2

    def hook() -> None:
        model.model.unembed.register_forward_hook(lambda *_: None)

    samples()
    found = {}
    for change in (weight, setting, hook):
        change()
        found[change.__name__] = torch.equal(samples(), samples())
    return found


def stopped_while_set(tree: Any) -> Any:
    """A forecast that a signal stops while buffers are set for another length; then one of the old length."""
    forecaster, rotary = _forecaster(tree), tree.module("inference.static_decoder.rotary")
    before = _mean(tree, forecaster)
    real = rotary.of_context

    def stop(*_: Any) -> Any:
        raise KeyboardInterrupt

    rotary.of_context = stop
    try:
        forecaster.forecast(tree.series(40, 3), 40)
        return "it was not stopped"
    except KeyboardInterrupt:
        pass
    finally:
        rotary.of_context = real
    return _mean(tree, forecaster) == before


def forked_beside_a_forecast(tree: Any) -> Any:
    """The exit status of a child that forecasts, while in the parent a forecast was under way."""
    forecaster = _forecaster(tree)
    before = _mean(tree, forecaster)
    place = forecaster._decoding()._place
    with place.lock:  # as another thread's forecast holds it
        child = os.fork()
        if child == 0:
            os._exit(0 if _mean(tree, forecaster) == before else 3)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return status
        time.sleep(0.1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "it hangs"


def shared(tree: Any) -> Any:
    """Forecasters of one backbone share a decoder, which goes with the backbone."""
    model = tree.model()
    first, second = _forecaster(tree, model), _forecaster(tree, model)
    same = [_mean(tree, first) == _mean(tree, second), first._decoding().decoder is second._decoding().decoder]
    kept, backbone = tree.module("inference.static_decoder.sharing").SHARED._places, weakref.ref(model.model)
    del model, first, second
    gc.collect()
    return [*same, backbone() is None, all(key() is not None for key in kept.data)]


def samples_at_once(tree: Any) -> Any:
    """How many of 1,024 samples are decoded at once: for two horizons, with few and with many per batch."""
    forecaster = _forecaster(tree)
    _mean(tree, forecaster)
    call, decoder = tree.module("inference.static_decoder.calls").Call, forecaster._decoding().decoder
    return {
        f"{horizon} steps, {per_batch} per batch": decoder._samples_at_once(
            call(tree.series(50, 1), horizon, 1024, per_batch, True, None, False).request(16)
        )
        for horizon in (16, 40_000)
        for per_batch in (8, 512)
    }


def horizon_of_numpy(tree: Any) -> Any:
    """A horizon that is an integer, but not Python's."""
    forecaster = _forecaster(tree)
    mean = forecaster.forecast(tree.series(50, 3), numpy.int64(40)).mean.flatten().tolist()
    return {"mean": mean, "told": _told(forecaster)}


def traced(tree: Any) -> Any:
    """A function that forecasts, traced with one series and run with another; and what it gives untraced."""
    forecaster, one, other = _forecaster(tree), tree.series(50, 3), tree.series(50, 3)
    forecaster.model.requires_grad_(False)
    other = other._replace(series=other.series * 2 + 1)

    def forecast(series: torch.Tensor) -> torch.Tensor:
        return forecaster.forecast(one._replace(series=series), 20).mean

    function = torch.jit.trace(forecast, one.series, check_trace=False)
    return [values(other.series).flatten().tolist() for values in (function, forecast)]


def other_ways_to_compile(tree: Any) -> Any:
    """A model compiled by another backend than Inductor; and one that is to be compiled where no compiler is."""
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    wrapped = tree.module("inference.forecaster").TotoForecaster(torch.compile(tree.model().model, backend="eager"))
    with _compilations() as asked:
        first = _mean(tree, wrapped)
    model = tree.model()
    model.compile()
    forecaster = _forecaster(tree, model)
    with inductor.patch({"cpp.cxx": (None, "/no/compiler"), "force_disable_caches": True}):
        second = _mean(tree, forecaster)
    torch._dynamo.reset()
    backends = {getattr(options["backend"], "__name__", "") for options in asked}
    return {"means": [first, second], "backends": sorted(backends), "told": _told(forecaster)}
