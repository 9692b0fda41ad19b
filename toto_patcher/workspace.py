"""A checkout together with what toto-patch recorded about it: what every command starts from. Reads only."""

from __future__ import annotations

import itertools
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher import __version__
from toto_patcher import results as r
from toto_patcher.errors import (
    BackupError,
    DriftError,
    RefusedError,
    RefusedGroup,
    StorageError,
    TotoPatchError,
    refuse_all,
)
from toto_patcher.patching import checkout as checkouts
from toto_patcher.patching import transaction
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files import preflight
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.store import Store
from toto_patcher.patching.transaction import Pending

if TYPE_CHECKING:
    from toto_patcher.patching.notice import Trace
    from toto_patcher.patching.package import Shadow
    from toto_patcher.patching.patch import Patch
    from toto_patcher.patching.state import FileState, State

JOURNAL = PurePosixPath(".toto-patch/journal.json")
RECOVER = "`toto-patch recover` finishes or undoes it."


@dataclass(frozen=True)
class Workspace:
    """One look at a checkout.

    Attributes:
        root: the checkout's folder, absolute.
        state: what is recorded as applied; ``None`` when nothing is.
        pending: what an interrupted run left; ``None`` when nothing.
    """

    root: Path
    state: State | None
    pending: Pending | None

    def files(self) -> tuple[r.FileStatus, ...]:
        """The recorded files, each compared with the disk."""
        return tuple(_compare(self.root, record) for record in (self.state.files if self.state else ()))

    def fingerprints(self) -> dict[PurePosixPath, str | None]:
        """Of the patched files' originals, as recorded; ``None`` for files that patches added."""
        return {PurePosixPath(file.path): file.pristine for file in (self.state.files if self.state else ())}

    def other_edits(self) -> dict[str, str]:
        """What became of the package's files that no patch touches since the last apply, where that was recorded."""
        from toto_patcher.patching.package import edits, other_files

        if self.state is None or self.state.package is None:
            return {}
        return edits(self.state.package, other_files(self.root, self.fingerprints()))

    def shadows(self) -> list[Shadow]:
        """What Python runs in place of the package's sources."""
        from toto_patcher.patching.package import package_folders, shadows

        folders = package_folders(self.root, self.fingerprints())
        tree = checkouts.Checkout.open(self.root)
        return shadows(self.root, [p for p in tree.sources if any(p.is_relative_to(folder) for folder in folders)])

    def refuse_if_interrupted(self) -> None:
        """Refuses to draw conclusions from a tree that may be half written.

        Raises:
            RefusedError: a journal is pending.
        """
        if self.pending:
            raise RefusedError(interruption(self.pending), path=JOURNAL, hint=RECOVER)

    def originals(self) -> Mapping[PurePosixPath, bytes | None]:
        """The original bytes of the files that are patched now, from the backups or, without them, from where
        ``revert`` would take them; ``None`` for a file that patches added.

        Raises:
            RefusedError: an original is found nowhere, or a file was edited since.
        """
        if self.state is None:
            return {}
        from toto_patcher.patching.restore import originals

        found = originals(self.root, self.state, release_bytes=release_bytes)
        added = {PurePosixPath(file.path): None for file in self.state.files if file.pristine is None}
        originals_now = {**added, **{path: original.data for path, original in found.items()}}
        self.require_own_originals(originals_now)
        return originals_now

    def require_own_originals(self, originals: Mapping[PurePosixPath, bytes | None]) -> None:
        """Refuses originals that are not what was patched here: a record may give one file the original of another.

        Those of a pinned release are known. Of any other, the recorded patches must make the recorded bytes, which can
        be told only of what this version of toto-patch wrote.

        Raises:
            BackupError: a file's recorded original is another file's, or none at all.
        """
        from toto_patcher.patching.vendoring.releases import known_release

        state = self.state
        digests = {path: fingerprint(data) for path, data in originals.items() if data is not None}
        if state is None or known_release(digests) is not None or state.tool_version != __version__:
            return
        from toto_patcher.patching.plan import plan_selection

        made: dict[str, str | None] = {}
        with suppress(RefusedError):
            _, selection = select(None, state.patches)
            again = plan_selection(checkouts.Checkout.open(self.root), selection, pristine=originals)
            made = {str(c.path): None if c.after is None else fingerprint(c.after) for c in again.changes}
        wrong = [file.path for file in state.files if made.get(file.path) != file.patched]
        refuse_all(
            [
                BackupError(
                    "the recorded original is not what was patched here: the recorded patches make other bytes of it",
                    path=path,
                    hint="Put the original back from git, or `toto-patch vendor --force`; do not use this record.",
                )
                for path in wrong
            ]
        )


def release_bytes(version: str) -> Mapping[PurePosixPath, bytes]:
    """The files of a pinned release; may download. Imported when it is called, which is hardly ever."""
    from toto_patcher.patching.vendoring import releases

    return releases.release_bytes(version)


def look(root: Path) -> Workspace:
    """Reads the records of a checkout.

    Raises:
        BackupError: the state file is damaged.
    """
    return Workspace(root, Store(root).state(), transaction.pending(root))


def interruption(pending: Pending) -> str:
    """What an interrupted run left, in words."""
    return f"an interrupted run left its journal, about {', '.join(map(str, pending.files)) or 'no file'}"


def select(profile: str | None, ids: Sequence[str], state: State | None = None) -> tuple[str | None, tuple[Patch, ...]]:
    """The profile's name, if the selection is one, and the patches.

    When nothing is named, what is in force stays in force; a tree without patches gets the default profile.
    """
    from toto_patcher.patching import series

    loaded = series.load()
    if profile is None and not ids:
        if state is not None and state.patches:
            return profile_of(state), loaded.select(None, state.patches)
        profile = series.DEFAULT_PROFILE
    return profile, loaded.select(profile, ids)


def profile_of(state: State) -> str | None:
    """The profile that the recorded patches are; the recorded name alone is a label that nobody checked."""
    from toto_patcher.patching import declarations

    return declarations.profile_of(state.patches, state.profile)


def is_newer(version: str) -> bool:
    """Whether a version of toto-patch is newer than this one."""

    def numbers(text: str) -> list[int]:
        return [int(part) for part in re.findall(r"[0-9]{1,9}", text.partition("+")[0])]

    return numbers(version) > numbers(__version__)


def plan(workspace: Workspace, selection: Sequence[Patch], profile: str | None) -> Plan:
    """What a selection would do to the checkout.

    Raises:
        RefusedError: it cannot be applied; RefusedGroup when there are several reasons.
    """
    from toto_patcher.patching.plan import plan_selection

    tree = checkouts.Checkout.open(workspace.root)
    refusals: list[RefusedError] = [*drift(workspace), *unrecorded(tree, workspace.state)]
    try:
        plan = plan_selection(tree, selection, pristine=workspace.originals(), profile=profile)
        if not refusals:
            with Tree(workspace.root) as files:
                refusals += preflight.refusals(files, plan, workspace.state)
    except StorageError:
        refuse_all(refusals)  # a patched file that is gone says more than that it cannot be read
        raise
    except RefusedGroup as group:
        refusals += group.refusals
    except RefusedError as refusal:
        refusals.append(refusal)
    refuse_all(refusals)
    return plan


def drift(workspace: Workspace) -> Iterator[DriftError]:
    """Every file that is neither the original nor what was written: somebody's edit, which nothing may overwrite."""
    for file in workspace.files():
        if file.state == "patched" and not _says_that_it_was_patched(workspace.root / file.path):
            hint = "This record was not written by toto-patch: delete .toto-patch, and ask where the tree comes from."
            yield DriftError("is recorded as patched, but no patch wrote it", path=file.path, hint=hint)
        if file.state in ("drifted", "missing"):
            gone = file.state == "missing"
            hint = (
                "Put back what was written (an editor's undo, a copy), or keep your edit elsewhere and put the "
                "original back; then run it again. If another release was copied over the tree: `toto-patch vendor "
                "--force` starts afresh."
            )
            if file.line_endings:
                yield DriftError(LINE_ENDINGS, path=file.path, hint=LINE_ENDINGS_HINT)
                continue
            if file.added:
                hint = "This file did not exist before: keep your edit elsewhere, delete it here, then run it again."
            yield DriftError(
                "is gone, though it was patched" if gone else "was edited after it was patched",
                path=file.path,
                line=None if gone else first_edit(workspace, file.path),
                hint=hint,
            )


def _says_that_it_was_patched(path: Path) -> bool:
    """Every file that patches write says so; a record of any other is a stranger's, and nothing is put in its place."""
    from toto_patcher.patching.notice import trace

    try:
        return trace(path.read_bytes(), PurePosixPath(path.name)) is not None
    except FileNotFoundError:
        return True  # nothing is there to be replaced


def traces(tree: checkouts.Checkout, state: State | None) -> list[Trace]:
    """Every source that toto-patch wrote though no record says so; nothing may be laid over what is not known."""
    from toto_patcher.patching.notice import trace

    known = {file.path for file in state.files} if state else set()
    return [
        found for path in tree.sources if str(path) not in known and (found := trace(tree.read(path), path)) is not None
    ]


def unrecorded(tree: checkouts.Checkout, state: State | None) -> list[RefusedError]:
    """The refusals of what ``traces`` finds."""
    from toto_patcher.patching.notice import unrecorded

    return [unrecorded(found) for found in traces(tree, state)]


def first_edit(workspace: Workspace, path: str) -> int | None:
    """The first line that differs from what was written; ``None`` where that cannot be told."""
    from toto_patcher.patching.plan import plan_selection

    assert workspace.state is not None
    try:
        _, selection = select(None, workspace.state.patches)
        tree = checkouts.Checkout.open(workspace.root)
        again = plan_selection(tree, selection, pristine=workspace.originals())
        written = next(change.after or b"" for change in again.changes if str(change.path) == path)
        found = (workspace.root / path).read_bytes()
    except (TotoPatchError, OSError, StopIteration):
        return None
    pairs = itertools.zip_longest(written.split(b"\n"), found.split(b"\n"))
    return next((number for number, (a, b) in enumerate(pairs, start=1) if a != b), None)


def changed_files(
    changes: Sequence[FileChange], sources: Mapping[PurePosixPath, str] | None = None
) -> tuple[r.ChangedFile, ...]:
    """Sums up changes, with the number of lines added and removed on disk."""
    summary = []
    for change in changes:
        kind = "added" if change.before is None else "removed" if change.after is None else "modified"
        added, removed = _count_lines(change.before or b"", change.after or b"")
        source = (sources or {}).get(change.path)
        summary.append(r.ChangedFile(str(change.path), kind, added, removed, change.patches, source))  # type: ignore[arg-type]
    return tuple(summary)


def _compare(root: Path, record: FileState) -> r.FileStatus:
    path = root / record.path
    state: r.FileState
    data: bytes | None = None
    try:
        # A link in the place of a file is an edit, whatever it points to.
        if stat.S_ISREG(path.lstat().st_mode):
            data = path.read_bytes()
        found = "not a plain file" if data is None else fingerprint(data)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=record.path) from error
    endings = False
    if found == record.patched:
        state = "patched"
    elif found == record.pristine:
        state = "pristine"
    else:
        state = "missing" if found is None else "drifted"
        endings = data is not None and any(
            fingerprint(other) in (record.patched, record.pristine) for other in _other_line_endings(data)
        )
    return r.FileStatus(record.path, state, record.patches, record.backup, record.pristine is None, endings)


def _other_line_endings(data: bytes) -> tuple[bytes, bytes]:
    feeds = data.replace(b"\r\n", b"\n")
    return feeds, feeds.replace(b"\n", b"\r\n")


LINE_ENDINGS = "only line endings differ from what was written (git's core.autocrlf, or an editor, changed them)"
LINE_ENDINGS_HINT = (
    "Say `*.py -text` in a .gitattributes above the vendored package, or `git config core.autocrlf false`, then check "
    "the files out again: git rm --cached -rq . && git reset --hard."
)


def release_of(root: Path, originals: Mapping[PurePosixPath, str | None]) -> str | None:
    """The pinned release that the whole package is, to the byte, once the originals are back; ``None`` for any other.

    Args:
        root: the checkout.
        originals: fingerprints of the patched files' originals, ``None`` for files that patches added.
    """
    from toto_patcher.patching.package import package_folders
    from toto_patcher.patching.vendoring.releases import known_release, pinned_releases

    tree = checkouts.Checkout.open(root)
    folders = package_folders(root, originals) if originals else ()
    whole: dict[PurePosixPath, str | None] = {
        path: fingerprint(tree.read(path))
        for path in tree.sources
        if not folders or any(path.is_relative_to(folder) for folder in folders)
    }
    present = {path: digest for path, digest in {**whole, **originals}.items() if digest is not None}
    release = known_release(present)
    if release is None:
        return None
    parts = checkouts.SKIPPED_FOLDERS | checkouts.TEST_FOLDERS
    wanted = [path for path in pinned_releases()[release].files if path.suffix == ".py" and not parts & set(path.parts)]
    return release if set(wanted) <= present.keys() else None


@contextmanager
def two_trees(plan: Plan) -> Iterator[tuple[Path, Path]]:
    """The original and the patched sources of a plan as two temporary folders, outside the checkout."""
    import tempfile

    tree = checkouts.Checkout.open(plan.root)
    with tempfile.TemporaryDirectory(prefix="toto-patch-") as folder:
        # Under its own name: a root that is the package itself is imported by it.
        original, patched = (Path(folder, kind, plan.root.name) for kind in ("original", "patched"))
        lay_down(tree, {change.path: change.pristine for change in plan.changes}, original)
        lay_down(tree, {change.path: change.after for change in plan.changes}, patched)
        yield original, patched


def lay_down(tree: checkouts.Checkout, replaced: Mapping[PurePosixPath, bytes | None], folder: Path) -> None:
    """Writes the sources of a checkout into a folder, some of them replaced; ``None`` leaves a file out."""
    for path in sorted({*tree.sources, *replaced}):
        data = replaced[path] if path in replaced else tree.read(path)
        if data is not None:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(data)


def _count_lines(before: bytes, after: bytes) -> tuple[int, int]:
    import difflib

    added = removed = 0
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    for _, i1, i2, j1, j2 in (code for code in matcher.get_opcodes() if code[0] != "equal"):
        removed += i2 - i1
        added += j2 - j1
    return added, removed
