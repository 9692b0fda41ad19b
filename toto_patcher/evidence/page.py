"""Generates the benchmark's page and pictures: ``python -m toto_patcher.evidence.page docs/benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_plan import PATCHED, UPSTREAM
from toto_patcher.evidence.benchmark_rows import measured, slower_rows, title
from toto_patcher.evidence.tables import (
    compile_table,
    difference_table,
    headline_table,
    profile_table,
    speed_table,
    tree_table,
)
from toto_patcher.evidence.workloads import MEASURED, MODES, WORKLOADS

TARGET = "graph-breaks"
Documents = dict[str, dict[str, Any]]


def _about(document: dict[str, Any]) -> list[str]:
    machine, settings = document["machine"], document["settings"]
    gpu = machine.get("gpu", "no GPU")
    limits = f"{settings.get('recompile_limit')} and {settings.get('accumulated_recompile_limit')}"
    return [
        f"- Machine: {gpu}, driver {machine.get('driver', '-')}, {machine.get('cpu_cores')} CPU cores, "
        f"Python {machine['python']}, torch {machine.get('torch', '-')}, Triton {machine.get('triton', '-')}.",
        f"- Date: {document['date']}. Model: `{settings['shape']}`, {machine.get('parameters', 0):,} random "
        f"parameters, seed {settings['seed']}. float32, matmul precision `{settings['matmul_precision']}` (TF32 on the "
        "GPU) for every row.",
        f"- {settings['warm_up_forecasts']} forecasts of warm-up, then {settings['turns']} turns of "
        f"{settings['untimed_per_turn']} untimed and {settings['timed_per_turn']} timed forecasts, round-robin between "
        "live processes; all others sleep while one is timed.",
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
    lines = [
        "# The `graph-breaks` profile on a GPU",
        "",
        "Generated from the JSON beside this page by `python -m toto_patcher.evidence.page docs/benchmarks`;",
        "do not edit.",
        "Ratios are medians, baseline over row: above 1 is faster; in brackets 95 % of the bootstrap resamples.",
        "",
    ]
    missing = not_measured(documents)
    if missing:
        lines += [f"Not measured: {'; '.join(missing)}. {_tuning(documents)}".rstrip(), ""]
    lines += [line for plot in plots for line in (f"![{plot}]({plot})", "")]
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
        failed = [row for row in document["rows"] if row.get("failure")]
        lines += [
            f"- failed: {row['workload']} {title(row)}: {row['failure'].splitlines()[-1][:160]}" for row in failed
        ]
        lines += [f"- left out: {label}" for label in document["left_out"]]
        lines += ["### Trees", "", *tree_table(document)]
    return "\n".join(lines).rstrip() + "\n"


def load(folder: Path) -> Documents:
    """The benchmark documents of a folder by file name, in order."""
    return {path.name: json.loads(path.read_text()) for path in sorted(folder.glob(f"{TARGET}*.json"))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes page, headline and plots; with ``--check`` compares the two texts instead."""
    parser = argparse.ArgumentParser(prog="page", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 if the texts are not what the documents give")
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args(arguments)
    documents = load(options.folder)
    page = options.folder / f"{TARGET}.md"
    plots = [f"{Path(name).stem}.png" for name in documents]
    texts = {page: render(documents, plots), options.folder / f"{TARGET}.headline.md": headline(documents)}
    if options.check:
        stale = [path.name for path, text in texts.items() if not path.is_file() or path.read_text() != text]
        print(f"stale: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in texts.items():
        path.write_text(text)
    if not options.no_plots:
        from toto_patcher.evidence.plots import draw

        for name, plot in zip(documents, plots, strict=True):
            draw(documents[name], options.folder / plot)
    return 0


if __name__ == "__main__":
    sys.exit(main())
