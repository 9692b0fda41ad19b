"""Forecasts the windows with both trees, each in a process of its own, at the same time."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from toto_patcher import workspace as ws
from toto_patcher.equivalence.children import Child, Outcome
from toto_patcher.errors import CheckpointError, RefusedError
from toto_patcher.evidence.accuracy_worker import CONTEXTS_FILE, Job
from toto_patcher.patching.checkout import Checkout

if TYPE_CHECKING:
    from toto_patcher.evidence.accuracy_windows import Window
    from toto_patcher.progress import Progress

UPSTREAM, CANDIDATE = "upstream", "candidate"
EAGER = "eager"
WORKER = "toto_patcher.evidence.accuracy_worker"


def forecast(
    workspace: ws.Workspace,
    windows: Sequence[Window],
    folder: Path,
    progress: Progress,
    *,
    checkpoint: Path,
    samples: int,
    seeds: Sequence[int],
    device: str,
    mode: str,
) -> Mapping[str, Outcome]:
    """Upstream's original sources are laid down and run eagerly; the tree runs where it is, in ``mode``.

    Args:
        folder: an empty one for all that is written.
        checkpoint: a folder with config.json and model.safetensors.

    Returns:
        ``upstream`` and ``candidate``, whose arrays are (windows, seeds, samples, horizon) for each series. The
        candidate may have failed.

    Raises:
        CheckpointError: it cannot be loaded.
        RefusedError: the original cannot forecast, or an original is lost.
    """
    ws.lay_down(Checkout.open(workspace.root), workspace.originals(), folder / "original")
    names = list(dict.fromkeys(window.series.name for window in windows))
    contexts: dict[str, Any] = {
        name: np.stack([one.context for one in windows if one.series.name == name]) for name in names
    }
    np.savez(folder / CONTEXTS_FILE, **contexts)
    steps, lock, done = 2 * len(names), threading.Lock(), 0

    def on_line(line: dict[str, str]) -> None:
        nonlocal done
        with lock:
            done += 1
            progress(f"forecast {line['case']} with {line['kind']}", done, steps)

    progress("loading the model in both trees", 0, steps)
    children: dict[str, Child] = {}
    try:
        for role, root in ((UPSTREAM, folder / "original"), (CANDIDATE, workspace.root)):
            (folder / role).mkdir()
            job = Job(
                role=role,
                root=str(root),
                out=str(folder / role),
                contexts=str(folder / CONTEXTS_FILE),
                checkpoint=str(checkpoint),
                horizon=len(windows[0].actual),
                samples=samples,
                seeds=list(seeds),
                intervals={window.series.name: window.series.interval_seconds for window in windows},
                device=device,
                mode="" if role == UPSTREAM or mode == EAGER else mode,
                threads=max(1, len(os.sched_getaffinity(0)) // 2),
            )
            children[role] = Child([job], folder / role, on_line, WORKER)
        outcomes = {role: child.wait()[0] for role, child in children.items()}
    finally:
        for child in children.values():
            child.stop()
    _require_upstream(outcomes[UPSTREAM], checkpoint)
    return outcomes


def _require_upstream(outcome: Outcome, checkpoint: Path) -> None:
    if outcome.unusable_checkpoint:
        hint = "Give a checkpoint of Toto 1.0 that this release loads, complete and as it was saved."
        raise CheckpointError(outcome.unusable_checkpoint, path=checkpoint, hint=hint)
    if outcome.failure:
        raise RefusedError(
            f"the original tree cannot forecast, so there is nothing to compare with: {last_line(outcome.failure)}",
            hint="`toto-patch verify-only --numerics` tells whether it runs at all.",
        )
    bad = not_finite(outcome)
    if bad:
        raise RefusedError(f"the original tree's forecasts of {', '.join(bad)} are not finite")


def not_finite(outcome: Outcome) -> list[str]:
    """Names of the series with samples that are not finite."""
    return [name for name, samples in outcome.arrays.items() if not np.isfinite(samples).all()]


def last_line(text: str) -> str:
    """The last line of a traceback, which says what happened."""
    return (text.strip().splitlines() or ["no reason given"])[-1][:400]
