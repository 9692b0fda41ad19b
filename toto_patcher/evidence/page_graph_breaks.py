"""The page on the profile ``graph-breaks``: patched against unpatched in the same compile mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toto_patcher.evidence.benchmark_plan import PATCHED, UPSTREAM
from toto_patcher.evidence.benchmark_rows import measured, slower_rows, title
from toto_patcher.evidence.page_parts import Documents, gaps, opening, pictures, rounds
from toto_patcher.evidence.tables import (
    compile_table,
    difference_table,
    headline_table,
    profile_table,
    speed_table,
    tree_table,
)
from toto_patcher.evidence.workloads import MEASURED, MODES, WORKLOADS


def _about(document: dict[str, Any]) -> list[str]:
    machine, settings = document["machine"], document["settings"]
    gpu = machine.get("gpu", "no GPU")
    limits = f"{settings.get('recompile_limit')} and {settings.get('accumulated_recompile_limit')}"
    return [
        f"- Machine: {gpu}, driver {machine.get('driver', '-')}, {machine.get('cpu_cores')} CPU cores, "
        f"Python {machine['python']}, torch {machine.get('torch', '-')}, Triton {machine.get('triton', '-')}.",
        f"- Date: {document['date']}. Model: `{settings['shape']}`, {machine.get('parameters', 0):,} random "
        f"parameters, seed {settings['seed']}. float32, matmul precision `{settings.get('matmul_precision', 'high')}` "
        "(TF32 on the GPU) for every row.",
        rounds(settings),
        f"- torch._dynamo's limits are its defaults in every row ({limits}).",
        "- First calls compile side by side and share Inductor's cache: they say what order of time compiling takes, "
        "not which tree compiles faster. Autotuned trees compile one after the other, upstream first: the patched "
        "tree finds the kernels that upstream's call has tuned.",
        f"- Command: `{document['command']}`",
        "",
    ]


def not_measured(documents: Documents) -> list[str]:
    """Workloads and compile modes that no document has a patched row for."""
    found = {
        (row["workload"], row["mode"])
        for document in documents.values()
        for row in measured(document)
        if row["tree"] == PATCHED
    }
    return [f"{workload} in {mode}" for mode in MODES for workload in MEASURED if (workload, mode) not in found]


def _tuning(documents: Documents) -> str:
    """What the longest first call under autotuning took: why it is not measured everywhere."""
    calls = [
        (row["warm_up"]["ms"][0] / 1e3, row)
        for document in documents.values()
        for row in measured(document)
        if row["mode"] == "max-autotune"
    ]
    if not calls:
        return ""
    seconds, row = max(calls, key=lambda call: call[0])
    return f"The first call of {title(row)} on {row['workload']} took {seconds:.0f} s, nearly all of it tuning."


def headline(documents: Documents) -> str:
    """The small table that the README embeds."""
    rows = []
    for number, document in enumerate(documents.values()):
        rows += [{**row, "group": f"{number}.{row['group']}"} for row in measured(document)]
    workloads, modes = list(dict.fromkeys((*MEASURED, *WORKLOADS))), ["eager", *MODES]
    plain = (UPSTREAM, PATCHED)
    rows.sort(key=lambda row: (workloads.index(row["workload"]), row["tree"] not in plain, modes.index(row["mode"])))
    machines = dict.fromkeys(
        f"{document['machine'].get('gpu', 'CPU')}, torch {document['machine'].get('torch', '-')}"
        for document in documents.values()
    )
    note = (
        f"{'; '.join(machines)}, TF32, random weights of the `base` shape, medians of interleaved repetitions; in "
        "brackets 95 % of the bootstrap resamples. Before: the unpatched tree in the same compile mode. "
        "Recompilations: after a warm-up of two forecasts, over several horizons."
    )
    return "\n".join([*headline_table(rows), note, ""])


def render(documents: Documents, plots: Sequence[str] = ()) -> str:
    """The whole page, from documents by file name. Same documents, same text."""
    lines = opening(
        "The `graph-breaks` profile on a GPU",
        "Ratios are medians, baseline over row: above 1 is faster; in brackets 95 % of the bootstrap resamples.",
    )
    missing = not_measured(documents)
    if missing:
        lines += [f"Not measured: {'; '.join(missing)}. {_tuning(documents)}".rstrip(), ""]
    lines += pictures(plots)
    for name, document in documents.items():
        rows = measured(document)
        lines += [f"## {name}", "", *_about(document)]
        slow = slower_rows(document)
        verdict = ", ".join(f"{row['workload']} {title(row)}" for row in slow) if slow else "none"
        lines += [f"Rows slower than the same mode unpatched, beyond the spread: {verdict}.", ""]
        for workload in dict.fromkeys(row["workload"] for row in rows):
            shape = WORKLOADS[workload]
            here = [row for row in rows if row["workload"] == workload]
            lines += [
                f"### {workload}",
                "",
                f"{shape.context} x {shape.variates} context, horizon {shape.horizon}, {shape.samples} samples in "
                f"batches of {shape.per_batch}; later horizons {', '.join(map(str, shape.later_horizons))}.",
                "",
                *speed_table(here),
                *compile_table(here),
                *difference_table(here),
                *profile_table(here),
            ]
        lines += gaps(document)
        lines += ["### Trees", "", *tree_table(document)]
    return "\n".join(lines).rstrip() + "\n"
