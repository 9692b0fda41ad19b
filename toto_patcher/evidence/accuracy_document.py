"""The raw document of ``toto-patch accuracy``: plain data, complete, without a path of the machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from toto_patcher import workspace as ws
from toto_patcher.equivalence.children import Outcome
from toto_patcher.evidence import accuracy_judgement, accuracy_windows, benchmark_run
from toto_patcher.evidence.accuracy_run import CANDIDATE, UPSTREAM, last_line, not_finite
from toto_patcher.evidence.accuracy_windows import Window


def judged(windows: Sequence[Window], outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The verdict, and everything it rests on."""
    upstream, candidate = outcomes[UPSTREAM], outcomes[CANDIDATE]
    empty: dict[str, Any] = {"findings": [], "limit": None, "p_value": None, "same_seed": [], "errors": []}
    if candidate.failure:
        failures = [f"the patched tree cannot forecast: {last_line(candidate.failure)}"]
        return {"verdict": "failed", "failures": failures, **empty}
    bad = not_finite(candidate)
    if bad:
        return {"verdict": "not-finite", "failures": [f"forecasts that are not finite: {', '.join(bad)}"], **empty}
    errors = {
        role: accuracy_windows.errors(windows, [one for name in outcome.arrays for one in outcome.arrays[name]])
        for role, outcome in outcomes.items()
    }
    names = [window.series.name for window in windows]
    found = accuracy_judgement.judge(errors[UPSTREAM], errors[CANDIDATE], names)
    failures = [_told(finding) for finding in found.findings if finding.outside]
    return {
        "verdict": "inside" if found.passed else "outside",
        "failures": failures,
        "findings": [asdict(finding) for finding in found.findings],
        "limit": found.limit,
        "p_value": found.p_value,
        "same_seed": [
            {"series": name, **_same_seed(upstream.arrays[name], candidate.arrays[name])} for name in upstream.arrays
        ],
        "errors": [
            {
                "series": window.series.name,
                "origin": window.origin,
                **{role: {name: errors[role][name][row].tolist() for name in errors[role]} for role in errors},
            }
            for row, window in enumerate(windows)
        ],
    }


def _told(finding: accuracy_judgement.Finding) -> str:
    where = f"{finding.measure} {'of ' if finding.scope != 'overall' else ''}{finding.scope}"
    if "mean" in finding.outside:
        return f"{where}: {finding.delta.value:+.2%}, where {finding.bound:.2%} on either side is upstream's own spread"
    return f"{where}: single windows differ by more than upstream's own spread, {finding.delta.value:+.2%} on average"


def _same_seed(upstream: Any, candidate: Any) -> dict[str, float]:
    """How far samples of the same seed are apart, in standard deviations of upstream's samples of that step.

    Args:
        upstream: (windows, seeds, num_samples, horizon).
    """
    scale = np.maximum(upstream.std(axis=(1, 2), keepdims=True, dtype=np.float64), 1e-12)
    difference = np.abs(candidate.astype(np.float64) - upstream) / scale
    return {"largest": float(difference.max()), "equal": float((difference <= 1e-3).mean())}


def series(windows: Sequence[Window]) -> list[dict[str, Any]]:
    """What was forecast: each series, and where its windows start."""
    found = {window.series.name: window for window in windows}
    return [
        {
            "name": name,
            "kind": last.series.kind,
            "source": last.series.source,
            "values": len(last.series.values),
            "season": last.series.season,
            "context": len(last.context),
            "origins": [window.origin for window in windows if window.series.name == name],
        }
        for name, last in found.items()
    ]


def machine(outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """The host, and what the children found on it."""
    facts = outcomes[UPSTREAM].facts
    return {**benchmark_run.machine(), **{name: facts[name] for name in ("torch", "numpy", "gpu")}}


def tree(workspace: ws.Workspace, outcomes: Mapping[str, Outcome]) -> dict[str, Any]:
    """What is compared with upstream."""
    assert workspace.state is not None
    facts = outcomes[CANDIDATE].facts
    return {
        "profile": workspace.state.profile,
        "patches": list(workspace.state.patches),
        "release": workspace.state.release,
        "fingerprint": benchmark_run.tree_record(workspace.root)["fingerprint"],
        "edited": [file.path for file in workspace.files() if file.state != "patched"],
        "compiled": facts.get("compiled"),
        "mode": facts.get("mode"),
    }
