"""Runs cases on an imported tree. Only for child processes.

Every array is stored under ``case|scoring|tensor``. The scoring says how original and patched are compared: ``scored``
against a float64 reference, ``direct`` with each other, ``seeded`` samples, ``drawn`` samples as
distributions, ``exact`` to the bit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from toto_patcher.equivalence import inputs, models, standin
from toto_patcher.equivalence.case import EXOGENOUS, SIXTEEN_BIT_SAMPLES, Case, Length, Turn
from toto_patcher.equivalence.decoders import Watch, every_patch, last_patch_only, reweight, seed_exact
from toto_patcher.equivalence.direct import drive_attention, drive_cache
from toto_patcher.equivalence.tree import Tree

Arrays = dict[str, npt.NDArray[Any]]


class Runner:
    """Runs cases on one tree and one checkpoint; keeps the models it loaded.

    Attributes:
        seeds: for each kind of case that samples, those to sample under.
        watch: notes the forecasts that a decoder left to upstream's code.
    """

    def __init__(
        self, tree: Tree, checkpoint: Path, device: str = "cpu", seeds: Mapping[str, Sequence[int]] | None = None
    ) -> None:
        self.tree = tree
        self.checkpoint = checkpoint
        self.device = torch.device(device)
        self.seeds = seeds or {}
        self.watch = Watch(tree)
        self._models: dict[tuple[object, ...], Any] = {}
        self.able = [*tree.abilities(), *_device_abilities(self.device)]

    def run(self, case: Case, *, reference: bool = False) -> Arrays:
        """The outputs of a case; with ``reference``, those of the same model in float64 arithmetic."""
        run: dict[str, Callable[[Case, Any, torch.dtype], Arrays]] = {
            "teacher": self._teacher,
            "point": self.forecast,
            "samples": self.forecast,
            "draws": self.forecast,
            "cache": drive_cache,
            "attention": drive_attention,
        }
        demand_determinism()
        with self.layout(case), self.checks(case), self.watch.case(case), torch.no_grad():
            model = self.model(case, reference=reference)
            with self.arithmetic(case, reference):
                arrays = run[case.kind](case, model, self.dtype(case, reference))
        return {f"{case.name}|{name}": array for name, array in arrays.items()}

    def layout(self, case: Case) -> AbstractContextManager[None]:
        """The stand-in for xformers, where the case asks for its layout."""
        return standin.installed(self.tree.modules()) if case.layout == "sequence-first" else contextlib.nullcontext()

    @staticmethod
    @contextlib.contextmanager
    def checks(case: Case) -> Iterator[None]:
        """Switches off torch's check that weights sum to 1, in 16 bits: to its tolerance upstream's own do not."""
        before = torch.distributions.Distribution._validate_args
        if case.sixteen_bit:
            torch.distributions.Distribution.set_default_validate_args(False)
        try:
            yield
        finally:
            torch.distributions.Distribution.set_default_validate_args(before)

    def arithmetic(self, case: Case, reference: bool = False) -> AbstractContextManager[None]:
        """Mixed precision, where the case asks for it."""
        if case.precision == "autocast" and not reference:
            return torch.autocast(self.device.type, dtype=torch.bfloat16)
        return contextlib.nullcontext()

    @staticmethod
    def dtype(case: Case, reference: bool = False) -> torch.dtype:
        """Of weights and inputs."""
        if reference:
            return torch.float64
        return torch.bfloat16 if case.precision == "bfloat16" else torch.float32

    def model(self, case: Case, *, reference: bool = False) -> Any:
        """The backbone, in evaluation mode, in the case's layout and precision."""
        key: tuple[Any, ...] = (self.dtype(case, reference), case.layout, case.space_first, case.labels)
        key += (case.scale_exponent, case.name if case.turns or case.compiled else "")
        if key not in self._models:
            backbone = self.load(case, reference=reference)
            if len(self._models) > 3 and sum(p.numel() for p in backbone.parameters()) > 10**7:
                self._models.clear()  # large models: a few at a time
            self._models[key] = backbone
        return self._models[key]

    def load(self, case: Case, *, reference: bool = False) -> Any:
        """The same backbone, one of its own."""
        options: dict[str, Any] = {"use_memory_efficient_attention": case.layout == "sequence-first"}
        if case.space_first:
            options |= {"spacewise_first": True, "spacewise_every_n_layers": 2}
        loaded = self.tree.model.load_from_checkpoint(str(self.checkpoint), str(self.device), **options)
        backbone = loaded.model
        backbone.scaler.scale_factor_exponent = case.scale_exponent or backbone.scaler.scale_factor_exponent
        if case.labels:
            backbone.enable_variate_labels()
            for name in ("target_variate_label", "exogenous_variate_label"):
                label = getattr(backbone, name)
                label.data = torch.from_numpy(models.weight(name, label.shape)).to(self.device)
        return backbone.to(self.dtype(case, reference)).eval()

    def _tensor(self, array: npt.NDArray[Any], dtype: torch.dtype | None = None) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, dtype)

    def _teacher(self, case: Case, model: Any, dtype: torch.dtype) -> Arrays:
        patch = model.patch_embed.patch_size
        context = Length(*_whole(case.context, patch)).steps(patch)
        fed = inputs.make(case, case.context.steps(patch) + case.horizons[0].steps(patch), case.context.steps(patch))
        fed = fed.left_padded(patch)
        outputs, cache, steps = self._taught(case, model, fed, context, dtype)
        # What a forecast looks at: the last patch of every call, which is all that some trees give.
        only = case.use_cache and last_patch_only(model)
        arrays = {f"scored|last {name}": array for name, array in _joined(outputs, 0 if only else patch).items()}
        arrays["exact|steps of the scaler"] = np.array(steps)
        if only:
            with every_patch(model):
                outputs, cache, _ = self._taught(case, model, fed, context, dtype)
        arrays |= {f"scored|{name}": array for name, array in _joined(outputs).items()}
        if cache is not None:
            first = next(i for i, layer in enumerate(model.transformer.layers) if layer.attention_axis.name == "TIME")
            keys, values = cache[first]
            arrays |= {"direct|cached keys": _numpy(keys), "direct|cached values": _numpy(values)}
            lengths = [int(cache.seq_len(index)) for index in range(len(model.transformer.layers))]
            arrays["exact|cached lengths"] = np.array(lengths)
        return arrays

    def _taught(
        self, case: Case, model: Any, fed: inputs.Inputs, context: int, dtype: torch.dtype
    ) -> tuple[list[Arrays], Any, list[int]]:
        """Parameters of the distribution for each call, the cache, and for each call how far the scaler's reach."""
        patch = model.patch_embed.patch_size
        cache = None
        if case.use_cache:
            cache = model.allocate_kv_cache(case.batch, case.variates, fed.steps + patch, self.device, dtype)
            if case.reuse:
                other = inputs.make(case, context + patch, context, salt="before reset")
                for _ in self._steps(case, model, other, (context, context + patch), cache, dtype):
                    pass
                cache.reset()
        ends = range(context, fed.steps + 1, patch) if case.use_cache else (fed.steps,)
        calls = list(self._steps(case, model, fed, ends, cache, dtype))
        return [parameters for parameters, _ in calls], cache, [steps for _, steps in calls]

    def _steps(
        self, case: Case, model: Any, fed: inputs.Inputs, ends: Any, cache: Any, dtype: torch.dtype
    ) -> Iterator[tuple[Arrays, int]]:
        first = None
        for end in ends:
            first = end if first is None else first
            part = fed.slice(0, end)
            extra = {"num_exogenous_variables": case.exogenous} if EXOGENOUS in self.able else {}
            output = model(
                inputs=self._tensor(part.series, dtype),
                input_padding_mask=self._tensor(part.padding_mask),
                id_mask=self._tensor(part.id_mask),
                kv_cache=cache,
                scaling_prefix_length=first,
                **extra,
            )
            yield _parameters(*output[:3]), int(output[1].shape[-1])

    def forecast(self, case: Case, model: Any, dtype: torch.dtype) -> Arrays:
        """The case's forecasts, one after the other, by a forecaster for each seed."""
        arrays: Arrays = {}
        for number, seed in enumerate(self.seeds.get(case.kind, (None,))):
            forecaster = self.tree.forecaster(model)
            found = self.forecasts(case, forecaster, dtype, seed)
            arrays |= found if seed is None else {f"{name} seed {number}": array for name, array in found.items()}
        return arrays

    def forecasts(self, case: Case, forecaster: Any, dtype: torch.dtype, seed: int | None) -> Arrays:
        """The case's forecasts by this forecaster."""
        if case.kind == "samples":
            seed_exact(forecaster)
        arrays: Arrays = {}
        kept: dict[str, torch.Tensor] = {}
        for number, turn in enumerate(case.forecasts):
            if turn.reweighted:
                reweight(forecaster.model)
            name, values = self.one_forecast(case, turn, forecaster, dtype, seed)
            kept[f"{name} {number}"] = values
            if not case.decoder:  # a decoder's results must outlive the next forecast
                arrays |= {name: _numpy(kept.pop(name)) for name in tuple(kept)}
        return arrays | {name: _numpy(values) for name, values in kept.items()}

    def one_forecast(
        self, case: Case, turn: Turn, forecaster: Any, dtype: torch.dtype, seed: int | None
    ) -> tuple[str, torch.Tensor]:
        """One forecast, and what it is called: the mean, or the samples if the case draws any."""
        demand_determinism()
        patch, case = forecaster.model.patch_embed.patch_size, case.at(turn)
        context, steps = case.context.steps(patch), turn.horizon.steps(patch)
        full = inputs.make(case, context + steps, context, turn.salt, case.blank.steps(patch))
        known = full.slice(0, context)
        time = np.arange(context, dtype=np.int64) * inputs.INTERVAL_SECONDS
        extra = {"num_exogenous_variables": case.exogenous} if case.exogenous else {}
        series = self.tree.series(
            series=self._tensor(known.series, dtype),
            padding_mask=self._tensor(known.padding_mask),
            id_mask=self._tensor(known.id_mask),
            timestamp_seconds=self._tensor(np.broadcast_to(time, known.series.shape)),
            time_interval_seconds=torch.full((case.batch, case.variates), inputs.INTERVAL_SECONDS, device=self.device),
            **extra,
        )
        options: dict[str, Any] = {"use_kv_cache": case.use_cache}
        if case.exogenous:
            future = full.slice(context, context + steps).series[:, -case.exogenous :]
            options["future_exogenous_variables"] = self._tensor(future, dtype)
        if seed is None:
            return "scored|mean", forecaster.forecast(series, steps, **options).mean
        torch.manual_seed(seed)
        options |= {"num_samples": case.samples, "samples_per_batch": case.samples_per_batch}
        scoring = "seeded" if case.kind == "samples" else "drawn"
        return f"{scoring}|samples", forecaster.forecast(series, steps, **options).samples


def demand_determinism() -> None:
    """Deterministic algorithms, and a warning where there is none.

    Once is not enough: on a GPU upstream's scaler puts the demand back without its "warn only" after each call, and a
    decoder then leaves forecasts to upstream.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)


def _device_abilities(device: torch.device) -> list[str]:
    try:
        torch._standard_gamma(torch.ones(1, dtype=torch.bfloat16, device=device))
    except RuntimeError:  # torch 2.7 raises that; later ones NotImplementedError, which is one
        return []
    return [SIXTEEN_BIT_SAMPLES]


def _whole(length: Length, patch: int) -> tuple[int, int]:
    return -(-length.steps(patch) // patch), 0


def _numpy(tensor: torch.Tensor) -> npt.NDArray[Any]:
    # Outputs that are taken over by the next replay of a graph must be copied here.
    wide = torch.float64 if tensor.dtype == torch.float64 else torch.float32
    return tensor.detach().to("cpu", wide, copy=True).numpy()


def _joined(outputs: Sequence[Arrays], last: int = 0) -> Arrays:
    """The outputs of several calls one after the other in time; of each only so many last steps, if any are given."""
    return {name: np.concatenate([output[name][:, :, -last:] for output in outputs], axis=2) for name in outputs[0]}


def _parameters(distribution: Any, loc: torch.Tensor, scale: torch.Tensor) -> Arrays:
    """The distribution's parameters, time on axis 2, and the scaler's for the same steps."""
    components = getattr(distribution, "component_distribution", distribution)
    arrays = {name: _numpy(getattr(components, name)) for name in ("df", "loc", "scale")}
    if components is not distribution:
        # Not the logits: torch derives them from the weights and cuts them off at the dtype's epsilon.
        arrays["mixture weights"] = _numpy(distribution.mixture_distribution.probs)
    steps = arrays["loc"].shape[2]
    return arrays | {"scaler loc": _numpy(loc[:, :, -steps:]), "scaler scale": _numpy(scale[:, :, -steps:])}
