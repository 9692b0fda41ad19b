"""A checkout together with what toto-patch recorded about it: what every command starts from. Reads only."""

from __future__ import annotations

import itertools
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from toto_patcher import results as r
from toto_patcher.errors import DriftError, RefusedError, RefusedGroup, StorageError, TotoPatchError, refuse_all
from toto_patcher.patching import checkout as checkouts
from toto_patcher.patching import transaction
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.files import preflight
from toto_patcher.patching.files.safe_files import Tree
from toto_patcher.patching.store import Store
from toto_patcher.patching.transaction import Pending

if TYPE_CHECKING:
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
        return {**added, **{path: original.data for path, original in found.items()}}


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


def select(profile: str | None, ids: Sequence[str]) -> tuple[str | None, tuple[Patch, ...]]:
    """The profile's name, if the selection is one, and the patches; the default profile when nothing is named."""
    from toto_patcher.patching import series

    selection = series.load().select(profile, ids)
    return (profile or (None if ids else series.DEFAULT_PROFILE)), selection


def plan(workspace: Workspace, selection: Sequence[Patch], profile: str | None) -> Plan:
    """What a selection would do to the checkout.

    Raises:
        RefusedError: it cannot be applied; RefusedGroup when there are several reasons.
    """
    from toto_patcher.patching.plan import plan_selection

    refusals: list[RefusedError] = list(drift(workspace))
    try:
        tree = checkouts.Checkout.open(workspace.root)
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
        if file.state in ("drifted", "missing"):
            gone = file.state == "missing"
            hint = (
                "Put back what was written (an editor's undo, a copy), or keep your edit elsewhere and put the "
                "original back; then run it again. If another release was copied over the tree: `toto-patch vendor "
                "--force` starts afresh."
            )
            if file.added:
                hint = "This file did not exist before: keep your edit elsewhere, delete it here, then run it again."
            yield DriftError(
                "is gone, though it was patched" if gone else "was edited after it was patched",
                path=file.path,
                line=None if gone else first_edit(workspace, file.path),
                hint=hint,
            )


def unrecorded(root: Path) -> list[RefusedError]:
    """Every source that says it was changed by toto-patch; for a tree without a record of that."""
    from toto_patcher.patching.notice import unrecorded

    tree = checkouts.Checkout.open(root)
    return [found for path in tree.sources if (found := unrecorded(tree.read(path), path)) is not None]


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
    try:
        # A link in the place of a file is an edit, whatever it points to.
        found = fingerprint(path.read_bytes()) if stat.S_ISREG(path.lstat().st_mode) else "not a plain file"
    except (FileNotFoundError, NotADirectoryError):
        found = None
    except OSError as error:
        raise StorageError(f"cannot be read: {error.strerror}", path=record.path) from error
    if found == record.patched:
        state = "patched"
    elif found == record.pristine:
        state = "pristine"
    else:
        state = "missing" if found is None else "drifted"
    return r.FileStatus(record.path, state, record.patches, record.backup, record.pristine is None)


def release_of(plan: Plan) -> str | None:
    """The pinned release that the originals are from: by the whole tree, or else by the files of the plan alone."""
    from toto_patcher.patching.vendoring.releases import known_release

    pristine = {change.path: fingerprint(change.pristine) for change in plan.changes if change.pristine is not None}
    tree = checkouts.Checkout.open(plan.root)
    whole = {path: fingerprint(tree.read(path)) for path in tree.sources}
    return known_release({**whole, **pristine}) or known_release(pristine)


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
