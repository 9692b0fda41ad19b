"""How to measure: plain data for the benchmark's command lines and its parent process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

WarmStarts = Literal["all", "candidates", "none"]


@dataclass(frozen=True)
class Settings:
    """How to measure.

    Attributes:
        device: a torch device.
        shape: name of the model shape.
        precision: ``fp32``, ``tf32`` or ``bf16``.
        turns: rounds over the children; in each, a child makes ``untimed`` and then ``timed`` forecasts.
        warm_up: forecasts before anything counts.
        threads: intra-op threads of torch in each child.
        compile_threads: processes Inductor compiles with, in each child.
        kernels: count what a forecast of each row does on the device.
        profile: also cut upstream's loop into stages: upstream eager, and both trees in one compile mode.
        draws: seeds for which upstream draws samples, to see how far two of its own forecasts are apart.
        warm_starts: which compiled rows are started a second time in a fresh process.
        budget: seconds of timing that a row should take at most; slow rows then make fewer repetitions. ``None``: all.
        time_limit: seconds after which no further group is started; ``None`` for no limit.
        warm_up_limit: seconds after which children of a group that still warm up are ended; ``None`` for no limit.
        environment: variables for the children.
    """

    device: str = "cuda"
    shape: str = "base"
    precision: str = "tf32"
    turns: int = 5
    timed: int = 3
    untimed: int = 1
    warm_up: int = 2
    threads: int = 2
    compile_threads: int = 4
    seed: int = 0
    kernels: bool = True
    profile: bool = True
    draws: int = 3
    warm_starts: WarmStarts = "candidates"
    budget: float | None = None
    time_limit: float | None = None
    warm_up_limit: float | None = None
    environment: dict[str, str] = field(default_factory=dict)

    def worker(self) -> dict[str, Any]:
        """What every worker is told."""
        names = ("device", "shape", "precision", "threads", "seed")
        return {name: getattr(self, name) for name in names}

    def record(self) -> dict[str, Any]:
        """What the document says about them."""
        return {
            **self.worker(),
            "turns": self.turns,
            "timed_per_turn": self.timed,
            "untimed_per_turn": self.untimed,
            "warm_up_forecasts": self.warm_up,
            "budget_s": self.budget,
            "dynamo_limits": "defaults",
        }


@dataclass(frozen=True)
class Pace:
    """How often the rows of one workload are repeated.

    Attributes:
        turns: rounds, the same for all rows, so that every row has its share of each.
        repetitions: untimed and timed forecasts in one turn of each row.
    """

    turns: int
    repetitions: tuple[tuple[int, int], ...]


def pace(settings: Settings, milliseconds: list[float | None], ablation: list[bool]) -> Pace:
    """Fits the repetitions of slow rows into the budget. A row makes at least two, one a turn.

    Args:
        milliseconds: of one warm forecast of each row; ``None`` where it failed.
        ablation: rows that make one timed forecast a turn in any case.
    """
    usual = (settings.untimed, settings.timed)
    repetitions = [(min(1, settings.untimed), 1) if rare else usual for rare in ablation]
    turns = settings.turns
    if settings.budget is not None:
        for place, each in enumerate(milliseconds):
            if each is not None and each * turns * sum(repetitions[place]) > settings.budget * 1e3:
                repetitions[place] = (0, 1)
                turns = max(2, min(turns, int(settings.budget * 1e3 / each)))
    return Pace(turns, tuple(repetitions))
