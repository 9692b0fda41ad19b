"""Rows of a stress run, as measured, without a fault."""

from __future__ import annotations

from typing import Any


def delta(scope: str = "overall", measure: str = "mae", delta: float = 0.01, spread: float = 0.02) -> dict[str, Any]:
    return {"scope": scope, "measure": measure, "upstream": 1.0, "measured": 1.0, "delta": delta, "spread": spread}


def row(tree: str = "patched", mode: str = "default", **changes: Any) -> dict[str, Any]:
    compiler = {"graphs": 12, "graph_breaks": 0, "limit_hits": 0, "cudagraph_skips": 0, **changes.pop("compiler", {})}
    upstream = tree == "upstream"
    return {
        "name": f"{tree}, {mode}",
        "tree": tree,
        "mode": mode,
        "failure": None,
        "device": "cuda",
        "compiled": mode != "eager",
        "bad_values": 0,
        "recompilations": 0,
        "compiler": compiler,
        "speedup": None if upstream else {"value": 3.0, "low": 2.5, "high": 3.5},
        "accuracy": [] if upstream else [delta("co2"), delta(), delta(measure="crps")],
        "warm_up": {"ms": [900.0, 10.0]},
        "ms": [10.0, 11.0, 12.0, 13.0],
        "memory": {"peak_allocated_mib": None, "peak_reserved_mib": None, "peak_process_mib": 400.0},
        "first_again_ms": 400.0,
        **changes,
    }


def rows(*patched: dict[str, Any]) -> list[dict[str, Any]]:
    return [row("upstream", "eager"), *(patched or (row(mode="eager"), row()))]


def document(*patched: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A whole document, but for verdict and broken limits."""
    return {
        "date": "2026-01-01T00:00:00+00:00",
        "command": "toto-patch stress",
        "seconds": 1.0,
        "machine": {"torch": "2.13.0", "gpu": None, "threads": 2},
        "settings": {
            "iterations": 3,
            "again": True,
            "horizon": 24,
            "context": 256,
            "samples": 128,
            "checkpoint": {"name": "embedded"},
        },
        "tree": {"profile": "full-graph", "release": "0.2.0", "drifted": [], "edited": []},
        "series": [{"name": "co2", "origins": [1, 2]}],
        "limits": {"mae_delta": 0.05},
        "rows": rows(*patched),
        **changes,
    }
