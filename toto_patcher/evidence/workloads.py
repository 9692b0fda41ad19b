"""The named benchmark workloads, as plain data (no torch). Model shapes are those of the equivalence checks."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """One forecast to time.

    Attributes:
        context: time steps of history.
        variates: series forecast together.
        horizon: time steps to forecast.
        samples: sample paths drawn; 0 for a mean forecast.
        per_batch: sample paths per batch; divides ``samples``.
        later_horizons: horizons forecast after the warm-up, none longer than ``horizon``, to count recompilations.
        later_samples: another number of samples and how many of them per batch, forecast after the warm-up. It falls
            into the same bucket as ``samples``, and keeps the batch where a multiple of it does.
        source: where the shape comes from.
        manner: how a program calls, where that is not one forecast after the other; see ``MANNERS``.
        large: several children with this workload do not fit into one device's memory with all they cache.
    """

    name: str
    context: int
    variates: int
    horizon: int
    samples: int
    per_batch: int
    later_horizons: tuple[int, ...]
    later_samples: tuple[int, int]
    source: str
    large: bool = False
    manner: str = ""

    @property
    def batches(self) -> int:
        """How often the context is prefilled in one forecast."""
        return max(1, self.samples // self.per_batch)

    @property
    def drawn(self) -> str:
        """What a forecast is, in words."""
        return f"{self.samples} samples in batches of {self.per_batch}" if self.samples else "the mean"

    def forwards(self, patch: int) -> int:
        """Calls of the backbone in one forecast."""
        return self.batches * -(-self.horizon // patch)


TRADING = Workload("trading", 512, 1, 8, 1024, 128, (8, 1, 64), (896, 128), "the production guide this implements")
OBSERVABILITY = Workload(
    "observability", 4096, 7, 336, 256, 256, (8, 100, 336, 64), (512, 256), "Toto's own README", large=True
)
LONG_HORIZON = Workload("long-horizon", 512, 1, 720, 128, 128, (8, 100, 336, 720), (112, 112), "twelve decode steps")
SMOKE = Workload("smoke", 64, 2, 40, 12, 6, (8, 17, 40), (10, 5), "a few seconds on a CPU, with the tiny shape")
MANNERS = {
    "new-forecaster": "a forecaster made for each call",
    "weight-changed": "a weight changed before each call",
    "after-nan": "after one series with NaN",
    "autocast": "in bfloat16 autocast",
}
"""Ways to call that take what a decoder keeps between forecasts from it."""
EVERYDAY = tuple(f"mean-{manner}" for manner in MANNERS)
_MEANS = (
    Workload(f"mean-{manner}", 512, 1, 64, 0, 1, (8, 64), (0, 1), "how services call it on a CPU", manner=manner)
    for manner in MANNERS
)
WORKLOADS = {workload.name: workload for workload in (TRADING, OBSERVABILITY, LONG_HORIZON, *_MEANS, SMOKE)}
MEASURED = ("trading", "observability", "long-horizon")
"""What is measured where nothing is asked for; on a CPU, ``EVERYDAY`` too."""
MODES = ("default", "reduce-overhead", "max-autotune")
README_COMPILE = "toto.compile"
"""In the place of a mode: compiled by the call that upstream's README shows."""
