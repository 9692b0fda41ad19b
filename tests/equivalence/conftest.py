"""Pairs of trees: a release as it is, and the same release patched."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.equivalence.mutations import Fault, plant
from toto_patcher.patching import plan, series
from toto_patcher.patching.checkout import Checkout

Pair = tuple[Path, Path]


@pytest.fixture(scope="session")
def pair(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """``pair(version, ...)``: the original tree and one with a profile or with some patches. Read-only."""
    made: dict[tuple[str, str, tuple[str, ...]], Pair] = {}

    def make(version: str, profile: str = "graph-breaks", ids: tuple[str, ...] = ()) -> Pair:
        if (version, profile, ids) not in made:
            original, patched = toto_release(version), tmp_path_factory.mktemp(f"patched-{version}")
            copy_model(original, patched)
            selection = series.load().select(ids=ids) if ids else series.load().select(profile=profile)
            for change in plan.plan_selection(Checkout.open(patched), selection, pristine={}).changes:
                assert change.after is not None
                (patched / change.path).parent.mkdir(exist_ok=True)
                (patched / change.path).write_bytes(change.after)
            made[(version, profile, ids)] = (original, patched)
        return made[(version, profile, ids)]

    return make


def copy_model(source: Path, target: Path) -> Path:
    """Copies a tree with plain permissions, without bytecode."""
    shutil.copytree(
        source,
        target,
        dirs_exist_ok=True,
        copy_function=shutil.copyfile,
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    for path in target.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return target


def planted(fault: Fault, patched: Path, target: Path) -> Path:
    """A copy of a patched tree with one fault in it."""
    tree = copy_model(patched, target)
    if fault.file:
        (path,) = tree.glob(f"toto/inference/static_decoder/{fault.file}")
    else:
        (place,) = Checkout.open(tree).definitions(fault.class_name)
        path = tree / place.path
    path.write_text(plant(fault, path.read_text(encoding="utf-8")), encoding="utf-8")
    return tree
