"""Full-graph documents made up for tests: plain numbers, so that what a page says of them is known."""

from __future__ import annotations

from typing import Any

MEMORY = {"upstream": 1000.0, "full-graph": 400.0}


def row(workload: str, tree: str, mode: str, took: float, **more: Any) -> dict[str, Any]:
    """A row of six repetitions that all took this many milliseconds."""
    counters = {"graphs": 4, "graph_breaks": 0, "recompilations": 0, "limit_hits": 0, "cudagraph_skips": 0}
    after = counters | {"recordings": 2}
    peak = MEMORY.get(tree, 800.0)
    return {
        "workload": workload,
        "tree": tree,
        "mode": mode,
        "group": 0,
        "ms": [took] * 6,
        "timed_per_turn": 3,
        "warm_up": {"ms": [9000.0, took], "after": after},
        "memory": {"peak_allocated_mib": peak, "peak_reserved_mib": peak * 1.2, "weights_mib": 300.0},
        "totals": {"now": after},
        "failure": None,
        **more,
    }


def kernels(**kinds: float) -> dict[str, Any]:
    """A trace with this many milliseconds by kind of kernel."""
    calls = {"cudaLaunchKernel": 7, "cudaGraphLaunch": 2, "cudaStreamSynchronize": 3, "cudaDeviceSynchronize": 1}
    return {
        "device_kernels": 31,
        "device_ms": sum(kinds.values()),
        "device_ms_by_kind": kinds,
        "runtime_calls": calls,
        "kernels": [],
    }


def document(device: str = "cuda", **rows: Any) -> dict[str, Any]:
    """A document on ``trading``: upstream in three modes, full-graph in two; 250 and 125 times faster."""
    fast = {
        "warm_start_s": 4.5,
        "outputs": {"point": 1e-7, "median_samples": 0.1, "quantiles": 0.02, "quantiles_null": [0.018, 0.021]},
    }
    return {
        "schema": 2,
        "date": "2026-01-02T03:04:05+00:00",
        "seconds": 1.0,
        "command": "toto-patch bench",
        "machine": {"gpu": "NVIDIA H200", "cpu_cores": 16, "python": "3.12.3", "torch": "2.11.0", "driver": "1.2"}
        if device == "cuda"
        else {"cpu_cores": 2, "python": "3.12.3", "torch": "2.11.0"},
        "settings": {
            "device": device,
            "shape": "base",
            "precision": "tf32" if device == "cuda" else "fp32",
            "threads": 2,
            "seed": 0,
            "turns": 2,
            "timed_per_turn": 3,
            "untimed_per_turn": 1,
            "warm_up_forecasts": 2,
            "budget_s": None,
            "recompile_limit": 8,
            "accumulated_recompile_limit": 256,
        },
        "trees": {"upstream": _tree(), "full-graph": _tree("static-decoder"), "only-static-decoder": _tree()},
        "left_out": [],
        "rows": [
            row("trading", "upstream", "eager", 100.0, kernels=kernels(matmul=30.0, copy=10.0)),
            row("trading", "full-graph", "eager", 5.0),
            row("trading", "only-static-decoder", "eager", 5.0, ms=[5.0, 5.0], timed_per_turn=1),
            row("trading", "upstream", "default", 60.0),
            row("trading", "upstream", "reduce-overhead", 50.0),
            row("trading", "full-graph", "reduce-overhead", 0.4, kernels=kernels(matmul=0.3), **fast),
        ],
        **rows,
    }


def _tree(*patches: str) -> dict[str, Any]:
    return {"fingerprint": "0" * 64, "files": 1, "patched_files": {}, "patches": list(patches)}
