"""Which children a benchmark starts, which of them live together, and in which order they compile. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from toto_patcher.evidence.workloads import WORKLOADS

UPSTREAM = "upstream"
PATCHED = "patched"
LIST_INDEX = "list-index"
LIST_INDEX_PATCHED = "list-index-patched"
BASELINES = {PATCHED: UPSTREAM, LIST_INDEX_PATCHED: LIST_INDEX}
"""Which tree a tree is compared with, in the same compile mode."""

TUNED = "max-autotune"
ALONE, UP_TO = "only-", "upto-"
ABLATION = (ALONE, UP_TO)
"""How the trees of an ablation are called: one patch alone; the profile's patches in order up to this one."""

_TREE = re.compile(r"(?P<name>[^=]+)=(?P<path>[^@]+)(@(?P<workloads>.+))?")


@dataclass(frozen=True)
class Tree:
    """A checkout to measure.

    Attributes:
        name: how tables call it.
        path: the folder that holds the package ``toto``.
        workloads: the only workloads to run it on; empty for all.
        eager: also run it uncompiled.
        modes: the only compile modes to run it in; ``None`` for all.
        patches: what is known to be applied to it, in order.
    """

    name: str
    path: Path
    workloads: tuple[str, ...] = ()
    eager: bool = True
    modes: tuple[str, ...] | None = None
    patches: tuple[str, ...] = ()

    @property
    def ablation(self) -> bool:
        """One of the trees that tell what each patch is worth; it is measured with fewer repetitions."""
        return self.name.startswith(ABLATION)

    @classmethod
    def parse(cls, text: str, *, eager: bool = True) -> Tree:
        """Reads ``NAME=FOLDER`` or ``NAME=FOLDER@WORKLOAD,...``.

        Raises:
            ValueError: the text has another form.
        """
        found = _TREE.fullmatch(text)
        if not found:
            raise ValueError(f"expected NAME=FOLDER[@WORKLOAD,...], got {text!r}")
        only = tuple(found["workloads"].split(",")) if found["workloads"] else ()
        return cls(found["name"], Path(found["path"]), only, eager)


@dataclass(frozen=True)
class Job:
    """One child process: a tree, a workload, and a compile mode (``None`` is eager)."""

    tree: Tree
    workload: str
    mode: str | None

    @property
    def label(self) -> str:
        """Name for progress lines."""
        return f"{self.workload}/{self.tree.name}/{self.mode or 'eager'}"


@dataclass(frozen=True)
class Group:
    """Children that live at the same time; ratios are formed within a group only.

    Attributes:
        waves: children of one wave compile together; one wave follows the other.
        release: children hand cached device memory back after every turn, because they do not fit side by side.
    """

    waves: tuple[tuple[Job, ...], ...]
    release: bool

    @property
    def jobs(self) -> tuple[Job, ...]:
        """All children in the order of their turns."""
        return tuple(job for wave in self.waves for job in wave)


def plan_groups(
    trees: Sequence[Tree], workloads: Sequence[str], modes: Sequence[str], *, serial: bool = False
) -> list[Group]:
    """Small workloads share one group; each large one gets a group, which compiles one mode after the other.

    Autotuning measures kernels, and takes minutes: it comes last, in a group per workload, one child at a time and
    baselines first, so that a tree compared with them finds the tuned choices in the shared cache.

    Args:
        serial: a group per workload, in which children warm up one at a time: for a few cores.
    """
    plain = [mode for mode in modes if mode != TUNED]
    together = [name for name in workloads if not WORKLOADS[name].large]
    alone = [[name] for name in (workloads if serial else [name for name in workloads if WORKLOADS[name].large])]
    groups = []
    if plain or TUNED not in modes:
        for names in alone if serial else [together, *alone]:
            groups.append(_group(_jobs(trees, names, plain), release=any(WORKLOADS[name].large for name in names)))
    if TUNED in modes:
        groups += [_group(_jobs(trees, [name], [TUNED]), release=WORKLOADS[name].large) for name in workloads]
    if serial:
        groups = [replace(group, waves=tuple((job,) for job in group.jobs)) for group in groups]
    return [group for group in groups if group.jobs]


def _jobs(trees: Sequence[Tree], workloads: Sequence[str], modes: Sequence[str]) -> list[Job]:
    jobs = []
    for workload in workloads:
        fitting = [tree for tree in trees if not tree.workloads or workload in tree.workloads]
        jobs += [Job(tree, workload, None) for tree in fitting if tree.eager]
        for mode in modes:
            jobs += [Job(tree, workload, mode) for tree in fitting if tree.modes is None or mode in tree.modes]
    return jobs


def _group(jobs: Sequence[Job], *, release: bool) -> Group:
    eager = [job for job in jobs if job.mode is None]
    plain = [job for job in jobs if job.mode is not None and job.mode != TUNED]
    tuned = sorted((job for job in jobs if job.mode == TUNED), key=lambda job: job.tree.name in BASELINES)
    waves = [eager + plain]
    if release:
        waves = [
            *([job] for job in eager),
            *([job for job in plain if job.mode == mode] for mode in dict.fromkeys(j.mode for j in plain)),
        ]
    waves += [[job] for job in tuned]
    return Group(tuple(tuple(wave) for wave in waves if wave), release)
