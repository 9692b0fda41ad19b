"""A checkpoint, a tree and a device as one object that forecasts."""

from __future__ import annotations

import contextlib
import copy
import logging
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from toto_patcher.errors import InputError, UsageError
from toto_patcher.runtime import arguments, checkpoints, compilations, contexts, environment, forking, service, vendored
from toto_patcher.runtime.batches import Batch, divide
from toto_patcher.runtime.contexts import Context
from toto_patcher.runtime.drawing import Drawer, Request
from toto_patcher.runtime.forecast import LEVELS, Forecast, check_levels
from toto_patcher.runtime.numbers import Array
from toto_patcher.runtime.progress import tracked
from toto_patcher.runtime.recipe import Recipe

log = logging.getLogger(__name__)

SEED_STEP = 0x9E3779B97F4A7C15
"""Between the seeds of two batches of series; the first batch has the seed that was given."""


class TotoPipeline:
    """Forecasts series with one model. Make one with ``from_pretrained``; calls from several threads wait in line.

    Attributes:
        model: upstream's ``Toto``.
        device: where it runs.
        root: the checkout that was imported.
        profile: "full-graph", "graph-breaks", "eager", or ``None`` where the tree is not patched.
    """

    def __init__(self, tree: vendored.Vendored, model: Any, device: torch.device, drawer: Drawer) -> None:
        self._tree = tree
        self._drawer = drawer
        self._lock = threading.RLock()
        self.model = model
        self.device = device
        self.root = tree.root
        self.profile = tree.profile
        self._recipe: Recipe | None = None
        self._forked = False
        forking.renew(self)
        service.register(self)

    def after_fork(self) -> None:
        """Makes a lock of its own for a forked child: the thread that held this one is not there."""
        idle = self._lock.acquire(blocking=False)
        self._lock = threading.RLock()
        self._forked = True
        if not idle:
            self._drawer.after_fork()

    def __reduce__(self) -> tuple[Any, ...]:
        """By reference: the other process loads the same files into the same tree, with the same settings.

        Weights do not go, nor do compiled code, buffers, hooks, ``samples_limit`` and an access token of the hub.

        Raises:
            InputError: the weights are no longer those of the checkpoint, or the pipeline was made by hand.
        """
        if self._recipe is None or not self._recipe.holds(self.model):
            why = "was not made by from_pretrained" if self._recipe is None else "has other weights than its checkpoint"
            raise InputError(
                f"the pipeline {why}: a pipeline is pickled by reference, as its checkpoint, tree and settings",
                hint="Save the weights as a checkpoint (config.json, model.safetensors), and load that folder.",
            )
        return _restored, (type(self), self._recipe.arguments)

    def __deepcopy__(self, memo: dict[int, Any]) -> TotoPipeline:
        """A pipeline with weights of its own, as they are now; compiled code and buffers are made anew."""
        with self._lock:
            # The rotary embedding keeps static methods as attributes, which Python cannot copy and need not.
            kept = [one for module in self.model.modules() for one in vars(module).values()]
            memo.update({id(one): one for one in kept if isinstance(one, staticmethod)})
            model = copy.deepcopy(self.model, memo)
            other = type(self)(self._tree, model, self.device, self._drawer.copy(model.model))
            if self._recipe is not None and self._recipe.holds(self.model):
                other._recipe = Recipe.of(self._recipe.arguments, model)
        return other

    @classmethod
    def from_pretrained(
        cls,
        model_id_or_dir: str | Path = "embedded",
        *,
        device_map: str | torch.device | None = None,
        torch_compile: bool | None = None,
        torch_dtype: torch.dtype | str | None = None,
        compile_mode: str | None = None,
        compile_backend: str | None = None,
        amp_dtype: torch.dtype | str | None = None,
        max_oom_retries: int = 6,
        min_samples_per_batch: int = 8,
        root: Path | str | None = None,
        **hub: Any,
    ) -> TotoPipeline:
        """Loads a model into the Toto of a vendored tree.

        Args:
            model_id_or_dir: a folder with config.json and model.safetensors; an id on the Hugging Face Hub, such as
                "Datadog/Toto-Open-Base-1.0"; or "embedded", the small model that comes with this package.
            device_map: "cpu", "cuda", "cuda:1"; by default a GPU if there is one.
            torch_compile, compile_mode, compile_backend: whether and how to compile. What is not given here comes from
                the environment (``TOTO_COMPILE``, ...); ``TOTO_DISABLE_COMPILE`` wins over everything.
            torch_dtype: of the weights: float32 (the default), bfloat16, or "auto": as stored. With bfloat16 the model
                computes in it too; a series is scaled before, in float32 or wider.
            amp_dtype: computes in mixed precision of this dtype; the weights stay as they are.
            max_oom_retries: how often the batch of samples is halved when memory runs out.
            min_samples_per_batch: it is not made smaller than this.
            root: the checkout; by default as for the command line, see ``roots.find``.
            hub: ``revision``, ``cache_dir``, ``token``, ``local_files_only`` of ``huggingface_hub.hf_hub_download``.

        Raises:
            InputError: an argument is wrong.
            CheckpointError: the files are missing, damaged or of another shape.
            UsageError, UnknownSourceError: there is no Toto, or another package has its name.
        """
        device = arguments.device(device_map)
        dtype, mixed = arguments.dtype("torch_dtype", torch_dtype, auto=True), arguments.dtype("amp_dtype", amp_dtype)
        retries = arguments.count("max_oom_retries", max_oom_retries, least=0)
        smallest = arguments.count("min_samples_per_batch", min_samples_per_batch)
        unknown = hub.keys() - {"revision", "cache_dir", "token", "local_files_only"}
        if unknown:
            raise TypeError(f"from_pretrained() got an unexpected argument {sorted(unknown)[0]!r}")
        choice = environment.choose(torch_compile, compile_mode, compile_backend)
        compiler = arguments.compiler(choice) if choice.enabled else None
        folder = checkpoints.find(model_id_or_dir, **hub)
        tree = vendored.load(root)
        if dtype is None:
            stored = None if torch_dtype is None else checkpoints.stored_dtype(folder)
            dtype = torch.bfloat16 if stored == "BF16" else torch.float32
        model = checkpoints.load(tree.model, folder, str(device)).to(dtype)
        if compiler is not None and tree.profile is None:
            log.warning(
                "the Toto in %s is not patched: compiling it as it is, which is slow and compiles again and again; "
                "patch it with: toto-patch apply",
                tree.root,
            )
        made = cls(tree, model, device, Drawer(tree, model.model, compiler, mixed, retries, smallest))
        recipe = {
            "model_id_or_dir": str(Path(folder).resolve()) if Path(model_id_or_dir).is_dir() else str(model_id_or_dir),
            "device_map": str(device),
            "torch_compile": choice.enabled,
            "compile_mode": choice.mode,
            "compile_backend": choice.backend,
            "torch_dtype": str(dtype).removeprefix("torch."),
            "amp_dtype": None if mixed is None else str(mixed).removeprefix("torch."),
            "max_oom_retries": retries,
            "min_samples_per_batch": smallest,
            "root": None if tree.installed else str(tree.root),
            **{name: value for name, value in hub.items() if name != "token"},
        }
        made._recipe = Recipe.of(recipe, model)
        return made

    @property
    def forecaster(self) -> Any:
        """Upstream's ``TotoForecaster`` as it is in use."""
        return self._drawer.forecaster

    @property
    def compiled(self) -> bool:
        """Whether forecasts are compiled. False also after compiling failed: see ``compile_error``."""
        return self._drawer.compiler is not None

    @property
    def compile_error(self) -> str | None:
        """Why compiling that was asked for is not in force, in one line; ``None`` while it is, or was not asked for."""
        return self._drawer.compile_error

    @property
    def fallbacks(self) -> tuple[str, ...]:
        """Why forecasts took upstream's slow path (profile full-graph), a reason each; empty while none did."""
        return self._drawer.fallbacks

    @property
    def mode(self) -> str | None:
        """The mode of torch.compile in force, ``None`` where nothing is compiled or the backend has no modes."""
        return None if self._drawer.compiler is None else self._drawer.compiler.mode

    @property
    def backend(self) -> str | None:
        """The backend of torch.compile in force."""
        return None if self._drawer.compiler is None else self._drawer.compiler.backend

    @property
    def samples_limit(self) -> int | None:
        """The largest batch of samples since memory ran out; ``None`` if it never has."""
        return self._drawer.samples_limit

    def predict(
        self,
        context: Any,
        prediction_length: int,
        num_samples: int = 256,
        samples_per_batch: int | None = None,
        *,
        seed: int | None = None,
        variates: bool = False,
        past_covariates: Any = None,
        future_covariates: Any = None,
        interval_seconds: int | None = None,
        context_length: int | None = None,
        progress: bool | None = None,
    ) -> list[Forecast]:
        """Samples the future of one series or many.

        Args:
            context: as ``contexts.read`` takes it: numbers, arrays, tensors, pandas, polars; one series, many, or with
                ``variates`` multivariate ones. Oldest value first. NaN, ``None`` and masked values are missing: they
                are masked, and a ``DataWarning`` says how many there were.
            prediction_length: steps to forecast.
            num_samples: how many futures of each series.
            samples_per_batch: how many of them are drawn at once, where the tree does not decide that by itself;
                by default as many as run well. Need not divide ``num_samples``.
            seed: the same seed gives the same samples on the same machine. Torch's own generators stay as they were.
            past_covariates, future_covariates: covariates whose future is known (Toto 0.2.0). Toto 1.0 takes none
                that are known for the past only.
            interval_seconds: time between two steps.
            context_length: only so many steps at the end of each series are used; by default all.
            progress: a progress bar; by default on a terminal, where there is more than one batch of series.

        Returns:
            One forecast for each series, in their order.

        Raises:
            InputError: an argument is wrong, or a series cannot be forecast.
            torch.OutOfMemoryError: not even the smallest allowed batch of samples fits.
        """
        horizon = arguments.count("prediction_length", prediction_length)
        series = contexts.read(
            context,
            horizon,
            variates=variates,
            past_covariates=past_covariates,
            future_covariates=future_covariates,
            interval_seconds=interval_seconds,
            context_length=None if context_length is None else arguments.count("context_length", context_length),
        )
        contexts.say_missing(series, [f"series {index}" for index in range(len(series))])
        return self.predict_contexts(series, horizon, num_samples, samples_per_batch, seed=seed, progress=progress)

    def predict_contexts(
        self,
        series: Sequence[Context],
        prediction_length: int,
        num_samples: int = 256,
        samples_per_batch: int | None = None,
        *,
        seed: int | None = None,
        progress: bool | None = None,
    ) -> list[Forecast]:
        """The same as ``predict`` for series that were read already."""
        horizon = arguments.count("prediction_length", prediction_length)
        samples = arguments.count("num_samples", num_samples)
        batch = None if samples_per_batch is None else arguments.count("samples_per_batch", samples_per_batch)
        if any(one.covariates for one in series) and not self._tree.exogenous:
            raise InputError(
                "this release of Toto takes no known covariates",
                hint="Vendor 0.2.0: toto-patch vendor --version 0.2.0",
            )
        first = None if seed is None else arguments.count("seed", seed, least=0)
        if self._forked:
            self._begin_in_child()
        forecasts: dict[int, Forecast] = {}
        with self._lock, self._generators_kept(first is not None):
            width = None if self._tree.decodes else self.model.model.embed_dim
            together = divide(series, samples, batch, width=width, fixed=self.compiled)
            for number, chosen in enumerate(tracked(together, progress)):
                own = None if first is None else (first + number * SEED_STEP) % 2**63
                with compilations.watched(partial(_asked, series, chosen, horizon, samples)):
                    found = self._forecast([series[index] for index in chosen.members], chosen, horizon, samples, own)
                forecasts.update(zip(chosen.members, found, strict=True))
        return [forecasts[index] for index in range(len(series))]

    def _begin_in_child(self) -> None:
        """Before the first forecast of a forked process.

        Raises:
            UsageError: the pipeline is on a GPU.
        """
        if self.device.type == "cuda":
            raise UsageError(
                "this process was forked from one that used the GPU, and CUDA does not work after a fork",
                hint='Start processes with multiprocessing.get_context("spawn"), or load the pipeline after the fork.',
            )
        if torch.get_num_threads() > 1:  # OpenMP would wait for threads that were not forked
            torch.set_num_threads(1)
            log.warning("forecasting in a forked process: torch computes in one thread here")
        self._forked = False

    def _forecast(
        self, series: Sequence[Context], batch: Batch, horizon: int, samples: int, seed: int | None
    ) -> list[Forecast]:
        """Forecasts the series of one batch."""
        filled = [*series, *[series[-1]] * (batch.slots - len(series))]
        late = series[0].late
        request = Request(self._inputs(filled), late + horizon, samples, batch.samples, self._future(filled), seed)
        targets = len(series[0].values) - series[0].covariates
        values = self._drawer.draw(request)[: len(series), :targets, late:].permute(0, 3, 1, 2)
        return [self._own_units(one, values[index]) for index, one in enumerate(series)]

    def _own_units(self, one: Context, samples: torch.Tensor) -> Forecast:
        if one.level is not None:
            samples = torch.from_numpy(one.level.up(samples.double().numpy()))
        return Forecast((samples[:, 0] if one.single else samples).contiguous())

    def _inputs(self, series: Sequence[Context]) -> Any:
        values = np.stack([one.values if one.level is None else one.level.down(one.values) for one in series])
        known = np.stack([one.known for one in series])
        seconds = np.stack([one.seconds for one in series])
        patch = int(self.model.model.patch_embed.stride)
        short = -values.shape[-1] % patch
        if short and any(one.level is not None for one in series):
            # Upstream fills up whole patches with 0, which its model looks at: here, with what 0 is at this level.
            nothing = np.zeros((len(values[0]), short))
            left = [nothing if one.level is None else one.level.down(nothing) for one in series]
            values = np.concatenate([np.stack(left), values], axis=-1)
            known = np.concatenate([np.zeros_like(left, dtype=np.bool_), known], axis=-1)
            seconds = np.concatenate([np.zeros((len(series), short), dtype=np.int64), seconds], axis=-1)
        tensor = self._tensor(values)
        intervals = torch.tensor([one.interval for one in series], dtype=torch.int, device=self.device)
        more = {"num_exogenous_variables": series[0].covariates} if series[0].covariates else {}
        times = torch.from_numpy(seconds).to(self.device)
        return self._tree.series(
            series=tensor,
            padding_mask=torch.from_numpy(known).to(self.device),
            # One group: the variates of a series see each other. Series never do, whatever their groups.
            id_mask=torch.zeros_like(tensor, dtype=torch.int),
            timestamp_seconds=times[:, None].expand(tensor.shape).contiguous(),
            time_interval_seconds=intervals[:, None].expand(tensor.shape[:2]).contiguous(),
            **more,
        )

    def _future(self, series: Sequence[Context]) -> torch.Tensor | None:
        known = [
            one.future if one.level is None else one.level.down(one.future, len(one.values) - one.covariates)
            for one in series
            if one.future is not None
        ]
        return self._tensor(np.stack(known)) if known else None

    def _tensor(self, values: Array) -> torch.Tensor:
        """On the device, never narrower than float32: the model rounds a series only after it has scaled it."""
        dtype = torch.promote_types(next(self.model.parameters()).dtype, torch.float32)
        return torch.from_numpy(np.ascontiguousarray(values)).to(self.device, dtype)

    def _generators_kept(self, kept: bool) -> contextlib.AbstractContextManager[None]:
        """Puts torch's generators back to where they were, on the CPU and on the device."""
        devices = [self.device] if self.device.type == "cuda" else []
        return torch.random.fork_rng(devices, enabled=kept)

    def predict_quantiles(
        self,
        context: Any,
        prediction_length: int,
        quantile_levels: Sequence[float] = LEVELS,
        **options: Any,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Quantiles and means of the samples, in Chronos' shapes.

        Args:
            options: further arguments of ``predict``.

        Returns:
            Quantiles (series, prediction_length, levels) and means (series, prediction_length); of multivariate series
            each with a dimension for variates after the first.
        """
        levels = check_levels(quantile_levels)
        forecasts = self.predict(context, prediction_length, **options)
        quantiles = torch.stack([forecast.quantile(levels).movedim(0, -1) for forecast in forecasts])
        return quantiles, torch.stack([forecast.mean for forecast in forecasts])

    def predict_df(self, df: Any, *, prediction_length: int, **options: Any) -> Any:
        """Forecasts the series of a long pandas table, one row for each series and time; see ``frames.predict``."""
        from toto_patcher.runtime import frames

        horizon = arguments.count("prediction_length", prediction_length)
        return frames.predict(self, df, prediction_length=horizon, **options)


def _restored(kind: type[TotoPipeline], recipe: dict[str, Any]) -> TotoPipeline:
    """The pipeline that was pickled."""
    return kind.from_pretrained(**recipe)


def _asked(series: Sequence[Context], batch: Batch, horizon: int, samples: int) -> str:
    variates, steps = series[batch.members[0]].values.shape
    return f"{len(batch)} series of {variates} x {steps} points, {horizon} ahead, {samples} samples"
