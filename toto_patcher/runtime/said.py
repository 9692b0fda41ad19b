"""What was put right or left out of a caller's data is said, once, at the caller's own line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

_HERE = str(Path(__file__).parent)


class DataWarning(UserWarning):
    """Data were used, but not as they stand: sorted, filled, or left out. The text says which and why."""


def say(text: str) -> None:
    """Warns at the first line outside of this package; Python shows the same text at the same line once."""
    depth, frame = 2, sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename.startswith(_HERE):
        depth, frame = depth + 1, frame.f_back
    warnings.warn(text, DataWarning, stacklevel=depth)
