"""Markdown tables of a full-graph document: speed, memory, compilation, outputs, device time, patches one by one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toto_patcher.equivalence.models import SHAPES
from toto_patcher.evidence.benchmark_plan import UP_TO, UPSTREAM
from toto_patcher.evidence.benchmark_rows import (
    Row,
    baseline,
    best_upstream,
    later_graphs,
    later_recompilations,
    times_faster,
    title,
)
from toto_patcher.evidence.goals import H200, floor
from toto_patcher.evidence.spread import summarize
from toto_patcher.evidence.tables import number_text, ratio_text, table
from toto_patcher.evidence.workloads import WORKLOADS

PEAKS = ("peak_allocated_mib", "peak_reserved_mib")


def eager(rows: Sequence[Row], row: Row) -> Row | None:
    """Upstream uncompiled on the same workload in the same group."""
    return baseline(rows, row, UPSTREAM, "eager")


def share(rows: Sequence[Row], row: Row, peak: str) -> float | None:
    """A row's peak memory as a share of uncompiled upstream's."""
    reference = eager(rows, row)
    mine, theirs = (each.get("memory", {}).get(peak) for each in (row, reference or {}))
    return mine / theirs if mine and theirs else None


def share_beside_weights(rows: Sequence[Row], row: Row, peak: str) -> float | None:
    """The same of what both take beside the model's weights."""
    reference = eager(rows, row)
    found = [each.get("memory", {}) for each in (row, reference or {})]
    mine, theirs = (each[peak] - each["weights_mib"] if each.get(peak) else None for each in found)
    return mine / theirs if mine and theirs else None


def checks(rows: Sequence[Row]) -> list[str]:
    """What the decoder's checks before each forecast cost, where they were measured."""
    head = ["tree, mode", "forecast ms", "without checks ms", "cost", "host us", "device us"]
    body = []
    for row in rows:
        found = row.get("checks")
        if found and found.get("with_ms"):
            with_ms, without = found["with_ms"], found["without_ms"]
            times = [f"{with_ms:.3f}", f"{without:.3f}", f"{with_ms / without - 1:.1%}"]
            body.append([title(row), *times, number_text(found["host_us"]), number_text(found["device_us"])])
    return table(head, body) if body else []


def speed(rows: Sequence[Row]) -> list[str]:
    """Times and ratios, first calls and second starts of one workload."""
    head = [
        "tree, mode",
        "repetitions",
        "median ms",
        "quartiles",
        "x upstream eager",
        "x upstream's best mode",
        "first call s",
        "second process s",
    ]
    body = []
    for row in rows:
        spread = summarize(row["ms"])
        ratios = [ratio_text(times_faster(other, row)) for other in (eager(rows, row), best_upstream(rows, row))]
        starts = [number_text(row["warm_up"]["ms"][0] / 1e3, 1), number_text(row.get("warm_start_s"), 1)]
        times = [f"{spread.median:.2f}", f"{spread.low:.2f}-{spread.high:.2f}"]
        body.append([title(row), str(spread.count), *times, *ratios, *starts])
    return table(head, body)


def memory(rows: Sequence[Row]) -> list[str]:
    """Peak memory of one warm forecast, whole and as a share of upstream eager's."""
    head = ["tree, mode", "allocated MiB", "of upstream eager", "reserved MiB", "of upstream eager", "weights MiB"]
    body = []
    for row in rows:
        found = row.get("memory", {})
        if found.get(PEAKS[0]) is None:
            continue
        cells = []
        for peak in PEAKS:
            cells += [number_text(found[peak]), _percent(share(rows, row, peak))]
        body.append([title(row), *cells, number_text(found.get("weights_mib"))])
    return table(head, body) if body else []


def compilation(rows: Sequence[Row]) -> list[str]:
    """What was compiled and recorded in the warm-up and after it."""
    head = [
        "tree, mode",
        "graphs",
        "breaks",
        "recompilations in warm-up",
        "recompilations after",
        "new graphs after",
        "CUDA graphs recorded",
        "limit hits",
        "skips",
    ]
    body = []
    for row in rows:
        if row["mode"] == "eager":
            continue
        after, now = row["warm_up"].get("after", {}), row.get("totals", {}).get("now", {})
        first = [number_text(after.get(key)) for key in ("graphs", "graph_breaks", "recompilations")]
        later = [number_text(later_recompilations(row)), number_text(later_graphs(row))]
        last = [number_text(now.get(key)) for key in ("recordings", "limit_hits", "cudagraph_skips")]
        body.append([title(row), *first, *later, *last])
    return table(head, body) if body else []


def variations(rows: Sequence[Row]) -> list[str]:
    """The calls after the warm-up that compiled something anew."""
    lines = []
    for row in rows:
        anew = [
            f"{item['what']} ({item['graphs']} graphs)"
            for item in row.get("variations", {}).get("rows", [])
            if item["graphs"]
        ]
        if anew:
            lines.append(f"- {title(row)} compiled anew for {', '.join(anew)}.")
    return [*lines, ""] if lines else []


def outputs(rows: Sequence[Row]) -> list[str]:
    """How far outputs are from upstream eager's: point forecasts, and samples or their quantiles."""
    head = [
        "tree, mode",
        "point forecast, largest difference",
        "same-seed samples within 1e-3",
        "quantiles, mean distance",
        "the same between two seeds of upstream",
    ]
    body = []
    for row in rows:
        if found := row.get("outputs"):
            close = f"{found['samples_close']:.3%}" if "samples_close" in found else "-"
            null = "-"
            if found.get("quantiles_null"):
                null = f"{min(found['quantiles_null']):.3f}-{max(found['quantiles_null']):.3f}"
            distance = f"{found['quantiles']:.3f}" if "quantiles" in found else "-"
            body.append([title(row), f"{found['point']:.1e}", close, distance, null])
    return table(head, body) if body else []


def device(rows: Sequence[Row]) -> list[str]:
    """Where the device's time goes in one warm forecast, by kind of kernel."""
    traced = [row for row in rows if row.get("kernels", {}).get("device_kernels")]
    if not traced:
        return []
    kinds: dict[str, float] = {}
    for row in traced:
        for kind, milliseconds in row["kernels"]["device_ms_by_kind"].items():
            kinds[kind] = max(kinds.get(kind, 0.0), milliseconds)
    body = []
    for kind in sorted(kinds, key=lambda kind: -kinds[kind]):
        body.append([kind, *(f"{row['kernels']['device_ms_by_kind'].get(kind, 0.0):.2f}" for row in traced)])
    body.append(["all", *(f"{row['kernels']['device_ms']:.2f}" for row in traced)])
    body.append(["one forecast, median of the timed ones", *(f"{summarize(row['ms']).median:.2f}" for row in traced)])
    body.append(["kernels, copies and fills", *(number_text(row["kernels"]["device_kernels"]) for row in traced)])
    for name, call in (
        ("kernel launches", "LaunchKernel"),
        ("CUDA-graph launches", "GraphLaunch"),
        ("waits for the device", "Synchronize"),
    ):
        body.append([name, *(number_text(_calls(row["kernels"], call)) for row in traced)])
    return table(["device ms", *(title(row) for row in traced)], body)


def _calls(kernels: dict[str, Any], part: str) -> int:
    return sum(count for call, count in kernels["runtime_calls"].items() if part in call)


def floors(document: dict[str, Any], workload: str) -> list[str]:
    """What the hardware allows on this workload, where its limits are known."""
    settings = document["settings"]
    if "H200" not in document["machine"].get("gpu", ""):
        return []
    least = floor(SHAPES[settings["shape"]], WORKLOADS[workload], settings["precision"], H200)
    rate = H200.flops[settings["precision"]] / 1e12
    return [
        f"Floor: {least.total:.2f} ms. Reading the weights once per pass takes {least.weights:.2f} ms at "
        f"{H200.bytes_per_s / 1e12} TB/s, the products {least.arithmetic:.2f} ms at {rate:.0f} TFLOP/s "
        f"({settings['precision']}); in each pass the larger of the two counts.",
        "",
    ]


def ablation(rows: Sequence[Row]) -> list[str]:
    """Each patch alone, then the patches one after the other, against upstream eager."""
    head = ["patches", "mode", "median ms", "x upstream eager", "allocated MiB", "of upstream eager"]
    body = []
    for row in sorted(rows, key=lambda row: row["tree"].startswith(UP_TO)):  # stable: otherwise in their own order
        name = row["tree"].replace("only-", "only ").replace("upto-", "up to ")
        used = [number_text(row.get("memory", {}).get(PEAKS[0])), _percent(share(rows, row, PEAKS[0]))]
        ratio = ratio_text(times_faster(eager(rows, row), row))
        body.append([name, row["mode"], f"{summarize(row['ms']).median:.2f}", ratio, *used])
    return table(head, body)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
