"""What the ladder found: plain frozen data, rendered by others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Check:
    """One check of the ladder.

    Attributes:
        name: step, and where it applies shape and precision, such as ``teacher-forced/tiny/float32``.
        step: number in the ladder, 1 to 8.
        cases: how many cases (files, for the trees) it covers.
        worst_error: the largest error, in the unit of ``bound``.
        bound: what the error may be at most.
        unit: what the two numbers mean.
        worst_case: where the worst error is; empty if there is none.
        passed: the verdict.
        detail: what a person wants to know next.
    """

    name: str
    step: int
    cases: int
    worst_error: float
    bound: float
    unit: str
    worst_case: str
    passed: bool
    detail: str = ""

    @property
    def verdict(self) -> str:
        """``pass`` or ``FAIL``."""
        return "pass" if self.passed else "FAIL"


@dataclass(frozen=True)
class LadderReport:
    """All checks of one run.

    Attributes:
        checks: in the ladder's order.
        quick: whether it was the quick run.
        facts: versions, abilities of the tree and compiler counts per case.
        seconds: wall-clock time.
    """

    checks: tuple[Check, ...]
    quick: bool
    facts: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        """True when every check passed, and there was one."""
        return bool(self.checks) and all(check.passed for check in self.checks)

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed."""
        return tuple(check for check in self.checks if not check.passed)

    def to_dict(self) -> dict[str, Any]:
        """For JSON. An infinite error becomes ``None``."""
        checks = [asdict(check) | {"verdict": check.verdict} for check in self.checks]
        for check in checks:
            if check["worst_error"] == float("inf"):
                check["worst_error"] = None
        return {
            "passed": self.passed,
            "quick": self.quick,
            "seconds": round(self.seconds, 1),
            "checks": checks,
            "facts": dict(self.facts),
        }
