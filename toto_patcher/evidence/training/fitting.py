"""Fits the model of one tree to made-up series: the next patch, given the patches before it. Needs torch."""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from toto_patcher.evidence.series import Series
from toto_patcher.evidence.training import batches
from toto_patcher.evidence.training.batches import BLOCK, LAYOUTS, Batch, Layout

Tensors = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


@dataclass(frozen=True)
class Settings:
    """How to fit.

    Attributes:
        steps: batches to learn from, each seen once.
        rate: the largest learning rate, reached after ``warmup`` steps; then it falls as a cosine to a hundredth.
        clip: largest norm of the gradient.
        compiled: with Inductor, faster after a minute.
    """

    steps: int
    seed: int = 0
    rate: float = 2e-3
    warmup: int = 300
    decay: float = 0.02
    clip: float = 1.0
    compiled: bool = True
    layouts: tuple[Layout, ...] = LAYOUTS


class _Blocks(Dataset[list[Tensors]]):
    """Blocks of batches by their number, so that another process can make them ahead."""

    def __init__(self, settings: Settings, patch: int) -> None:
        self.settings, self.patch = settings, patch

    def __len__(self) -> int:
        return -(-self.settings.steps // BLOCK)

    def __getitem__(self, number: int) -> list[Tensors]:
        return [
            tensors(batch) for batch in batches.block(self.settings.seed, number, self.patch, self.settings.layouts)
        ]


def tensors(batch: Batch) -> Tensors:
    """Series, what of them is known, and their groups, as the model takes them."""
    return torch.from_numpy(batch.series), torch.from_numpy(batch.known), torch.from_numpy(batch.group)


def negative_log_likelihood(backbone: Any, series: torch.Tensor, known: torch.Tensor, group: torch.Tensor) -> Any:
    """Mean over all points after the first patch, in units of the scale that was known one patch before.

    One forward pass: the distribution that the model gives after each patch is asked for the next patch.
    """
    patch = backbone.patch_embed.patch_size
    distribution, loc, scale = backbone(series[..., :-patch], known[..., :-patch], group[..., :-patch])
    log_density = distribution.log_prob((series[..., patch:] - loc) / scale)
    # A patch that follows nothing but padding cannot be predicted.
    asked = known[..., patch:] & known[..., :-patch]
    return -(log_density * asked).sum() / asked.sum()


@torch.no_grad()
def heldout_losses(backbone: Any, unseen: Sequence[Batch], known: Sequence[Series]) -> dict[str, float]:
    """The same loss on made-up series not learned from, and on the ends of real ones: ``synthetic``, ``real``."""
    was_training = backbone.training
    backbone.eval()
    patch = backbone.patch_embed.patch_size
    made = [float(negative_log_likelihood(backbone, *tensors(batch))) for batch in unseen]
    ends = []
    for series in known:
        length = min(512, len(series.values) // patch * patch - patch) + patch
        end = torch.from_numpy(series.values[-length:])[None, None]
        ends.append(float(negative_log_likelihood(backbone, end, torch.ones_like(end).bool(), torch.zeros_like(end))))
    backbone.train(was_training)
    return {"synthetic": sum(made) / len(made), "real": sum(ends) / len(ends)}


@torch.no_grad()
def group_losses(backbone: Any, unseen: Sequence[Batch]) -> dict[str, float]:
    """The same loss on batches of groups as they are, and with every variate kept apart: ``together``, ``apart``."""
    found: dict[str, list[float]] = {"together": [], "apart": []}
    for series, known, group in map(tensors, unseen):
        apart = torch.arange(series.shape[1])[:, None].expand_as(group)
        for name, groups in (("together", group), ("apart", apart)):
            found[name].append(float(negative_log_likelihood(backbone, series, known, groups)))
    return {name: sum(losses) / len(losses) for name, losses in found.items()}


def rate_at(step: int, settings: Settings) -> float:
    """Learning rate of a step: linear to the largest, then a cosine to a hundredth of it."""
    if step < settings.warmup:
        return settings.rate * (step + 1) / settings.warmup
    done = (step - settings.warmup) / max(1, settings.steps - settings.warmup)
    return settings.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done)))


def fit(backbone: Any, settings: Settings, tell: Callable[[int, float, float], None]) -> list[float]:
    """Trains ``backbone`` in place.

    Args:
        tell: called a hundred times with the step, the mean loss since the last call and the seconds so far.

    Returns:
        The loss of every step.
    """
    _keep_memory()
    backbone.train()
    decayed = [value for value in backbone.parameters() if value.ndim > 1]
    others = [value for value in backbone.parameters() if value.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.rate, betas=(0.9, 0.98), fused=True)
    loss_of: Any = negative_log_likelihood
    if settings.compiled:
        loss_of = torch.compile(negative_log_likelihood, dynamic=False)
    losses: list[float] = []
    started, told = time.perf_counter(), 0
    for step, batch in enumerate(_stream(settings, backbone.patch_embed.patch_size)):
        for group in optimizer.param_groups:
            group["lr"] = rate_at(step, settings)
        loss = loss_of(backbone, *batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(backbone.parameters(), settings.clip)
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss))
        if (step + 1) % max(1, settings.steps // 100) == 0:
            tell(step + 1, sum(losses[told:]) / (step + 1 - told), time.perf_counter() - started)
            told = step + 1
    backbone.eval()
    return losses


def _keep_memory() -> None:
    """Has glibc keep freed memory: else large tensors are mapped and unmapped at every step, a sixth of the time."""
    with contextlib.suppress(OSError, AttributeError):
        libc = ctypes.CDLL(None)
        for option, value in ((-3, 32 << 20), (-1, 1 << 30)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
            libc.mallopt(option, value)


def _stream(settings: Settings, patch: int) -> Iterator[Tensors]:
    """All batches in order; long runs have them made by another process."""
    workers = 1 if settings.steps > 100 else 0
    blocks = DataLoader(_Blocks(settings, patch), batch_size=None, num_workers=workers)
    made = 0
    for block in blocks:
        for batch in block:
            if made == settings.steps:
                return
            yield batch
            made += 1
