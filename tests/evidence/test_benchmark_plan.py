from pathlib import Path

import pytest

from toto_patcher.evidence.benchmark_plan import Group, Tree, plan_groups

UPSTREAM, PATCHED = Tree("upstream", Path("a")), Tree("patched", Path("b"))
LIST = Tree("list-index", Path("c"), ("long-horizon",), eager=False)


def labels(group: Group) -> list[list[str]]:
    return [[job.label for job in wave] for wave in group.waves]


def test_small_workloads_of_all_plain_modes_live_and_compile_together() -> None:
    (group,) = plan_groups([UPSTREAM, PATCHED], ["trading", "long-horizon"], ["default", "reduce-overhead"])
    assert len(group.waves) == 1 and not group.release
    assert len(group.jobs) == 2 * 2 * 3
    assert {job.mode for job in group.jobs} == {None, "default", "reduce-overhead"}


def test_a_large_workload_gets_a_group_of_its_own_that_warms_up_one_mode_at_a_time() -> None:
    small, large = plan_groups([UPSTREAM, PATCHED], ["trading", "observability"], ["default", "reduce-overhead"])
    assert (small.release, large.release) == (False, True)
    assert {job.workload for job in small.jobs} == {"trading"}
    assert labels(large) == [
        ["observability/upstream/eager"],
        ["observability/patched/eager"],
        ["observability/upstream/default", "observability/patched/default"],
        ["observability/upstream/reduce-overhead", "observability/patched/reduce-overhead"],
    ]


def test_on_a_few_cores_every_workload_has_its_group_and_children_warm_up_one_at_a_time() -> None:
    groups = plan_groups([UPSTREAM, PATCHED], ["trading", "long-horizon"], ["default"], serial=True)
    assert [labels(group) for group in groups] == [
        [[f"{workload}/{name}"] for name in ("upstream/eager", "patched/eager", "upstream/default", "patched/default")]
        for workload in ("trading", "long-horizon")
    ]


def test_a_tree_may_run_uncompiled_only() -> None:
    only = Tree("only-a", Path("d"), modes=())
    (group,) = plan_groups([UPSTREAM, only], ["trading"], ["default"])
    assert [job.label for job in group.jobs if job.tree is only] == ["trading/only-a/eager"]
    (eager,) = plan_groups([UPSTREAM, only], ["trading"], [])
    assert [job.mode for job in eager.jobs] == [None, None]


def test_autotuning_comes_last_one_child_at_a_time_and_baselines_first() -> None:
    groups = plan_groups([PATCHED, UPSTREAM, LIST], ["trading", "long-horizon"], ["max-autotune", "default"])
    assert {job.mode for job in groups[0].jobs} == {None, "default"}
    assert labels(groups[1])[1:] == [["trading/upstream/max-autotune"], ["trading/patched/max-autotune"]]
    assert labels(groups[2])[1:] == [
        ["long-horizon/upstream/max-autotune"],
        ["long-horizon/list-index/max-autotune"],
        ["long-horizon/patched/max-autotune"],
    ]


def test_a_variation_runs_compiled_on_its_workloads_only() -> None:
    (group,) = plan_groups([UPSTREAM, LIST], ["trading", "long-horizon"], ["default"])
    assert [job.label for job in group.jobs if job.tree is LIST] == ["long-horizon/list-index/default"]


def test_a_tree_is_read_from_the_command_line() -> None:
    assert Tree.parse("upstream=some/dir") == Tree("upstream", Path("some/dir"))
    assert Tree.parse("x=dir@trading,smoke", eager=False) == Tree("x", Path("dir"), ("trading", "smoke"), eager=False)
    with pytest.raises(ValueError, match="NAME=FOLDER"):
        Tree.parse("some/dir")
