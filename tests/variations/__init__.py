"""The forms in which people vendor Toto, as generators that transform the real source (DESIGN section 3).

Each takes a folder that holds an untouched ``toto/`` and rewrites it in place; none contains Toto's code.
"""

from . import (
    annotations,
    cache_forms,
    forecaster_forms,
    foreign_edits,
    forks,
    formatting,
    hidden_edits,
    layout,
    lookalikes,
    neighbours,
    spelling,
)
from .base import REGISTRY, Variation

__all__ = [
    "REGISTRY",
    "Variation",
    "annotations",
    "cache_forms",
    "forecaster_forms",
    "foreign_edits",
    "forks",
    "formatting",
    "hidden_edits",
    "layout",
    "lookalikes",
    "neighbours",
    "spelling",
]
