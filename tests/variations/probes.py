"""Uses of the cache and the attention beyond a plain forecast. Each returns plain data, equal before and after a patch.

They run in the child process of ``worker.py``; the argument is the imported tree.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import functools
import hashlib
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import torch


def probe(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Marks a probe; ``uses.py`` finds them."""
    return function


def digest(*tensors: torch.Tensor) -> list[str]:
    """Type, shape and bytes of each tensor."""
    return [
        f"{t.dtype} {tuple(t.shape)} {hashlib.sha256(t.detach().reshape(-1).view(torch.uint8).numpy()).hexdigest()}"
        for t in tensors
    ]


def noise(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(7)).to(dtype)


def cache_for(tree: Any, model: Any, batch: int = 1, variates: int = 2, steps: int = 160, **more: Any) -> Any:
    how = {"device": torch.device("cpu"), "dtype": torch.float32, **more}
    return model.model.allocate_kv_cache(batch_size=batch, num_variates=variates, max_time_steps=steps, **how)


def walk(model: Any, cache: Any, lengths: tuple[int, ...], batch: int = 1, variates: int = 2) -> Iterator[torch.Tensor]:
    """The transformer over consecutive stretches of embeddings."""
    width = model.model.embed_dim
    dtype = next(model.parameters()).dtype
    for number, length in enumerate(lengths):
        inputs = noise(batch, variates, length, width, dtype=dtype) * (1 + number)
        yield model.model.transformer(inputs, torch.zeros(batch, variates, length), cache)


@contextlib.contextmanager
def outcome() -> Iterator[dict[str, Any]]:
    """Notes an error's kind in place of a value: an error before must be the same error afterwards."""
    found: dict[str, Any] = {}
    try:
        yield found
    except Exception as error:
        found["error"] = type(error).__name__


@probe
def one_layer_driven_by_hand(tree: Any) -> Any:
    found = []
    for layout in ("torch", "xformers"):
        model = tree.model(layout=layout)
        cache, attention = cache_for(tree, model), model.model.transformer.layers[1].attention
        with torch.no_grad():
            for length in (3, 1, 2, 1):
                inputs = noise(1, 2, length, 64)
                found += digest(
                    attention(1, inputs, None, cache), attention(layer_idx=0, inputs=inputs, kv_cache=cache)
                )
    return found


@probe
def cache_called_directly(tree: Any) -> Any:
    cache = cache_for(tree, tree.model())
    found: list[Any] = []
    for length in (2, 1, 4):
        pair = noise(2, 4, length, 16), noise(2, 4, length, 16) + 1
        cache.append(1, pair)
        cache.append(2, pair)
        found += [*digest(*cache[1], *cache[2], *cache[0]), [cache.seq_len(i) for i in range(4)], cache.current_len(1)]
    cache.reset()
    return [*found, [int(cache.seq_len(i)) for i in range(4)], type(cache.seq_len(0)).__name__, *digest(*cache[1])]


@probe
def wrong_use_of_the_cache(tree: Any) -> Any:
    cache = cache_for(tree, tree.model(), steps=32)
    good = noise(2, 4, 1, 16)
    found = []
    for layer, pair in (
        (0, (good, noise(2, 4, 2, 16))),
        (0, (noise(3, 4, 1, 16),) * 2),
        (0, (noise(2, 5, 1, 16),) * 2),
        (0, (noise(2, 4, 1, 15),) * 2),
        (0, (noise(2, 4, 3, 16),) * 2),
        (9, (good, good)),
    ):
        with outcome() as result:
            cache.append(layer, pair)
        found.append(result)
    for layer in (9, -1):
        with outcome() as result:
            result["value"] = cache.seq_len(layer)
        found.append(result)
    return found


@probe
def every_arrangement_of_layers(tree: Any) -> Any:
    found: dict[str, Any] = {}
    for every, first in ((4, True), (2, True), (2, False), (-1, False), (1, False)):
        model = tree.model(spacewise_every_n_layers=every, spacewise_first=first)
        with outcome() as result:
            result["value"] = digest(tree.forecast(model, 50, 2, 40, num_samples=2, samples_per_batch=2))
        found[f"{every} {first}"] = result
    return found


@probe
def a_model_of_one_layer(tree: Any) -> Any:
    with outcome() as result:
        result["value"] = digest(tree.forecast(tree.model(num_layers=1, spacewise_every_n_layers=-1), 50, 2, 40))
    return result


@probe
def several_series_at_once(tree: Any) -> Any:
    model = tree.model()
    one = tree.series(50, 3)
    many = type(one)(*(torch.stack([field, field.flip(-1)]) if torch.is_tensor(field) else field for field in one))
    forecaster = tree.module("inference.forecaster").TotoForecaster(model.model)
    torch.manual_seed(5)
    return digest(forecaster.forecast(many, 40, num_samples=4, samples_per_batch=2).samples)


@probe
def masks_and_groups(tree: Any) -> Any:
    series = tree.series(50, 4)
    padding, ids = series.padding_mask.clone(), series.id_mask.clone()
    padding[:, :13] = False
    padding[1, 30:35] = False
    ids[2:] = 1
    series = series._replace(padding_mask=padding, id_mask=ids)
    forecaster = tree.module("inference.forecaster").TotoForecaster(tree.model().model)
    torch.manual_seed(5)
    return digest(forecaster.forecast(series, 40, num_samples=2, samples_per_batch=2).samples)


@probe
def two_forecasts_with_one_cache(tree: Any) -> Any:
    model = tree.model()
    cache = cache_for(tree, model)
    found = []
    with torch.no_grad():
        for lengths in ((4, 1, 1), (5, 1), (2, 1, 1, 1)):
            found += digest(*walk(model, cache, lengths))
            cache.reset()
    return found


@probe
def two_caches_in_turn(tree: Any) -> Any:
    model = tree.model()
    left, right = cache_for(tree, model), cache_for(tree, model, variates=3)
    with torch.no_grad():
        pairs = zip(walk(model, left, (4, 1, 1, 1)), walk(model, right, (2, 1, 1, 1), variates=3), strict=True)
        return [digest(*pair) for pair in pairs]


def _continued(tree: Any, duplicate: Callable[[Any], Any], *, layers: bool = True) -> Any:
    model = tree.model()
    cache = cache_for(tree, model)
    if not layers:
        cache.transformer_layers = []  # upstream's rotary embedding holds what can neither be copied nor pickled
    with torch.no_grad():
        list(walk(model, cache, (4, 1)))
        other = duplicate(cache)
        found = [digest(*walk(model, other, (1, 1, 1))), digest(*walk(model, cache, (1,)))]
        found.append(digest(*walk(model, other, (1,))))
        cache.reset()
        return [*found, int(cache.seq_len(0)), int(other.seq_len(0)), digest(*walk(model, cache, (2, 1)))]


@probe
def deep_copy_of_a_cache(tree: Any) -> Any:
    return _continued(tree, copy.deepcopy, layers=False)


@probe
def shallow_copy_of_a_cache(tree: Any) -> Any:
    return _continued(tree, copy.copy)


@probe
def shallow_copies_in_turn(tree: Any) -> Any:
    """The copy's first use after the original went on, started again and was filled from outside."""
    model = tree.model()
    cache = cache_for(tree, model)
    with torch.no_grad():
        list(walk(model, cache, (5, 1)))
        other = copy.copy(cache)
        list(walk(model, cache, (1,)))
        cache.reset()
        for layer in range(3):
            cache.append(layer, (noise(2, 4, 5, 16), noise(2, 4, 5, 16)))
        return digest(*walk(model, other, (1,)))


@probe
def pickled_cache(tree: Any) -> Any:
    return _continued(tree, lambda cache: pickle.loads(pickle.dumps(cache)), layers=False)


@probe
def replaced_cache(tree: Any) -> Any:
    return _continued(tree, lambda cache: dataclasses.replace(cache, max_seq_len=cache.max_seq_len + 3))


@probe
def fields_of_a_cache(tree: Any) -> Any:
    cache = cache_for(tree, tree.model())
    names = [(field.name, field.init, field.repr, field.compare) for field in dataclasses.fields(cache)]
    cache.transformer_layers = []
    values = dataclasses.asdict(cache)
    return [names, sorted(values), digest(values["_keys"])]


@probe
def subclass_of_the_cache(tree: Any) -> Any:
    base = tree.module("model.util").KVCache

    class Counting(base):  # type: ignore[misc]
        appended = 0

        def append(self, layer_idx: int, kv: Any) -> None:
            self.appended += 1
            super().append(layer_idx, (kv[0] * 0.5, kv[1]))

    model = tree.model()
    cache = cache_for(tree, model)
    mine = Counting(**{field.name: getattr(cache, field.name) for field in dataclasses.fields(cache) if field.init})
    with torch.no_grad():
        return [digest(*walk(model, mine, (4, 1, 1))), mine.appended]


@probe
def subclass_that_shifts_the_length(tree: Any) -> Any:
    base = tree.module("model.util").KVCache

    class Shifted(base):  # type: ignore[misc]
        def seq_len(self, layer_idx: int) -> int:
            return int(super().seq_len(layer_idx)) + 5

    model = tree.model()
    cache = cache_for(tree, model)
    mine = Shifted(**{field.name: getattr(cache, field.name) for field in dataclasses.fields(cache) if field.init})
    with torch.no_grad():
        return digest(*walk(model, mine, (4, 1, 1)))


class GrowingCache:
    """A cache of one's own with the four methods that the model calls."""

    def __init__(self, layers: int) -> None:
        self.pairs: list[Any] = [None] * layers

    def seq_len(self, layer_idx: int) -> int:
        return 0 if self.pairs[layer_idx] is None else int(self.pairs[layer_idx][0].shape[2])

    current_len = seq_len

    def append(self, layer_idx: int, kv: Any) -> None:
        old = self.pairs[layer_idx]
        self.pairs[layer_idx] = kv if old is None else tuple(torch.cat(both, 2) for both in zip(old, kv, strict=True))

    def __getitem__(self, layer_idx: int) -> Any:
        return self.pairs[layer_idx]


@probe
def a_cache_of_ones_own(tree: Any) -> Any:
    model = tree.model()
    with torch.no_grad():
        return digest(*walk(model, GrowingCache(4), (4, 1, 1)))


@probe
def attention_without_rotary_embedding(tree: Any) -> Any:
    model = tree.model()
    for layer in model.model.transformer.layers:
        layer.attention.rotary_emb = None
    with torch.no_grad():
        return digest(*walk(model, cache_for(tree, model), (4, 1, 1)))


def _precision(tree: Any, dtype: torch.dtype) -> Any:
    model = tree.model()
    model.to(dtype)
    with torch.no_grad():
        lengths = (7, 1, 1, 3)
        plain = digest(*walk(model, cache_for(tree, model, steps=320, dtype=dtype), lengths))
        mixed = digest(*walk(model, cache_for(tree, model, steps=320, dtype=torch.float32), lengths))
    return [plain, mixed]


@probe
def bfloat16(tree: Any) -> Any:
    return _precision(tree, torch.bfloat16)


@probe
def float16(tree: Any) -> Any:
    return _precision(tree, torch.float16)


@probe
def float64(tree: Any) -> Any:
    return _precision(tree, torch.float64)


@probe
def positions_beyond_what_bfloat16_counts(tree: Any) -> Any:
    """One step at a time, as the model decodes.

    Several steps at once round differently: on a CPU upstream rounds the offset to bfloat16 before it is added.
    """
    model = tree.model(num_layers=2, spacewise_every_n_layers=2).to(torch.bfloat16)
    cache = cache_for(tree, model, steps=16 * 400, dtype=torch.bfloat16)
    with torch.no_grad():
        return digest(*walk(model, cache, (299, 1, 1, 1)))


@probe
def autocast(tree: Any) -> Any:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        model = tree.model()
        mean = tree.forecast(model, 50, 2, 40)
        with torch.no_grad():
            return digest(mean, *walk(model, cache_for(tree, model), (4, 1, 1)))


@probe
def inference_mode(tree: Any) -> Any:
    model = tree.model()
    outside = cache_for(tree, model)
    with torch.inference_mode():
        inside = cache_for(tree, model)
        found = digest(*walk(model, outside, (4, 1)), *walk(model, inside, (4, 1)))
    with torch.no_grad(), outcome() as result:
        result["value"] = digest(*walk(model, outside, (1, 1)))
    with torch.no_grad(), outcome() as later:
        later["value"] = digest(*walk(model, inside, (1, 1)))
    return [found, result, later]


def _gradients(tree: Any, cached: bool, lengths: tuple[int, ...]) -> Any:
    model = tree.model().train()
    cache = cache_for(tree, model) if cached else None
    torch.manual_seed(3)
    with outcome() as result:
        total = sum(out.square().mean() for out in walk(model, cache, lengths))
        total.backward()
        result["value"] = digest(total, *(p.grad for p in model.model.transformer.parameters() if p.grad is not None))
    return result


@probe
def training_without_a_cache(tree: Any) -> Any:
    return _gradients(tree, cached=False, lengths=(5, 3))


@probe
def training_with_a_cache(tree: Any) -> Any:
    return [_gradients(tree, cached=True, lengths=(5,)), _gradients(tree, cached=True, lengths=(5, 1))]


@probe
def hooks_still_fire(tree: Any) -> Any:
    model = tree.model()
    seen: list[str] = []
    for name, module in model.model.transformer.named_modules():
        module.register_forward_hook(lambda _m, _i, _o, name=name: seen.append(name))
    with torch.no_grad():
        list(walk(model, cache_for(tree, model), (4, 1)))
    return seen


@probe
def compiled_whole_without_a_cache(tree: Any) -> Any:
    model = tree.model()
    torch._dynamo.reset()
    whole = torch.compile(model.model.transformer, fullgraph=True, backend="eager")
    with torch.no_grad():
        return digest(whole(noise(1, 2, 5, 64), torch.zeros(1, 2, 5)))


@probe
def compiled_with_a_cache(tree: Any) -> Any:
    model = tree.model()
    torch._dynamo.reset()
    eager = model.model.transformer
    model.model.transformer = torch.compile(eager, backend="eager")
    with torch.no_grad():
        return digest(*walk(model, cache_for(tree, model), (4, 1, 1, 1)))


@probe
def traced_and_exported_without_a_cache(tree: Any) -> Any:
    model = tree.model()
    arguments = (noise(1, 2, 5, 64), torch.zeros(1, 2, 5))
    with torch.no_grad(), outcome() as traced:
        traced["value"] = digest(torch.jit.trace(model.model.transformer, arguments)(*arguments))
    with torch.no_grad(), outcome() as exported:
        exported["value"] = digest(torch.export.export(model.model.transformer, arguments).module()(*arguments))
    return [traced, exported]


def caches_by_module(tree: Any) -> Any:
    """Not a probe of sameness: where the cache can be had, its name, and whether it is the compile-friendly one."""
    caches = {name: tree.module(name).KVCache for name in ("model.util", "model.util_optimized")}
    return {name: [cache.__name__, hasattr(cache, "position")] for name, cache in caches.items()}


def local_lengths(tree: Any) -> Any:
    """Not a probe of sameness: what the local method of ``helper_reads_the_index`` says."""
    cache = cache_for(tree, tree.model())
    before = cache.lengths()
    cache.append(1, (noise(2, 4, 2, 16), noise(2, 4, 2, 16)))
    return [before, cache.lengths()]


def point_forecasts(tree: Any) -> Any:
    """Not a probe of sameness to the bit: point forecasts, and why the decoder did not make them."""
    found: dict[str, Any] = {"values": {}, "why not": []}
    layouts = ("torch", "xformers") if tree.module("model.attention").XFORMERS_AVAILABLE else ("torch",)
    for layout in layouts:
        forecaster = tree.module("inference.forecaster").TotoForecaster(tree.model(layout=layout).model)
        for shape, horizon in (((64, 1), 8), ((50, 3), 40)):
            values = forecaster.forecast(tree.series(*shape), horizon).mean
            found["values"][f"{layout} {shape} {horizon}"] = values.flatten().tolist()
        decoding = vars(forecaster).get("_kept_decoding")
        found["why not"] += sorted(decoding._told) if decoding is not None else ["there is none"]
    return found


def eager_forecasts(tree: Any) -> Any:
    """Not a probe of sameness to the bit: means, samples, and samples without a cache, for the same seed."""
    found: dict[str, list[float]] = {}
    layouts = ("torch", "xformers") if tree.module("model.attention").XFORMERS_AVAILABLE else ("torch",)
    drawn = {"num_samples": 4, "samples_per_batch": 2}
    for layout in layouts:
        forecaster = tree.module("inference.forecaster").TotoForecaster(tree.model(layout=layout).model)
        if hasattr(type(forecaster), "sampler"):
            forecaster.sampler = "seed-exact"
        for shape, horizon, how in (
            ((64, 1), 8, {}),
            ((50, 3), 40, {}),
            ((50, 2), 40, drawn),
            ((64, 1), 8, drawn),
            ((50, 2), 20, {**drawn, "use_kv_cache": False}),
        ):
            torch.manual_seed(5)
            result = forecaster.forecast(tree.series(*shape), horizon, **how)
            values = result.mean if result.samples is None else result.samples
            found[f"{layout} {shape} {horizon} {how}"] = values.flatten().tolist()
    return found


@probe
def heads_of_every_width(tree: Any) -> Any:
    """Kernels add up in another order where rows begin elsewhere in memory."""
    found = []
    for heads, width in ((4, 40), (2, 28), (4, 24), (2, 20)):
        model = tree.model(embed_dim=width, num_heads=heads, num_layers=2, spacewise_every_n_layers=2)
        found += digest(tree.forecast(model, 80, 3, 48))
    half = tree.model(embed_dim=80, num_layers=2, spacewise_every_n_layers=2).bfloat16()
    cache = cache_for(tree, half, dtype=torch.bfloat16)
    with torch.no_grad():
        return found + digest(*walk(half, cache, (3, 1, 1)))


@probe
def methods_replaced_by_the_user(tree: Any) -> Any:
    """What the cached path would take the place of: on a class, on an instance, in a subclass of the same name."""
    attention = tree.module("model.attention").BaseMultiheadAttention
    rotary = tree.module("model.rope").TimeAwareRotaryEmbedding
    embed, run, rotate = attention.positional_embedding, attention.run_attention, rotary.rotate_queries_and_keys

    @functools.wraps(embed)
    def doubled(self: Any, q: Any, *rest: Any) -> Any:
        return embed(self, q * 2, *rest)

    def writing(self: Any, mask: Any, q: Any, k: Any, v: Any, *rest: Any) -> Any:
        return run(self, mask, q, k.mul_(0.5), v, *rest)

    def shifted(self: Any, q: Any, k: Any, *args: Any, seq_pos: Any = None, seq_pos_offset: int = 0) -> Any:
        return rotate(self, q, k, *args, seq_pos=seq_pos, seq_pos_offset=3 * seq_pos_offset)

    found = {}
    for owner, name, method in (
        (attention, "positional_embedding", doubled),
        (attention, "run_attention", writing),
        (rotary, "rotate_queries_and_keys", shifted),
    ):
        before = vars(owner)[name]
        setattr(owner, name, method)
        try:
            found[f"class: {name}"] = digest(tree.forecast(tree.model(), 64, 2, 40))
        finally:
            setattr(owner, name, before)
        model = tree.model()
        for part in model.modules():
            if isinstance(part, owner):
                setattr(part, name, functools.partial(method, part))
        found[f"instance: {name}"] = digest(tree.forecast(model, 64, 2, 40))
        model = tree.model()
        for part in model.modules():
            if isinstance(part, owner):
                cls = type(part)
                part.__class__ = type(cls.__name__, (cls,), {name: method, "__module__": cls.__module__})
        found[f"subclass: {name}"] = digest(tree.forecast(model, 64, 2, 40))
    return found


@probe
def copied_and_pickled_model(tree: Any) -> Any:
    model = tree.model()
    found = []
    for twin in (copy.deepcopy, lambda it: pickle.loads(pickle.dumps(it))):
        with outcome() as result:
            result["value"] = digest(tree.forecast(twin(model), 50, 2, 40))
        found.append(result)
    other = tree.model()
    other.load_state_dict(model.state_dict())
    return [found, sorted(model.state_dict()), digest(tree.forecast(other, 50, 2, 40))]
