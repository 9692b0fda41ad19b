"""What a monitor saw while all was well, in a file that later monitors compare with."""

from __future__ import annotations

import json
import math
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from toto_patcher.errors import InputError

SCHEMA = 1


@dataclass(frozen=True)
class Baseline:
    """A summary of healthy forecasts.

    Attributes:
        records: forecasts that it sums up.
        level_mean: mean of their mean absolute levels, in the series' unit.
        time_median_ms: their latency.
        time_p95_ms: that 95 % of them did not exceed.
    """

    records: int
    level_mean: float
    time_median_ms: float
    time_p95_ms: float

    def save(self, path: Path | str) -> None:
        """Writes it as JSON; whoever reads the file meanwhile finds the old one or the new one."""
        target = Path(path)
        text = json.dumps({"schema": SCHEMA, **asdict(self)}, indent=2) + "\n"
        beside = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            beside.write_text(text, encoding="utf-8")
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: Path | str) -> Baseline:
        """Reads what ``save`` wrote.

        Raises:
            InputError: there is no such file, or it holds something else.
        """
        try:
            found = json.loads(Path(path).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"the baseline cannot be read: {error}", path=path, hint=_HINT) from error
        names = [field.name for field in fields(cls)]
        numbers: list[Any] = [found.get(name) for name in names] if isinstance(found, dict) else []
        right = bool(numbers) and all(isinstance(n, int | float) and math.isfinite(n) and n >= 0 for n in numbers)
        if not right or found.get("schema") != SCHEMA:
            wanted = f"schema {SCHEMA} and numbers for {', '.join(names)}"
            raise InputError(f"is no baseline: it needs {wanted}", path=path, hint=_HINT)
        return cls(*numbers)


_HINT = "Write one with TotoMonitor.save_baseline(path) while the service is healthy."
