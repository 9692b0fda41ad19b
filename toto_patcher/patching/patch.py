"""What a patch is: one frozen declaration per folder under ``patches/``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import libcst as cst

from toto_patcher.patching.shape import Alternatives

Transform = Callable[[cst.Module], cst.Module]
"""Takes the module that defines one target class and returns the changed module.

Raises ``UnknownSourceError`` naming the first unmet precondition and its line. Pure: same module in, same module out.
"""


@dataclass(frozen=True)
class Patch:
    """One named, documented, independently revertible source change.

    Attributes:
        title: one line for ``toto-patch list``.
        why: the docstring of the patch's module: problem, change, what it buys, upstream reference.
        transforms: target class name -> the transform of the module that defines it. The class is looked up by name
            wherever the checkout defines it, so a moved class is found.
        profiles: the profiles that include the patch.
        requires: ids that must be applied too; selecting this patch selects them.
        after: ids that come first when they are selected.
        conflicts: ids that cannot be selected together with this one.
        tested_on: releases of toto-ts that the golden diffs and the tests cover.
        private: attribute names whose meaning the patch changes; a use of one in any other file refuses the patch.
        adds: target class name -> a folder of this patch. Its Python files are written, as a package of that name,
            beside every file that defines the class.
        assumes: ``Class.method`` or ``function`` -> the shapes it may have (``patching.shape``). The patch does not
            change them but relies on what they compute; another shape refuses the patch.
        sealed: class name -> methods that no subclass may override, for the patch takes over their work.
        where_absent: target class name -> what to say of a tree that has no such class and needs none: there the patch
            has nothing to change, and does not keep others from being applied.
        edits: target class name -> number of source edits expected (methods and statements changed or added).
        folder: where the patch lives; its name, with dashes, is the id. Filled in by the loader.
    """

    title: str
    why: str
    transforms: Mapping[str, Transform]
    profiles: tuple[str, ...]
    requires: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    tested_on: tuple[str, ...] = ("0.1.3", "0.1.4", "0.2.0")
    private: tuple[str, ...] = ()
    adds: Mapping[str, str] = field(default_factory=dict)
    assumes: Mapping[str, Alternatives] = field(default_factory=dict)
    sealed: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    where_absent: Mapping[str, str] = field(default_factory=dict)
    edits: Mapping[str, int] = field(default_factory=dict)
    folder: Path = Path()

    @property
    def id(self) -> str:
        """The folder's name with dashes, as on the command line."""
        return self.folder.name.replace("_", "-")

    @property
    def targets(self) -> tuple[str, ...]:
        """The classes this patch changes."""
        return tuple(self.transforms)
