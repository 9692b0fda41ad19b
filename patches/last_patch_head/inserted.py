"""What the patch adds to ``TotoBackbone`` and to ``TotoForecaster``. The codemod takes the methods from here."""

from typing import Any

import torch


class LastPatchBackbone:
    """The attributes of ``TotoBackbone`` that the added methods use, and the methods."""

    unembed: torch.nn.Module
    output_distribution: torch.nn.Module
    patch_embed: Any

    def _to_unembed(self, hidden: torch.Tensor, kv_cache: Any) -> torch.Tensor:
        """What is un-embedded of the transformer's output, (batch, variate, patch, width)."""
        if kv_cache is None or self.every_patch or not self._heads_are_upstreams():
            return hidden
        return hidden[:, :, -1:]

    def _heads_are_upstreams(self) -> bool:
        """Whether each patch is un-embedded by itself and covers as many steps as a forecast looks at.

        A hook, a module or a distribution of somebody's own may look at the patches before; and where patches overlap
        or leave gaps, a forecast of means looks at another number of steps than one patch has.
        """
        every = torch.nn.modules.module
        if every._global_forward_hooks or every._global_forward_pre_hooks:
            return False
        known = ("MixtureOfStudentTsOutput", "StudentTOutput")
        if type(self.unembed) is not torch.nn.Linear or type(self.output_distribution).__name__ not in known:
            return False
        for module in (self.unembed, *self.output_distribution.modules()):
            if module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module):
                return False
        return self.patch_embed.stride == getattr(self.patch_embed, "patch_size", None)

    @property
    def every_patch(self) -> bool:
        """Whether a call with a KV cache gives the distribution of every patch, as the original does.

        By default it covers the last patch only, which is all that a forecast looks at.
        """
        return getattr(self, "_every_patch", False)

    @every_patch.setter
    def every_patch(self, every_patch: bool) -> None:
        self._every_patch = bool(every_patch)


class SwitchedForecaster:
    """The attribute of ``TotoForecaster`` that the added methods use, and the methods."""

    model: Any

    @property
    def sampler(self) -> str:
        """How samples are drawn: "fast", or "seed-exact".

        "fast" draws from the same distribution with other random numbers. "seed-exact" gives the samples that the
        original gives for the same seed: it sets `every_patch` of the model, and is for proofs.
        """
        return "seed-exact" if self.model.every_patch else "fast"

    @sampler.setter
    def sampler(self, sampler: str) -> None:
        if sampler not in ("fast", "seed-exact"):
            raise ValueError(f'the sampler is "fast" or "seed-exact", not {sampler!r}')
        self.model.every_patch = sampler == "seed-exact"
