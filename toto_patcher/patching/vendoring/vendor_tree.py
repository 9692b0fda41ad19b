"""What lies in a destination, and the plan that turns it into another tree. Reads only, and follows no links.

Only the package ``toto/`` and its licence files are looked at: everything else below the root is somebody else's.
"""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from toto_patcher.errors import BackupError, StorageError, UnsafePathError
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files.layout import FOLDER, LICENCE_FILES, PACKAGE, SET_ASIDE, STATE
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.record_rules import check_package_path

Files = Mapping[PurePosixPath, str]
ODD = "<not a plain file>"


@dataclass(frozen=True)
class Found:
    """What lies in the destination.

    Attributes:
        files: the files of the package and its licences -> sha256, or ``ODD`` for what is no plain file. Bytecode is
            left out.
        contents: the bytes of those that are plain.
        repository: the folder that git keeps its own things in, where there is one at the root or in the package.
        others: the names beside the package and its licences.
        patched: patches are in force.
        leftover: a journal was set aside, and is to go with the tree that it was about.
    """

    files: Files = field(default_factory=dict)
    contents: Mapping[PurePosixPath, bytes] = field(default_factory=dict)
    repository: PurePosixPath | None = None
    others: tuple[str, ...] = ()
    patched: bool = False
    leftover: bool = False

    @property
    def package(self) -> dict[PurePosixPath, str]:
        """The files of the package alone."""
        return package(self.files)


def package(files: Files) -> dict[PurePosixPath, str]:
    """The files of the package alone, without the licences."""
    return {path: digest for path, digest in files.items() if path.parts[0] == PACKAGE}


def look(root: Path) -> Found:
    """Looks at a destination; a folder that is missing has no files.

    Raises:
        UnsafePathError: ``toto`` is a link or no folder.
        OSError: something cannot be read.
    """
    if not root.exists():
        return Found()
    with Tree(root) as tree:
        status = tree.status(PurePosixPath(PACKAGE))
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise UnsafePathError("is in the way and no plain folder", path=root / PACKAGE, hint="move it away first")
        files: dict[PurePosixPath, str] = {}
        contents: dict[PurePosixPath, bytes] = {}
        repository = PurePosixPath(".git") if tree.status(PurePosixPath(".git")) is not None else None
        paths = [path for path in map(PurePosixPath, LICENCE_FILES) if tree.status(path) is not None]
        for path in [*paths, *_walk(tree, PurePosixPath(PACKAGE))]:
            if ".git" in path.parts:
                repository = PurePosixPath(*path.parts[: path.parts.index(".git") + 1])
            try:
                data = tree.read(path)
            except UnsafePathError:
                files[path] = ODD
                continue
            if data is not None:
                files[path], contents[path] = fingerprint(data), data
        own = {FOLDER.name, PACKAGE, *LICENCE_FILES}
        others = tuple(name for name in tree.names(PurePosixPath()) if name not in own)
        patched, leftover = (tree.status(path) is not None for path in (STATE, SET_ASIDE))
        return Found(dict(sorted(files.items())), contents, repository, others, patched, leftover)


def _walk(tree: Tree, top: PurePosixPath) -> Iterator[PurePosixPath]:
    """Everything below a folder that is no folder, without bytecode."""
    rest = [top]
    while rest:
        folder = rest.pop()
        for name in tree.names(folder):
            path = folder / name
            status = tree.status(path)
            if status is None or name == "__pycache__" or name.endswith((".pyc", ".pyo")):
                continue
            if stat.S_ISDIR(status.st_mode):
                rest.append(path)
            else:
                yield path


def is_wanted(found: Found, wanted: Files, vendored: Files) -> bool:
    """Whether nothing is left to do: the package and its licences are the wanted ones, and no patch is in force."""
    if found.patched or found.leftover or found.package != package(wanted):
        return False
    licences = {path for path in (*found.files, *wanted) if path.parts[0] != PACKAGE}
    return not any(
        found.files.get(path) != wanted.get(path) and (path in wanted or vendored.get(path) == found.files[path])
        for path in licences
    )


def plan(root: Path, found: Found, wanted: Mapping[PurePosixPath, bytes], vendored: Files) -> Plan:
    """What turns the tree that was found into the wanted one, file by file.

    Args:
        root: the destination.
        found: what lies there.
        wanted: the new tree.
        vendored: what the lock says that vendor wrote; a licence beside the package goes only if it is in there.
    """
    changes = []
    for path in sorted({*wanted, *found.contents}):
        before, after = found.contents.get(path), wanted.get(path)
        if after is None and path.parts[0] != PACKAGE and vendored.get(path) != found.files[path]:
            continue
        if after is None and not may_be_written(path):
            continue
        changes.append(FileChange(path, before, before, after))
    return Plan(root, tuple(change for change in changes if not change.is_noop), ())


def emptied_folders(found: Found, wanted: Mapping[PurePosixPath, bytes]) -> tuple[PurePosixPath, ...]:
    """The folders of the package that hold no file of the new tree but held one of the old; parents first."""
    held = {folder for path in found.files if path.parts[0] == PACKAGE for folder in path.parents}
    used = {folder for path in wanted for folder in path.parents}
    return tuple(sorted(folder for folder in held - used if folder.parts))


def may_be_written(path: PurePosixPath) -> bool:
    """Whether a journal may name a file or a folder: hidden ones, for example, go without one."""
    try:
        return bool(check_package_path(str(path)))
    except ValueError:
        return False


def odd_files(found: Found) -> list[PurePosixPath]:
    """What no journal may name of the package: links, hidden files."""
    inside = [(path, digest) for path, digest in found.files.items() if path.parts[0] == PACKAGE]
    return [path for path, digest in inside if digest == ODD or not may_be_written(path)]


def remove_odd(root: Path, found: Found, folders: tuple[PurePosixPath, ...]) -> None:
    """Removes what no journal may name from the package, and the folders it kept alive: links, hidden files.

    Raises:
        StorageError: the operating system refused.
    """
    odd = odd_files(found)
    if not odd:
        return
    try:
        with Tree(root) as tree:
            for path in odd:
                tree.remove(path)
            for folder in reversed(folders):
                tree.remove_folder(folder)
    except OSError as error:
        named = storage_error(error)
        message = f"{named.message}; the new tree is in place, but for this"
        raise StorageError(message, path=named.path, hint="remove it by hand") from error


def recorded(root: Path) -> dict[PurePosixPath, tuple[str | None, str | None]]:
    """What the record says of each file: sha256 of the original and of what was written. Empty where it is damaged."""
    from toto_patcher.patching.store import Store

    try:
        state = Store(root).state()
    except BackupError:
        return {}
    return {PurePosixPath(file.path): (file.pristine, file.patched) for file in state.files} if state else {}
