"""What the patch adds to ``TotoBackbone`` and to ``TotoForecaster``. The codemod takes the methods from here."""

from typing import Any

import torch


class LastPatchBackbone:
    """The methods that the patch adds to ``TotoBackbone``."""

    def _to_unembed(self, hidden: torch.Tensor, kv_cache: Any) -> torch.Tensor:
        """What is un-embedded of the transformer's output, (batch, variate, patch, width)."""
        if kv_cache is None or self.every_patch:
            return hidden
        return hidden[:, :, -1:]

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
