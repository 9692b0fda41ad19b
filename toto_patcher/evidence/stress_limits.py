"""The limits of ``toto-patch stress``: their defaults, and what a project's pyproject.toml says instead. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from toto_patcher import roots
from toto_patcher.errors import UsageError

TABLE = "[tool.toto-patch.stress]"


@dataclass(frozen=True)
class Limits:
    """What a patched row may do, each judged against the original in eager mode. Keys of ``[tool.toto-patch.stress]``.

    That forecasts are finite, that every row runs and that compiled rows are compiled is no matter of configuration.

    Attributes:
        mae_delta: largest difference of the mean absolute error, to either side, as a share of the original's.
        recompilations: most compilations after the warm-up.
        recompile_limit_hits: how often torch may run into its recompile limit, and then go on eagerly.
        cudagraph_skips: how often torch may leave CUDA graphs aside; judged on a GPU, where the mode uses them.
        min_speedup: least speed of a compiled row, as a multiple of the original's.
        min_speedup_eager: the same of the patched tree in eager mode, for whose sake nobody patches.
    """

    mae_delta: float = 0.05
    recompilations: int = 0
    recompile_limit_hits: int = 0
    cudagraph_skips: int = 0
    min_speedup: float = 1.0
    min_speedup_eager: float = 0.9


def configured(cwd: Path) -> Limits:
    """The limits in the nearest pyproject.toml at or above a folder, and the defaults of those it does not name.

    Raises:
        UsageError: it names a limit that does not exist, or its value is no number of the right kind.
    """
    config, table = roots.table("stress", cwd)
    return read(table, config)


def read(table: Mapping[str, Any], config: Path | None = None) -> Limits:
    """Limits from a table; raises as ``configured`` does."""
    known = {field.name: field.default for field in fields(Limits)}
    hint = f"{TABLE} may hold: {', '.join(known)}."
    if unknown := sorted(set(table) - set(known)):
        raise UsageError(f"{TABLE} has no limit {', '.join(map(repr, unknown))}", path=config, hint=hint)
    for name, value in table.items():
        whole = isinstance(known[name], int)
        right = isinstance(value, int if whole else int | float) and not isinstance(value, bool)
        if not right or not math.isfinite(value) or value < 0:
            wanted = "a whole number" if whole else "a number"
            raise UsageError(
                f"{name} of {TABLE} is {value!r}, and must be {wanted}, at least 0", path=config, hint=hint
            )
    return Limits(**table)
