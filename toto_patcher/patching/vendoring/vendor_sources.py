"""Collects a Toto 1.0 from a git repository or a folder: finds the package ``toto/`` and reads its files."""

from __future__ import annotations

import ast
import errno
import os
import stat
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath

from toto_patcher.errors import RefusedError, StorageError, UnsafePathError, UsageError
from toto_patcher.patching import git_program
from toto_patcher.patching.files.layout import LICENCE_FILES, PACKAGE
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.files.system_errors import storage_error
from toto_patcher.patching.git_program import GitRefusedError, NoGitError
from toto_patcher.patching.vendoring.names import refuse_faults
from toto_patcher.patching.vendoring.wheel import MAX_UNPACKED_BYTES, refuse_unsafe_name

MODEL_CLASSES = frozenset({"TotoBackbone", "TimeWiseMultiheadAttention", "KVCache"})
CACHE_METHODS = frozenset({"append", "reset", "seq_len", "__getitem__"})
_SKIPPED_FOLDERS = frozenset({"__pycache__", ".git", ".hg", ".svn", ".toto-patch", ".venv", "node_modules"})
_SEARCH_DEPTH = 4
_MAX_SOURCE_BYTES = 4 * 1024 * 1024


def check_is_toto(files: Mapping[PurePosixPath, bytes], where: str) -> None:
    """Refuses anything that is not Toto 1.0: its classes must be defined somewhere under ``toto/``.

    Args:
        files: path -> bytes, with the package at ``toto/``.
        where: where the files come from, for the message.

    Raises:
        RefusedError: naming the classes or methods that are missing. (Another package on PyPI is called ``toto``.)
    """
    found: dict[str, frozenset[str]] = {}
    for path, data in files.items():
        if path.suffix == ".py" and path.parts[0] == PACKAGE and any(name.encode() in data for name in MODEL_CLASSES):
            found.update((name, methods) for name, methods in _classes(data) if name in MODEL_CLASSES)
    missing = sorted(MODEL_CLASSES - found.keys())
    if missing:
        raise RefusedError(f"not Toto 1.0: toto/ does not define {', '.join(missing)}", path=where, hint=_WRONG_TOTO)
    lacking = sorted(CACHE_METHODS - found["KVCache"])
    if lacking:
        raise RefusedError(f"not Toto 1.0: its KVCache has no {', '.join(lacking)}", path=where, hint=_WRONG_TOTO)


_WRONG_TOTO = "Toto 1.0 is the distribution toto-ts, github.com/DataDog/toto; PyPI's `toto` is something else"


def _classes(data: bytes) -> Iterable[tuple[str, frozenset[str]]]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            module = ast.parse(data)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # whether a broken file matters is for the planner to say, with its line
    for node in ast.walk(module):
        if isinstance(node, ast.ClassDef):
            members = (item.name for item in node.body if isinstance(item, ast.FunctionDef))
            yield node.name, frozenset(members)


def collect_path(folder: Path) -> dict[PurePosixPath, bytes]:
    """The files to vendor from a folder: its package ``toto/`` (or the folder itself, if that is the package).

    Raises:
        UsageError: no such folder.
        RefusedError: no Toto 1.0 there, more than one, or a patched one.
        UnsafePathError: the package holds a symbolic link or something that is no plain file.
        StorageError: a file cannot be read.
    """
    if not folder.is_dir():
        raise UsageError("no such folder", path=folder, hint="give the folder that holds the package toto/")
    folder = folder.absolute()
    try:
        holders = [holder for holder in _walk_holders(folder) if _looks_like_toto(holder / PACKAGE)]
        if not holders and folder.name == PACKAGE and _looks_like_toto(folder):
            holders = [folder.parent]
        holder = _only_one([PurePosixPath(found.as_posix()) for found in holders], str(folder))
        return _read_tree(Path(holder))
    except OSError as error:
        named = storage_error(error)
        raise StorageError(f"cannot be read: {named.message}", path=folder / (error.filename or "")) from error


def _walk_holders(folder: Path) -> Iterable[Path]:
    """Folders at or below this one that hold a folder ``toto``."""
    for current, folders, _ in os.walk(folder, onerror=_raise_but_for_locked):
        folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS)
        if PACKAGE in folders:
            yield Path(current)
        if len(Path(current).relative_to(folder).parts) >= _SEARCH_DEPTH:
            folders.clear()


def _raise_but_for_locked(error: OSError) -> None:
    """A folder that we may not enter holds no Toto that we could vendor; any other error must not hide one."""
    if error.errno != errno.EACCES:
        raise error


def _looks_like_toto(package: Path) -> bool:
    """Whether a folder defines Toto's classes; links and what is too big for source code are left out here."""
    sources = {}
    with suppress(UnsafePathError), Tree(package) as tree:
        for path, status in _files(tree, PurePosixPath()):
            if path.suffix == ".py" and stat.S_ISREG(status.st_mode) and status.st_size <= _MAX_SOURCE_BYTES:
                sources[PurePosixPath(PACKAGE) / path] = tree.read(path) or b""
    try:
        check_is_toto(sources, "")
    except RefusedError:
        return False
    return True


def _files(tree: Tree, top: PurePosixPath) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
    """Everything below a folder that is no folder and belongs to a package: nothing hidden, no bytecode."""
    rest = [top]
    while rest:
        folder = rest.pop()
        for name in tree.names(folder):
            path = folder / name
            status = tree.status(path)
            if status is None or name.startswith(".") or name in _SKIPPED_FOLDERS or path.suffix in (".pyc", ".pyo"):
                continue
            if stat.S_ISDIR(status.st_mode):
                rest.append(path)
            else:
                yield path, status


def _only_one(holders: list[PurePosixPath], where: str) -> PurePosixPath:
    """The outermost folder that holds a Toto 1.0; two of the same depth are refused."""
    if not holders:
        raise RefusedError("there is no Toto 1.0 package toto/ in it", path=where, hint=_WRONG_TOTO)
    depth = min(len(holder.parts) for holder in holders)
    outermost = sorted(holder for holder in holders if len(holder.parts) == depth)
    if len(outermost) > 1:
        names = ", ".join(str(holder) for holder in outermost)
        raise RefusedError(f"holds several Toto packages: {names}", path=where, hint="name the folder of one of them")
    return outermost[0]


def _read_tree(holder: Path) -> dict[PurePosixPath, bytes]:
    if (holder / ".toto-patch" / "state.json").exists():
        raise RefusedError("this checkout is patched", path=holder, hint="run toto-patch revert there first")
    files: dict[PurePosixPath, bytes] = {}
    total = 0
    with Tree(holder) as tree:
        found = [*_files(tree, PurePosixPath(PACKAGE))]
        licences = [(PurePosixPath(name), tree.status(PurePosixPath(name))) for name in LICENCE_FILES]
        found += [(path, status) for path, status in licences if status is not None]
        refuse_faults(dict(found), str(holder))
        for path, status in found:
            if not stat.S_ISREG(status.st_mode):
                kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "not a plain file"
                raise UnsafePathError(f"is {kind}", path=holder / path, hint=_PLAIN_FILES)
            total += status.st_size
            _refuse_too_big(total, str(holder))
            files[path] = tree.read(path) or b""
    return dict(sorted(files.items()))


_PLAIN_FILES = "put a plain file there, or remove it; vendoring follows no links"


def _refuse_too_big(total: int, where: str) -> None:
    if total > MAX_UNPACKED_BYTES:
        raise RefusedError(
            f"the package is larger than {MAX_UNPACKED_BYTES} bytes",
            path=where,
            hint="move checkpoints and data out of the package",
        )


def collect_git(url: str, rev: str, progress: Callable[[str], None]) -> tuple[dict[PurePosixPath, bytes], str]:
    """The files to vendor from one revision of a git repository, and the full id of the commit.

    Blobs are read from the object database, so line endings and filters of this machine do not change a byte, and
    nothing of the repository is checked out or run.

    Raises:
        UsageError: the revision does not exist, or this machine has no git.
        StorageError: the repository cannot be cloned.
        RefusedError, UnsafePathError: as for a folder; and what git says of a damaged or hostile repository.
    """
    if not url or not rev or url.startswith("-") or rev.startswith("-") or "\0" in url + rev:
        raise UsageError(f"not a repository and a revision: {url!r} at {rev!r}")
    with tempfile.TemporaryDirectory(prefix="toto-patch-") as folder:
        progress(f"cloning {url}")
        clone = Path(folder) / "clone.git"
        try:
            git_program.clone(url, clone)
            commit = _resolve(clone, rev, url)
        except NoGitError as error:
            raise NoGitError("vendoring from git needs git", hint=error.hint) from error
        return _read_commit(clone, commit, f"{url}@{rev}"), commit


def _resolve(clone: Path, rev: str, url: str) -> str:
    """The full id of a revision; one that no branch or tag reaches, of a pull request for example, is fetched."""
    wanted = ("rev-parse", "--verify", "--quiet", "--end-of-options")
    status, told = git_program.ask(clone, *wanted, f"{rev}^{{commit}}", fine=(0, 1, 128))
    if status == 0:
        return told.decode("ascii").strip()
    try:
        git_program.fetch(clone, rev)
        return git_program.ask(clone, *wanted, "FETCH_HEAD^{commit}")[1].decode("ascii").strip()
    except (StorageError, GitRefusedError) as error:
        hint = "give a branch, a tag or a full commit id"
        raise UsageError(f"{url} has no revision {rev}: {error.message}", hint=hint) from error


def _read_commit(clone: Path, commit: str, where: str) -> dict[PurePosixPath, bytes]:
    entries: dict[PurePosixPath, tuple[str, str]] = {}
    sizes: dict[str, int] = {}
    listed = git_program.ask(clone, "ls-tree", "-r", "-l", "-z", "--full-tree", commit)[1]
    for line in listed.split(b"\0"):
        if line:
            meta, _, name = line.partition(b"\t")
            mode, _, blob, size = meta.decode("ascii").split()
            # Names that are not UTF-8 stay as they are, and are refused if they belong to the package.
            entries[PurePosixPath(name.decode("utf-8", "surrogateescape"))] = (mode, blob)
            sizes[blob] = int(size) if size.isdecimal() else 0

    def read(paths: Iterable[PurePosixPath], holder: PurePosixPath) -> dict[PurePosixPath, bytes]:
        chosen = sorted(paths)
        _refuse_too_big(sum(sizes[entries[path][1]] for path in chosen), where)
        blobs = git_program.read_blobs(clone, [entries[path][1] for path in chosen])
        return {path.relative_to(holder): blobs[entries[path][1]] for path in chosen}

    holders = []
    for holder in {parent.parent for path in entries for parent in path.parents if parent.name == PACKAGE}:
        sources = [
            path
            for path, (mode, _) in entries.items()
            if path.suffix == ".py" and path.is_relative_to(holder / PACKAGE) and mode.startswith("100")
        ]
        try:
            check_is_toto(read(sources, holder), where)
            holders.append(holder)
        except RefusedError:
            continue
    holder = _only_one(holders, where)
    wanted = [path for path in entries if path.is_relative_to(holder / PACKAGE)]
    wanted += [holder / name for name in LICENCE_FILES if holder / name in entries]
    refuse_faults({path.relative_to(holder): None for path in wanted}, where)
    for path in wanted:
        refuse_unsafe_name(path.as_posix(), where)
        if not entries[path][0].startswith("100"):
            raise UnsafePathError(f"{path} is a symbolic link or a submodule", path=where, hint=_PLAIN_FILES)
    return dict(sorted(read(wanted, holder).items()))
