"""The files that patches add to a checkout: a package beside the file that defines a class."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path, PurePosixPath

from toto_patcher.errors import DriftError, RefusedError, UnknownSourceError
from toto_patcher.patching.checkout import Checkout, Definition
from toto_patcher.patching.notice import ADDED_MARK
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.syntax import parse_syntax


def package_files(patch: Patch, folder: str, target: Definition) -> dict[PurePosixPath, bytes]:
    """The files of a patch's package, each saying where it comes from, and their places for one target."""
    sources = sorted((patch.folder / folder).glob("*.py"))
    return {target.path.parent / folder / source.name: _header(patch) + source.read_bytes() for source in sources}


def _header(patch: Patch) -> bytes:
    return f"{ADDED_MARK}{patch.id}).\n# `toto-patch revert` removes this file.\n".encode()


def obstacles(
    original: Checkout, patch: Patch, folder: str, target: Definition, recorded: Collection[PurePosixPath]
) -> Iterator[RefusedError]:
    """Why the package cannot be put beside the file that defines a class.

    Args:
        original: the checkout without what patches added.
        patch: whose package it is.
        folder: its name.
        target: the class.
        recorded: the files that are known to be from patches.
    """
    source = original.read(target.path)
    if not _is_in_package(original, target.path, source):
        message = f"{patch.id}: the file belongs to no package, so it cannot import what the patch puts beside it"
        hint = "Put an __init__.py into its folder and import it through the folder's name."
        yield UnknownSourceError(message, path=target.path, line=target.line, hint=hint)
    module = target.path.parent / f"{folder}.py"
    if module in original.sources:
        message = f"{patch.id}: the module has the name of the package that the patch puts beside it"
        yield UnknownSourceError(message, path=module, line=1, hint="Rename the module.")
    place = target.path.parent / folder
    if not any(path.parent == place for path in recorded):
        yield from _occupied(original.root, place)


def _is_in_package(original: Checkout, path: PurePosixPath, source: bytes) -> bool:
    """Whether relative imports work in a file: it has some, or its folder is a package."""
    if path.parent / "__init__.py" in original.sources:
        return True
    tree = parse_syntax(source, path)
    return any(isinstance(node, ast.ImportFrom) and node.level for node in tree.body)


def _occupied(root: Path, place: PurePosixPath) -> Iterator[RefusedError]:
    """Anything in the package's place that is not known to be from a patch. Links are left to the transaction."""
    folder = root / place
    if folder.is_symlink() or not folder.is_dir():
        return
    names = sorted(entry.name for entry in folder.iterdir() if entry.name != "__pycache__")
    if not names:
        return
    ours = [name for name in names if _is_ours(folder / name)]
    message = f"exists already, with {names[0]} in it, and is not from toto-patch"
    hint = "Move the folder away, then run it again."
    if ours:
        message = f"holds {ours[0]}, which was added by toto-patch, but there is no record of it"
        hint = "Remove the folder (or run `toto-patch vendor --force`), then apply again."
    yield DriftError(message, path=place, hint=hint)


def _is_ours(path: Path) -> bool:
    return path.is_file() and path.read_bytes().startswith(ADDED_MARK.encode())
