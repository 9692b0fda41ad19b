"""Measures one group: children that live at the same time and take turns."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from toto_patcher.evidence.benchmark_child import Child, ask_all
from toto_patcher.evidence.benchmark_plan import UPSTREAM, Group, Job
from toto_patcher.evidence.benchmark_settings import Settings, pace

PROFILED_MODE = "reduce-overhead"
Row = dict[str, Any]
Step = Callable[[str], None]


def steps(group: Group, settings: Settings) -> int:
    """How many steps of progress a group reports at most."""
    workloads = len({job.workload for job in group.jobs})
    return 2 * len(group.jobs) + workloads * (settings.turns + 1) + len(_second_starts(group.jobs, settings))


class GroupRun:
    """One group being measured.

    Args:
        environment: variables for the children.
        folder: for their logs and outputs.
        number: of the group.
        document: takes rows, and what the children say about machine and software.
        step: called after each step of the work, with what was done.
        begin: called before each, with what begins.
    """

    def __init__(
        self,
        group: Group,
        settings: Settings,
        environment: Mapping[str, str],
        folder: Path,
        number: int,
        document: dict[str, Any],
        step: Step,
        begin: Step,
    ) -> None:
        self._group, self._settings, self._environment = group, settings, environment
        self._folder, self._document, self._step, self._begin = folder, document, step, begin
        self._rows = {job: _row(job, number) for job in group.jobs}
        self._decodes: dict[Job, bool] = {}

    def measure(self) -> None:
        """Runs everything; a child that fails leaves a row that says so."""
        again: list[Child] = []
        children = self._start(self._group.jobs, "log")
        try:
            self._begin("loading the model in each row")
            for child, answer in zip(children, ask_all(children, "hello"), strict=True):
                self._document["machine"].update(answer.get("software", {}))
                self._document["settings"].update(answer.get("limits", {}))
                self._decodes[child.job] = answer.get("decodes", False)
            self._warm_up(children)
            for workload in dict.fromkeys(job.workload for job in self._group.jobs):
                self._take_turns([child for child in children if child.job.workload == workload])
            again = self._start(self._second_starts(), "again.log")  # they import while the others compile
            self._look(children)
            for workload in dict.fromkeys(job.workload for job in self._group.jobs):
                self._compare_outputs([child for child in children if child.job.workload == workload])
            for child in children:
                self._rows[child.job]["failure"] = child.failure
            for child in children:
                child.close()
            self._time_second_starts(again)
        finally:
            for child in [*children, *again]:
                child.close()
        self._document["rows"] += self._rows.values()

    def _start(self, jobs: Sequence[Job], suffix: str) -> list[Child]:
        settings = {**self._settings.worker(), "release": self._group.release}
        return [
            Child(job, settings, self._environment, self._folder / f"{index}.{suffix}")
            for index, job in enumerate(jobs)
        ]

    def _warm_up(self, children: Sequence[Child]) -> None:
        limit = self._settings.warm_up_limit
        until = None if limit is None else time.monotonic() + limit
        for wave in self._group.waves:
            members = [child for child in children if child.job in wave]
            start = time.monotonic()
            self._begin(f"warming up {', '.join(child.job.label for child in members)}")
            for child in members:
                once = self._settings.budget is not None and child.job.mode is None
                child.send("warm_up", forecasts=1 if once else self._settings.warm_up)
            for child in members:
                answer = child.receive(None if until is None else until - time.monotonic())
                waited = round(time.monotonic() - start, 1)
                self._rows[child.job].update(warm_up=answer, compiled_beside=len(members) - 1, waited_s=waited)
                self._step(f"warmed up {child.job.label}: {_told(child, answer)}")

    def _take_turns(self, children: Sequence[Child]) -> None:
        last = [self._rows[child.job]["warm_up"].get("ms", [None])[-1] for child in children]
        found = pace(self._settings, last, [child.job.tree.ablation for child in children])
        for child, (_, timed) in zip(children, found.repetitions, strict=True):
            self._rows[child.job]["timed_per_turn"] = timed
        for turn in range(found.turns):
            for child, (untimed, timed) in zip(children, found.repetitions, strict=True):
                self._begin(f"timing {child.job.label}, turn {turn + 1} of {found.turns}")
                answer = child.ask("repeat", repetitions=timed, untimed=untimed)
                self._rows[child.job]["ms"] += answer.get("ms", [])
            self._step(f"timed {children[0].job.workload}, turn {turn + 1} of {found.turns}")

    def _look(self, children: Sequence[Child]) -> None:
        """What is not timed: memory, later horizons, kernels, a profile, and what was compiled up to here."""
        self._begin("looking at memory and later horizons")
        for child in children:
            self._rows[child.job]["memory"] = child.ask("memory")
        compiled = [child for child in children if child.job.mode is not None]
        for child, answer in zip(compiled, self._ask_each(compiled, "variations"), strict=True):
            self._rows[child.job]["variations"] = answer
        if self._settings.kernels:
            ask_all(children, "start_tracing")
        for child in children:
            row = self._rows[child.job]
            self._begin(f"looking at {child.job.label}")
            if self._settings.kernels:
                row["kernels"] = child.ask("kernels")
            if self._settings.profile and self._profiled(child.job):
                row["profile"] = child.ask("profile")
            row["totals"] = child.ask("counters")
            if self._decodes.get(child.job):
                row["checks"] = child.ask("checks")
            self._step(f"looked at {child.job.label}: {child.failure or 'ok'}")

    def _ask_each(self, children: Sequence[Child], action: str, **arguments: Any) -> list[dict[str, Any]]:
        """Asks for something that may compile: all at once, but for those that are too large side by side."""
        one_by_one = [
            child
            for child in children
            if self._settings.device == "cpu" or (self._group.release and not self._decodes[child.job])
        ]
        found = {child.job: child.ask(action, **arguments) for child in one_by_one}
        others = [child for child in children if child not in one_by_one]
        found |= {child.job: answer for child, answer in zip(others, ask_all(others, action, **arguments), strict=True)}
        return [found[child.job] for child in children]

    def _profiled(self, job: Job) -> bool:
        """One mode tells where the time goes; upstream eager is profiled beside it."""
        if job.tree.ablation:
            return False
        if job.mode is None:
            return job.tree.name == UPSTREAM and any(other.mode == PROFILED_MODE for other in self._group.jobs)
        return job.mode == PROFILED_MODE and job.tree.eager

    def _compare_outputs(self, children: Sequence[Child]) -> None:
        """Compares outputs with those of the first child of the workload, which is upstream eager."""
        self._begin(f"comparing outputs of {children[0].job.workload}")
        reference = self._folder / f"{children[0].job.workload}.pt"
        draws = self._settings.draws if any(self._decodes[child.job] for child in children) else 1
        children[0].ask("save_outputs", path=str(reference), draws=draws)
        if reference.exists():
            answers = self._ask_each(children[1:], "compare_outputs", path=str(reference))
            for child, answer in zip(children[1:], answers, strict=True):
                self._rows[child.job]["outputs"] = answer
        self._step(f"compared outputs of {children[0].job.workload}")

    def _second_starts(self) -> list[Job]:
        return [job for job in _second_starts(self._group.jobs, self._settings) if self._rows[job]["ms"]]

    def _time_second_starts(self, children: Sequence[Child]) -> None:
        """A second process of each row, on the caches of the first: seconds to the end of its second forecast.

        Imports and building the model are not counted. While one is timed, the others sleep.
        """
        ask_all(children, "hello")
        for child in children:
            self._begin(f"starting again {child.job.label}")
            answer = child.ask("warm_up", forecasts=2)
            row = self._rows[child.job]
            if child.failure is None:
                row.update(warm_start_s=sum(answer["ms"]) / 1e3, warm_start_ms=answer["ms"])
            else:
                row["failure"] = row["failure"] or f"second start: {child.failure}"
            self._step(f"started again {child.job.label}: {_told(child, answer)}")
            child.close()  # and with it goes its memory


def _second_starts(jobs: Sequence[Job], settings: Settings) -> list[Job]:
    if settings.warm_starts == "none":
        return []
    return [
        job for job in jobs if job.mode is not None and (settings.warm_starts == "all" or job.tree.name != UPSTREAM)
    ]


def _told(child: Child, answer: Mapping[str, Any]) -> str:
    return child.failure or ", ".join(f"{each:.0f} ms" for each in answer["ms"])


def _row(job: Job, group: int) -> Row:
    return {"workload": job.workload, "tree": job.tree.name, "mode": job.mode or "eager", "group": group, "ms": []}
