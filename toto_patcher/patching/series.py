"""Finds the patches, orders them, and resolves profiles, requirements and conflicts."""

from __future__ import annotations

import graphlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType

from toto_patcher.errors import ConflictError, UsageError
from toto_patcher.patching.declarations import patches_folder
from toto_patcher.patching.patch import Patch

DEFAULT_PROFILE = "graph-breaks"


@dataclass(frozen=True)
class Series:
    """All patches in dependency order."""

    patches: tuple[Patch, ...]

    def __getitem__(self, patch_id: str) -> Patch:
        """The patch of that id.

        Raises:
            UsageError: there is none.
        """
        for patch in self.patches:
            if patch.id == patch_id.replace("_", "-"):
                return patch
        known = ", ".join(patch.id for patch in self.patches)
        raise UsageError(f"there is no patch {patch_id}", hint=f"The patches are: {known}")

    def profiles(self) -> dict[str, tuple[Patch, ...]]:
        """Profile name -> its patches in order."""
        names = dict.fromkeys(name for patch in self.patches for name in patch.profiles)
        return {name: tuple(patch for patch in self.patches if name in patch.profiles) for name in names}

    def select(self, profile: str | None = None, ids: Iterable[str] = ()) -> tuple[Patch, ...]:
        """The patches of a profile, or those named together with what they require, in order.

        Raises:
            UsageError: an unknown id or profile, or both a profile and ids.
            ConflictError: two of the patches exclude each other.
        """
        wanted = [self[patch_id].id for patch_id in ids]
        if profile is not None and wanted:
            raise UsageError(
                "a profile and single patches exclude each other", hint="Use --profile or --patch, not both."
            )
        if not wanted:
            profiles = self.profiles()
            name = profile or DEFAULT_PROFILE
            if name not in profiles:
                raise UsageError(f"there is no profile {name}", hint=f"The profiles are: {', '.join(profiles)}")
            wanted = [patch.id for patch in profiles[name]]
        chosen: set[str] = set()
        while wanted:
            patch = self[wanted.pop()]
            if patch.id not in chosen:
                chosen.add(patch.id)
                wanted += patch.requires
        selection = tuple(patch for patch in self.patches if patch.id in chosen)
        for patch in selection:
            for other in patch.conflicts:
                if other in chosen:
                    raise ConflictError(
                        f"{patch.id} and {other} cannot be applied together", hint="Select one of them."
                    )
        return selection


def load(folder: Path | None = None) -> Series:
    """Loads every patch of a folder.

    Raises:
        ConflictError: a patch names an unknown id, or the order is circular.
    """
    folder = folder or patches_folder()
    declared = {}
    for path in sorted(folder.glob("*/patch.py")):
        patch = replace(_load_module(path).PATCH, folder=path.parent)
        declared[patch.id] = patch
    return Series(tuple(declared[patch_id] for patch_id in _order(declared)))


def _order(declared: dict[str, Patch]) -> list[str]:
    for patch in declared.values():
        for other in (*patch.requires, *patch.after, *patch.conflicts):
            if other not in declared:
                raise ConflictError(f"patch {patch.id} names {other}, which does not exist")
    sorter = graphlib.TopologicalSorter({name: {*patch.requires, *patch.after} for name, patch in declared.items()})
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        raise ConflictError(f"the order of the patches is circular: {' -> '.join(error.args[1])}") from error
    order: list[str] = []
    while sorter.is_active():
        ready = sorted(sorter.get_ready())  # by name among equals, so the order never depends on a hash
        order += ready
        sorter.done(*ready)
    return order


def _load_module(path: Path) -> ModuleType:
    name = f"toto_patcher_series.{path.parent.name}"
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConflictError(f"patch {path.parent.name} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    if sys.flags.optimize < 2:
        spec.loader.exec_module(module)
    else:  # `python -OO` drops docstrings, and a patch's docstring is its documentation
        exec(compile(path.read_bytes(), str(path), "exec", dont_inherit=True, optimize=0), module.__dict__)
    return module
