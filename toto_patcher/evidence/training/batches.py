"""Batches of made-up series, each a pure function of the seed and its number. Knows numpy alone.

Most hold single series. Some hold groups of four: mixtures of common causes, unrelated neighbours, or two pairs that an
id mask keeps apart; from them the space-wise layer learns what to use and what to leave alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from toto_patcher.evidence.training import components as parts
from toto_patcher.evidence.training import families
from toto_patcher.evidence.training.components import Draws, Rows


@dataclass(frozen=True)
class Layout:
    """Shape of a batch.

    Attributes:
        share: of the batches.
        length: points that the model sees; the batch has one patch more, to be predicted.
    """

    share: float
    series: int
    variates: int
    length: int


@dataclass(frozen=True)
class Batch:
    """One batch, each array of shape (series, variates, length + patch).

    Attributes:
        series: float32.
        known: True where there is a value, False where the beginning is padded with zeros.
        group: which variates belong together.
    """

    series: npt.NDArray[np.float32]
    known: npt.NDArray[np.bool_]
    group: npt.NDArray[np.int64]


LAYOUTS = (Layout(0.5, 32, 1, 512), Layout(0.35, 16, 1, 1024), Layout(0.15, 8, 4, 512))
BLOCK = 8
"""Batches that are drawn at once: less overhead per series."""


def block(seed: int, number: int, patch: int, layouts: tuple[Layout, ...] = LAYOUTS) -> list[Batch]:
    """The batches ``number * BLOCK`` to ``(number + 1) * BLOCK - 1``, all of one layout."""
    draws = np.random.default_rng([seed, number])
    shares = np.array([layout.share for layout in layouts])
    layout = layouts[draws.choice(len(layouts), p=shares / shares.sum())]
    count, length = layout.series * BLOCK, layout.length + patch
    rows = families.draw(draws, count * layout.variates, length).reshape(count, layout.variates, length)
    group = np.zeros(rows.shape, dtype=np.int64)
    if layout.variates > 1:
        rows, group = _related(draws, rows)
    rows = _placed(draws, rows)
    known = np.arange(length) >= _padding(draws, count, patch, layout.length)[:, None, None]
    known = np.broadcast_to(known, rows.shape)
    series = np.where(known, rows, 0.0).astype(np.float32)
    cuts = [slice(at, at + layout.series) for at in range(0, count, layout.series)]
    return [Batch(series[cut], known[cut].copy(), group[cut]) for cut in cuts]


def _related(draws: Draws, rows: Rows) -> tuple[Rows, npt.NDArray[np.int64]]:
    """Half of the groups share causes, some of them with a delay; a quarter each is unrelated, or two pairs."""
    count, variates, length = rows.shape
    kind = draws.integers(4, size=(count, 1, 1))
    weights = draws.standard_normal((count, variates, variates)) * draws.uniform(0, 1, (count, 1, 1))
    mixed = rows + np.einsum("nij,njt->nit", weights, rows)
    lag = draws.integers(0, 33, (count, variates, 1)) * (draws.random((count, variates, 1)) < 0.3)
    mixed = np.take_along_axis(mixed, np.maximum(np.arange(length) - lag, 0), axis=2)
    mixed = parts.unit(mixed.reshape(count * variates, length)).reshape(rows.shape)
    mixed = mixed + families.FLOOR * draws.standard_normal(rows.shape)
    pairs = np.arange(variates)[:, None] >= variates // 2
    group = np.where(kind == 3, pairs, False) * np.ones(length, dtype=np.int64)
    return np.where(kind < 2, mixed, rows), group.astype(np.int64)


def _placed(draws: Draws, rows: Rows) -> Rows:
    """Each variate in a unit of its own and away from zero, or nowhere near it.

    The scaler adds 0.1 to the variance, so series that move by much less than that look different to the model.
    """
    shape = (*rows.shape[:2], 1)
    usual = 10.0 ** draws.uniform(0.0, 4.0, shape)
    small = 10.0 ** draws.uniform(-2.5, 0.0, shape)
    scale = np.where(draws.random(shape) < 0.25, small, usual)
    level = draws.standard_normal(shape) * 10.0 ** draws.uniform(-1.0, 1.5, shape)
    return np.asarray((rows + level) * scale)


def _padding(draws: Draws, count: int, patch: int, length: int) -> npt.NDArray[np.int64]:
    """Points to leave off at the beginning: often a part of a patch, as any context has, sometimes most of it."""
    part, most = draws.integers(0, patch, count), draws.integers(0, length - 2 * patch, count)
    kind = draws.random(count)
    return np.where(kind < 0.5, 0, np.where(kind < 0.9, part, most))
