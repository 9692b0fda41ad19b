"""The vendored package as a whole: the files that no patch touches, and what Python would run in a source's place."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toto_patcher.errors import StorageError
from toto_patcher.patching.change import Plan, fingerprint
from toto_patcher.patching.files.layout import MAX_FILE_BYTES
from toto_patcher.patching.record_rules import compared_path

_BYTECODE = (".pyc", ".pyo")
_UNCHECKED = 0b01  # the second word of bytecode: bound to its source by a hash, which Python is told not to check


@dataclass(frozen=True)
class Shadow:
    """Something that Python runs in place of a source, or may run without looking at the source.

    Attributes:
        path: what it is, relative to the root.
        why: what Python does with it, as a clause.
    """

    path: PurePosixPath
    why: str


def package_folders(root: Path, files: Iterable[PurePosixPath]) -> tuple[PurePosixPath, ...]:
    """The outermost packages that hold these files; a file in no package counts with its own folder."""
    found = set()
    for file in files:
        folders = [folder for folder in file.parents if (root / folder / "__init__.py").is_file()]
        found.add(folders[-1] if folders else file.parent)
    return tuple(folder for folder in sorted(found) if not any(other in folder.parents for other in found))


def other_files(root: Path, touched: Iterable[PurePosixPath]) -> dict[str, str]:
    """Fingerprints of the package's files but for those that patches touch.

    Hidden files, bytecode and what is no plain file are left out, and what is too large to be source.

    Raises:
        StorageError: the operating system refused.
    """
    own = {str(path) for path in touched}
    found = {}
    try:
        for path in _walk(root, package_folders(root, map(PurePosixPath, own))):
            name = str(path)
            if name not in own and compared_path(name):
                found[name] = fingerprint((root / path).read_bytes())
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=error.filename) from error
    return dict(sorted(found.items()))


def other_files_after(plan: Plan) -> dict[str, str]:
    """As ``other_files``, once a plan is done: files that it gives back their originals are among the others then."""
    given_back = {
        str(change.path): fingerprint(change.after)
        for change in plan.changes
        if change.after is not None and change.after == change.pristine
    }
    return dict(sorted({**other_files(plan.root, [change.path for change in plan.changes]), **given_back}.items()))


def _walk(root: Path, folders: Iterable[PurePosixPath]) -> Iterator[PurePosixPath]:
    for top in folders:
        for current, subfolders, names in os.walk(root / top, onerror=_raise):
            subfolders[:] = sorted(name for name in subfolders if name != "__pycache__" and not name.startswith("."))
            here = PurePosixPath(Path(current).relative_to(root).as_posix())
            for name in sorted(names):
                if name.startswith(".") or name.endswith(_BYTECODE):
                    continue
                status = os.lstat(Path(current, name))
                if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_FILE_BYTES:
                    yield here / name


def _raise(error: OSError) -> None:
    raise error


def shadows(root: Path, sources: Iterable[PurePosixPath]) -> list[Shadow]:
    """What Python would run in place of these sources: packages and extension modules beside them, bytecode.

    Bytecode that Python checks against its source by time and size is not listed: patches remove that of the files
    they write.

    Raises:
        StorageError: the operating system refused.
    """
    found: list[Shadow] = []
    try:
        for source in sources:
            folder = root / source.parent
            if source.stem != "__init__":
                found += _modules_that_win(source, folder)
            found += _unchecked_bytecode(source, folder / "__pycache__")
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=error.filename) from error
    return found


def _modules_that_win(source: PurePosixPath, folder: Path) -> Iterator[Shadow]:
    package = folder / source.stem
    if package.is_dir():
        inits = [name for name in _names(package) if name.partition(".")[0] == "__init__"]
        if any(name.endswith((".py", ".pyc", ".so")) for name in inits):
            why = f"a package of this name is imported in place of {source.name}"
            yield Shadow(source.parent / source.stem, why)
    for name in _names(folder):
        if name.startswith(f"{source.stem}.") and name.endswith(".so"):
            yield Shadow(source.parent / name, f"an extension module is imported in place of {source.name}")


def _unchecked_bytecode(source: PurePosixPath, cache: Path) -> Iterator[Shadow]:
    if not cache.is_dir():  # a link counts: Python follows it
        return
    for name in _names(cache):
        if name.startswith(f"{source.stem}.") and name.endswith(".pyc"):
            with (cache / name).open("rb") as stream:
                head = stream.read(8)
            if len(head) == 8 and int.from_bytes(head[4:], "little") & 0b11 == _UNCHECKED:
                why = f"Python runs this bytecode without checking it against {source.name}"
                yield Shadow(source.parent / "__pycache__" / name, why)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def edits(recorded: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """What became of the package's other files since they were recorded: path -> ``edited``, ``added``, ``gone``."""
    changed = [path for path in recorded if present.get(path) != recorded[path]]
    kinds = {path: "edited" if path in present else "gone" for path in changed}
    return dict(sorted({**kinds, **{path: "added" for path in present if path not in recorded}}.items()))
