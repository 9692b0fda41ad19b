"""The page on the profile ``full-graph``: against upstream eager, and against upstream's best compile mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from toto_patcher.evidence import full_graph_tables as tables
from toto_patcher.evidence.benchmark_plan import ABLATION, UPSTREAM
from toto_patcher.evidence.benchmark_rows import measured
from toto_patcher.evidence.goal_tables import goal_table, headline_table
from toto_patcher.evidence.page_parts import Documents, gaps, opening, pictures, rounds
from toto_patcher.evidence.workloads import MANNERS, WORKLOADS


def machine(document: dict[str, Any]) -> str:
    """The device and torch, in a few words."""
    found, settings = document["machine"], document["settings"]
    place = found.get("gpu") or f"CPU, {settings['threads']} threads"
    return f"{place}, torch {found.get('torch', '-')}, {settings['precision']}"


def headline(documents: Documents) -> str:
    """The small table that the README embeds."""
    machines = "; ".join(dict.fromkeys(machine(document) for document in documents.values()))
    shapes = ", ".join(dict.fromkeys(f"`{document['settings']['shape']}`" for document in documents.values()))
    note = (
        f"{machines}; random weights of the {shapes} shape, medians of interleaved repetitions of one run; in brackets "
        "95 % of the bootstrap resamples. Peak memory: allocated, as a share of upstream eager's. Second process: from "
        "after its imports, the compiler's too, to the end of its second forecast, on the caches of the first."
    )
    return "\n".join([*headline_table(documents), note, ""])


def render(documents: Documents, plots: Sequence[str] = ()) -> str:
    """The whole page, from documents by file name. Same documents, same text."""
    lines = opening(
        "The `full-graph` profile",
        "Ratios are medians, baseline over row: above 1 is faster; in brackets 95 % of the bootstrap resamples. A row "
        "with fewer",
        "repetitions is compared turn by turn. Upstream's best mode is the one that is fastest on the workload in the "
        "same run.",
    )
    lines += pictures(plots)
    for name, document in documents.items():
        lines += _section(name, document)
    return "\n".join(lines).rstrip() + "\n"


def _section(name: str, document: dict[str, Any]) -> list[str]:
    rows = measured(document)
    lines = [f"## {name}", "", *_about(document)]
    if goals := goal_table(document):
        lines += ["### Goals", "", *goals]
    for workload in dict.fromkeys(row["workload"] for row in rows):
        shape = WORKLOADS[workload]
        here = [row for row in rows if row["workload"] == workload]
        lines += [
            f"### {workload}",
            "",
            f"{shape.context} x {shape.variates} context, horizon {shape.horizon}, {shape.drawn}"
            f"{', ' * bool(shape.manner)}{MANNERS.get(shape.manner, '')}. After the warm-up: horizons "
            f"{', '.join(map(str, shape.later_horizons))}, another series"
            f"{f', {shape.later_samples[0]} samples' if shape.samples else ''}.",
            "",
        ]
        whole = [row for row in here if not row["tree"].startswith(ABLATION)]
        lines += [
            *tables.speed(whole),
            *tables.memory(whole),
            *tables.compilation(whole),
            *tables.variations(whole),
            *tables.outputs(whole),
            *tables.device(whole),
            *tables.checks(whole),
            *tables.floors(document, workload),
        ]
        if len(whole) < len(here):
            lines += ["What each patch is worth:", "", *tables.ablation(here)]
    lines += gaps(document)
    return [*lines, ""] if lines[-1] else lines


def _about(document: dict[str, Any]) -> list[str]:
    found, settings = document["machine"], document["settings"]
    driver = f", driver {found['driver']}" if found.get("driver") else ""
    budget = ""
    if settings.get("budget_s"):
        budget = f" Rows that took longer than {settings['budget_s']:g} s made fewer."
    lines = [
        f"- Machine: {machine(document)}{driver}, {found.get('cpu_cores')} CPU cores, Python {found['python']}, Triton "
        f"{found.get('triton', '-')}.",
        f"- Date: {document['date']}. Model: `{settings['shape']}`, {found.get('parameters', 0):,} random parameters, "
        f"seed {settings['seed']}.",
        rounds(settings) + budget,
        "- First calls compile side by side and share Inductor's cache: they say what order of time compiling takes. "
        "torch._dynamo's",
        f"  limits are its defaults ({settings.get('recompile_limit')} and "
        f"{settings.get('accumulated_recompile_limit')}).",
        f"- Command: `{document['command']}`",
    ]
    for name, tree in document["trees"].items():
        patches = ", ".join(f"`{patch}`" for patch in tree.get("patches", []))
        if name != UPSTREAM and patches:
            lines.append(f"- `{name}`: {patches}.")
    return [*lines, ""]
