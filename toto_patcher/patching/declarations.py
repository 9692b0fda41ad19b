"""What the patches declare, read from their files without importing them: commands that only look need no libcst."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Collection
from pathlib import Path


def patches_folder() -> Path:
    """Where the patches live: inside the installed package, or beside it in a working copy."""
    package = Path(__file__).parents[1]
    installed = package / "_patches"
    return installed if installed.is_dir() else package.parent / "patches"


@functools.cache
def inserted_methods() -> dict[str, tuple[bytes, ...]]:
    """The methods that each patch inserts, by its id; only where one of them has a name that is nobody else's."""
    found = {}
    for file in sorted(patches_folder().glob("*/inserted.py")):
        for node in ast.parse(file.read_bytes()).body:
            if isinstance(node, ast.ClassDef):
                names = [item.name for item in node.body if isinstance(item, ast.FunctionDef)]
                own = {name for name in names if name[0] == "_" and name[1:2] != "_"}
                if own:
                    found[_id(file)] = tuple(sorted(name.encode() for name in own))
    return found


_PROFILES = re.compile(r"^    profiles=(\([^()]*\)),$", re.MULTILINE)
"""As it stands in each declaration. Parsing them would take every command that only looks a tenth of its time."""


@functools.cache
def declared_profiles() -> dict[str, frozenset[str]]:
    """The profiles and the ids of their patches, read from the declarations without importing them."""
    profiles: dict[str, set[str]] = {}
    for file in sorted(patches_folder().glob("*/patch.py")):
        for names in _PROFILES.findall(file.read_text(encoding="utf-8")):
            for name in ast.literal_eval(names):
                profiles.setdefault(name, set()).add(_id(file))
    return {name: frozenset(ids) for name, ids in profiles.items()}


def profile_of(patches: Collection[str], recorded: str | None = None) -> str | None:
    """The profile that consists of these patches; the recorded name only where it is one of those.

    A name in a record is a label that nobody checked.
    """
    names = [name for name, ids in declared_profiles().items() if ids == frozenset(patches)]
    return recorded if recorded in names else next(iter(names), None)


def _id(file: Path) -> str:
    return file.parent.name.replace("_", "-")
