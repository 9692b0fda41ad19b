"""What the patch adds to ``TotoForecaster``. The codemod takes the methods from here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class PrefillingForecaster:
    """The attribute of ``TotoForecaster`` that the added methods use, and the methods."""

    model: Any

    def _sharing_prefill(self, copies: int) -> Callable[..., Any]:
        """The model, for one call of `generate_samples`: it reads the context once for all copies of a series.

        The copies are equal until the first samples are drawn, so the first step of every batch of samples gives the
        same. It runs once, on one copy; what it gave and cached is repeated for all. Later steps are the model's own.

        Args:
            copies: of each series, which follow one another: (copy, series).
        """
        if not self._shares_prefill():
            return self.model
        prefill: list[object] = []
        return lambda **arguments: self._step(copies, prefill, arguments)

    def _step(self, copies: int, prefill: list[Any], arguments: dict[str, Any]) -> Any:
        cache, steps = arguments["kv_cache"], arguments["inputs"].shape[-1]
        if cache is None:
            return self.model(**arguments)
        if steps == arguments["scaling_prefix_length"]:
            if not prefill:
                prefill += self._prefill(copies, arguments)
            return [self._repeated(part, copies) for part in prefill[1]]
        if not cache.current_len(0):
            # Only now: a forecast of one patch needs no cache for the copies.
            self._fill(cache, prefill[0], copies)
        return self.model(**arguments)

    def _shares_prefill(self) -> bool:
        """Whether all copies of a series come out alike, and what the distribution is made of is known.

        Code of somebody's own, a hook for example, may draw random numbers for each copy. Told from where code stands:
        that of each module must be this package's, torch's or the rotary embedding's.
        """
        known = ("MixtureOfStudentTsOutput", "StudentTOutput")
        every = torch.nn.modules.module
        modules = list(getattr(self.model, "_orig_mod", self.model).modules())
        hooked = [every._global_forward_hooks, every._global_forward_pre_hooks]
        hooked += [hooks for module in modules for hooks in (module._forward_hooks, module._forward_pre_hooks)]
        if any(hooked) or any(module.training for module in modules):
            return False
        own = [name for module in modules for name in vars(module) if callable(getattr(type(module), name, None))]
        return (
            set(own) <= {"_call_impl"}
            and type(self.model.output_distribution).__name__ in known
            and all(map(self._is_known, {*map(type, modules), type(self.model.scaler)}))
        )

    @staticmethod
    def _is_known(cls: type) -> bool:
        """Whether all methods of a class are defined by this package, by torch or by the rotary embedding's."""
        import sys  # here, for this goes into a file of the tree

        package = __file__
        for _ in range(min(max(__name__.count("."), 1), 2)):
            package = package[: max(package.rfind("/"), package.rfind("\\"))]
        trusted = [package]
        for parent in cls.__mro__:
            if parent.__module__.partition(".")[0] in ("torch", "gluonts", "rotary_embedding_torch"):
                module = sys.modules[parent.__module__.partition(".")[0]]
                trusted.append(str(module.__file__).removesuffix("__init__.py"))
        for parent in cls.__mro__:
            for value in vars(parent).values():
                code = getattr(value, "__code__", None)
                if code is not None and not code.co_filename.startswith(tuple(trusted)):
                    return False
        return True

    def _prefill(self, copies: int, arguments: dict[str, Any]) -> list[Any]:
        """A cache with one copy of every series, and what the model gave for them."""
        inputs = arguments["inputs"]
        series = inputs.shape[0] // copies
        own = {name: arguments[name][:series] for name in ("inputs", "input_padding_mask", "id_mask")}
        # Labels of variates, where they are enabled, take a place of their own before the first patch.
        labels = getattr(self.model, "num_prepended_tokens", 0)
        cache = self.model.allocate_kv_cache(
            batch_size=series,
            num_variates=inputs.shape[1],
            max_time_steps=inputs.shape[-1] + labels * self.model.patch_embed.stride,
            device=inputs.device,
            dtype=inputs.dtype,
        )
        output = self.model(**{**arguments, **own, "kv_cache": cache})
        # Copies: the next replay of a CUDA graph overwrites what the one before it gave.
        return [cache, [self._repeated(part, 1) for part in output]]

    def _fill(self, cache: Any, own: Any, copies: int) -> None:
        """Puts what is cached for one copy of every series into the cache for all copies."""
        for layer_idx, layer in enumerate(self.model.transformer.layers):
            if layer.attention_axis.name == "TIME":
                keys, values = own[layer_idx]
                cache.append(layer_idx, (self._repeated(keys, copies), self._repeated(values, copies)))

    def _repeated(self, part: Any, copies: int) -> Any:
        """A tensor or a distribution, as often as there are copies, along its first axis."""
        if isinstance(part, torch.Tensor):
            return part.repeat(copies, *[1] * (part.dim() - 1))
        if not isinstance(part, torch.distributions.Distribution):
            return part
        # Not `expand`: the mixture's components are of a class that has none.
        repeated = object.__new__(type(part))
        vars(repeated).update({name: self._repeated(value, copies) for name, value in vars(part).items()})
        repeated._batch_shape = torch.Size((copies * part.batch_shape[0], *part.batch_shape[1:]))
        return repeated
