"""Which trees a benchmark compares, and laying them down in a folder: upstream, profiles, and those of an ablation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from toto_patcher.evidence.benchmark_plan import ALONE, UP_TO, UPSTREAM, Tree

if TYPE_CHECKING:
    from toto_patcher.patching.patch import Patch
    from toto_patcher.patching.series import Series
    from toto_patcher.workspace import Workspace

Selection = tuple["Patch", ...]
ORDER = "order.txt"
"""In a folder of trees: their names in the order in which they are measured and shown."""


def candidates(series: Series, profiles: Sequence[str], ids: Sequence[str]) -> dict[str, Selection]:
    """Name -> patches of what is measured: each profile, and the patches named one by one, together.

    Raises:
        UsageError: there is no such profile or patch.
        ConflictError: two of the patches exclude each other.
    """
    found = {profile: series.select(profile) for profile in profiles}
    if ids:
        found["+".join(dict.fromkeys(series[patch_id].id for patch_id in ids))] = series.select(ids=ids)
    return found


def ablation(series: Series, measured: dict[str, Selection]) -> dict[str, Selection]:
    """Each patch of the candidates alone, with what it requires; and for each candidate its patches up to each one.

    A selection that is measured already is not made again.
    """
    found: dict[str, Selection] = {}
    seen = {tuple(patch.id for patch in selection) for selection in measured.values()}
    for selection in measured.values():
        ids = [patch.id for patch in selection]
        wanted = [(f"{ALONE}{one}", [one]) for one in ids]
        wanted += [(f"{UP_TO}{one}", ids[: place + 1]) for place, one in enumerate(ids)]
        for name, chosen in wanted:
            made = series.select(ids=chosen)
            key = tuple(patch.id for patch in made)
            if key not in seen:
                seen.add(key)
                found[name] = made
    return found


def lay_down(workspace: Workspace, selections: dict[str, Selection], folder: Path) -> list[Tree]:
    """Writes upstream's original sources and each selection into a folder of its own; the checkout is only read.

    Raises:
        RefusedError: a selection cannot be applied to the checkout.
    """
    from toto_patcher import workspace as ws
    from toto_patcher.patching.checkout import Checkout

    checkout = Checkout.open(workspace.root)
    plans = {name: ws.plan(workspace, selection, None) for name, selection in selections.items()}
    trees = [Tree(UPSTREAM, folder / UPSTREAM)]
    ws.lay_down(checkout, workspace.originals(), trees[0].path)
    for name, plan in plans.items():
        tree = Tree(name, folder / name, patches=plan.patches)
        ws.lay_down(checkout, {change.path: change.after for change in plan.changes}, tree.path)
        trees.append(tree)
    (folder / ORDER).write_text("".join(f"{tree.name}\n" for tree in trees), encoding="utf-8")
    return trees
