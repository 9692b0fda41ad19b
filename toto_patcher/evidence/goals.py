"""What the full-graph profile is meant to reach, and what the hardware allows: ratios, and floors by arithmetic."""

from __future__ import annotations

from dataclasses import dataclass

from toto_patcher.equivalence.models import Shape
from toto_patcher.evidence.workloads import Workload

WARM_START_S = 5.0
"""Goal for a second process: seconds from after its imports, the compiler's too, to the end of its second forecast."""


@dataclass(frozen=True)
class Goal:
    """How many times faster than upstream, in the same precision in the same run.

    Attributes:
        eager: than upstream uncompiled.
        best: than upstream in its best compile mode; ``None`` for no goal.
        memory: peak memory as a share of uncompiled upstream's; ``None`` for no goal.
    """

    eager: float
    best: float | None = None
    memory: float | None = None


GOALS: dict[str, dict[str, Goal]] = {
    "cuda": {
        "trading": Goal(200, 100, 1 / 2),
        "observability": Goal(30, 25, 1 / 25),
        "long-horizon": Goal(20, 15, 1 / 2),
    },
    "cpu": {"trading": Goal(150), "long-horizon": Goal(4)},
}
"""By device and workload, for the ``base`` shape; on a GPU in TF32, on a CPU in float32."""


@dataclass(frozen=True)
class Limits:
    """What one card can do, measured on it: bytes copied and operations per second."""

    bytes_per_s: float
    flops: dict[str, float]


H200 = Limits(4.3e12, {"fp32": 51e12, "tf32": 412e12, "bf16": 790e12})


@dataclass(frozen=True)
class Floor:
    """Milliseconds that a forecast cannot go below.

    Attributes:
        weights: reading the weights once per pass over the model.
        arithmetic: its products.
        total: the larger of the two in every pass, summed over the passes.
    """

    weights: float
    arithmetic: float
    total: float


def floor(shape: Shape, work: Workload, precision: str, limits: Limits) -> Floor:
    """The floor of a decoder that reads the context once and then makes one pass per patch for all samples.

    Counted are the products with the weights and those of attention over time. The head is the linear map from the
    transformer to the mixture's parameters of one patch, which needs no wider step between.
    """
    size = 2 if precision == "bf16" else 4
    layer = 4 * shape.embed_dim**2 + 3 * shape.embed_dim * shape.mlp_hidden_dim
    body = shape.num_layers * layer + shape.embed_dim * shape.patch_size
    head = shape.embed_dim * shape.patch_size * 4 * shape.components
    context, patches = work.context // shape.patch_size, -(-work.horizon // shape.patch_size)
    per_key = 4 * shape.embed_dim * (shape.num_layers - 1)  # two products per key and time-wise layer
    read = work.variates * context
    passes = [2 * body * read + 2 * head * work.variates + per_key * work.variates * context * (context + 1) / 2]
    rows = work.samples * work.variates
    passes += [2 * (body + head) * rows + per_key * rows * (context + step) for step in range(1, patches)]
    weights = (body + head) * size / limits.bytes_per_s * 1e3
    arithmetic = [each / limits.flops[precision] * 1e3 for each in passes]
    return Floor(weights * patches, sum(arithmetic), sum(max(weights, each) for each in arithmetic))
