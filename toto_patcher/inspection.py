"""The commands that only look: list, show, diff, status, verify-only. None of them writes under the checkout."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from toto_patcher import __version__, roots
from toto_patcher import results as r
from toto_patcher import workspace as ws
from toto_patcher.errors import RefusedError, RefusedGroup, TotoPatchError, UsageError
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.syntax import parse_syntax

if TYPE_CHECKING:
    from toto_patcher.patching.change import Plan
    from toto_patcher.patching.notice import Trace
    from toto_patcher.patching.patch import Patch
    from toto_patcher.progress import Progress


def catalogue() -> r.ListResult:
    """The series and its profiles."""
    from toto_patcher.patching import series

    loaded = series.load()
    profiles = {name: tuple(patch.id for patch in patches) for name, patches in loaded.profiles().items()}
    return r.ListResult(patches=tuple(_describe(patch) for patch in loaded.patches), profiles=profiles)


def show(patch_id: str, root: Path | None) -> r.ShowResult:
    """One patch, and where its classes are in the checkout at hand, if there is one.

    Raises:
        UsageError: there is no such patch.
    """
    from toto_patcher.patching import series

    patch = series.load()[patch_id]
    return r.ShowResult(patch=_describe(patch, _places(patch, root)))


def diff(root: Path | None, profile: str | None, ids: Sequence[str]) -> r.DiffResult:
    """What apply would write."""
    from toto_patcher.patching.plan import unified_diff

    workspace = ws.look(roots.find(root))
    workspace.refuse_if_interrupted()
    profile, selection = ws.select(profile, ids, workspace.state)
    plan = ws.plan(workspace, selection, profile)
    files = ws.changed_files(plan.pending)
    return r.DiffResult(
        root=str(plan.root), profile=profile, patches=plan.patches, files=files, diff=unified_diff(plan)
    )


def status(root: Path | None) -> r.StatusResult:
    """What is patched, pristine or drifted now."""
    from toto_patcher.patching.version_control import git_state

    workspace = ws.look(roots.find(root))
    state, files = workspace.state, workspace.files()
    git = git_state(workspace.root)
    found = ws.traces(Checkout.open(workspace.root), state)
    verdict = "unrecorded" if found else _verdict(files) if state else "not-patched"
    return r.StatusResult(
        root=str(workspace.root),
        verdict=verdict,
        profile=ws.profile_of(state) if state else None,
        patches=state.patches if state else (),
        applied_at=state.created if state else None,
        written_by=state.tool_version if state else None,
        release=None if found else ws.release_of(workspace.root, workspace.fingerprints()),
        files=files,
        pending=ws.interruption(workspace.pending) if workspace.pending else None,
        git=r.GitState(**asdict(git)) if git else None,
        refused=_refused(workspace) if verdict == "not-patched" else None,
    )


def _refused(workspace: ws.Workspace) -> str | None:
    """Why apply would refuse the tree as it is, the first reason of all; ``None`` if it would not."""
    profile, selection = ws.select(None, ())
    try:
        ws.plan(workspace, selection, profile)
    except RefusedGroup as group:
        return str(group.refusals[0])
    except RefusedError as refusal:
        return str(refusal)
    return None


@dataclass(frozen=True)
class Proof:
    """How the outputs are compared.

    Attributes:
        quick: the short ladder.
        checkpoint: a folder with weights in place of made-up ones.
        device: ``cpu`` or ``cuda``.
    """

    quick: bool = False
    checkpoint: Path | None = None
    device: str = "cpu"


def verify(root: Path | None, proof: Proof | None, progress: Progress) -> r.VerifyResult:
    """Is the tree patched and whole? With a proof: does it compute what the original computes?

    Raises:
        UnknownSourceError: it is not patched and could not be.
    """
    workspace = ws.look(roots.find(root))
    state, files = workspace.state, workspace.files()
    checks = [_journal_check(workspace), *(_bytes_check(workspace, file) for file in files)]
    verdict = _verdict(files) if state else "not-patched"
    ladder = None
    found = ws.traces(Checkout.open(workspace.root), state)
    if workspace.pending:
        verdict = "half-patched"
    elif found:
        verdict = "unrecorded"
        checks += [_trace_check(trace) for trace in found] + [_origin_check(workspace)]
    elif state is None:
        profile, selection = ws.select(None, ())
        ws.plan(workspace, selection, profile)  # refuses what is not Toto
    elif verdict == "patched":
        checks += [*_package_checks(workspace), *_shadow_checks(workspace)]
        again = _repeat_checks(workspace)
        checks += [*_structure_checks(workspace, parsed=all(check.passed for check in again)), *again]
        if not all(check.passed for check in checks if check not in again):
            verdict = "drifted"
        elif not all(check.passed for check in again):
            verdict = "drifted" if state.tool_version == __version__ else "outdated"
        elif proof is not None:
            ladder = prove(_plan_again(workspace), proof, progress)
            verdict = "patched" if ladder["passed"] else "outputs-differ"
    codes = {"patched": 0, "not-patched": 1, "outdated": 1, "outputs-differ": 5}
    return r.VerifyResult(
        root=str(workspace.root),
        verdict=verdict,
        profile=ws.profile_of(state) if state else None,
        patches=state.patches if state else (),
        files=files,
        checks=tuple(checks),
        ladder=ladder,
        hint=_hint(workspace, verdict, checks, files, ladder),
        written_by=state.tool_version if state else None,
        exit_code=codes.get(verdict, 3),
    )


def prove(plan: Plan, proof: Proof, progress: Progress) -> dict[str, Any]:
    """Runs the ladder on a plan's original against its patched sources, in temporary folders."""
    from toto_patcher.equivalence import ladder

    def step(done: int, total: int, case: str) -> None:
        progress(f"comparing outputs: {case}", done, total)

    expected = [change.path for change in plan.changes if change.pristine != change.after]
    progress("loading the original and the patched tree", 0, 0)
    with ws.two_trees(plan) as (original, patched):
        found = ladder.run(original, patched, progress=step, expected=expected, **vars(proof))
    return found.to_dict()


_HINTS = {
    "not-patched": "`toto-patch apply --backup` patches it.",
    "half-patched": "`toto-patch revert` puts the originals back; then apply again.",
    "drifted": "Undo or keep a copy of the edits named above, then `toto-patch revert`. If another release was copied "
    "over the tree: `toto-patch vendor --force` starts afresh.",
    "unrecorded": "`toto-patch adopt` makes the record again if the bytes are its own. Else put the originals back: "
    "git checkout, or `toto-patch vendor --force`.",
    "outputs-differ": "`toto-patch revert` puts every byte back; please report the failing check ({failing}).",
}


def _hint(
    workspace: ws.Workspace,
    verdict: str,
    checks: Sequence[r.Check],
    files: Sequence[r.FileStatus],
    ladder: Mapping[str, Any] | None,
) -> str | None:
    if workspace.pending:
        return ws.RECOVER
    failed = {check.name for check in checks if not check.passed}
    if verdict == "outdated" and workspace.state:
        newer = ws.is_newer(workspace.state.tool_version)
        told = "use that version, or name --profile to apply this one's" if newer else "apply brings it up to date"
        return f"Written by toto-patch {workspace.state.tool_version}; this is {__version__}: {told}."
    if verdict == "drifted" and any(file.line_endings for file in files):
        return ws.LINE_ENDINGS_HINT
    if verdict == "drifted" and failed == {"package"}:
        return "Undo these changes, or run `toto-patch apply`: it records the package as it is now."
    if verdict == "drifted" and failed == {"shadow"}:
        return "Remove what is named above: Python runs it in place of the patched source."
    failing = ", ".join(check["name"] for check in (ladder or {}).get("checks", ()) if not check["passed"])
    return _HINTS[verdict].format(failing=failing) if verdict in _HINTS else None


def _trace_check(found: Trace) -> r.Check:
    how = "says so" if found.noticed else "holds its code, without the notice"
    detail = f"written by toto-patch ({', '.join(found.patches)}), it {how}; no record speaks of it"
    return r.Check("recorded", False, detail, str(found.path), found.line)


def _origin_check(workspace: ws.Workspace) -> r.Check:
    """Whether these are bytes that this toto-patch writes; only sources at hand are asked, nothing is downloaded."""
    from toto_patcher.adoption import find_origin

    origin = None if workspace.state else find_origin(workspace, download=False)
    if origin is None:
        return r.Check("origin", False, "no original at hand gives these bytes")
    name = origin.plan.profile or ", ".join(origin.plan.patches)
    return r.Check("origin", True, f"the bytes of {name}, made from {origin.source}")


def _package_checks(workspace: ws.Workspace) -> list[r.Check]:
    """The files of the package that no patch touches."""
    assert workspace.state is not None
    if workspace.state.package is None:
        return [r.Check("package", True, "the other files were not recorded: applied by an earlier version")]
    found = workspace.other_edits()
    told = {
        "edited": "edited since the apply",
        "added": "added since the apply",
        "gone": "gone since the apply",
    }
    checks = [r.Check("package", False, f"{told[kind]}; no patch touches it", path) for path, kind in found.items()]
    count = len(workspace.state.package)
    return checks or [r.Check("package", True, f"the {count} other files are as they were at the apply")]


def _shadow_checks(workspace: ws.Workspace) -> list[r.Check]:
    found = workspace.shadows()
    if not found:
        return [r.Check("shadow", True, "Python runs these sources, and nothing in their place")]
    return [r.Check("shadow", False, shadow.why, str(shadow.path)) for shadow in found]


def _verdict(files: Sequence[r.FileStatus]) -> r.Verdict:
    found = {file.state for file in files}
    if found == {"patched"}:
        return "patched"
    if found == {"pristine"}:
        return "not-patched"
    return "drifted" if found & {"drifted", "missing"} else "half-patched"


def _journal_check(workspace: ws.Workspace) -> r.Check:
    if workspace.pending:
        return r.Check("journal", False, ws.interruption(workspace.pending), str(ws.JOURNAL))
    return r.Check("journal", True, "no interrupted run")


def _bytes_check(workspace: ws.Workspace, file: r.FileStatus) -> r.Check:
    told = {
        "patched": "the bytes that were written",
        "pristine": "the original's bytes: it was put back by something else than toto-patch",
        "drifted": "neither the original's bytes nor those that were written: edited since",
        "missing": "there is no such file",
    }
    if file.added:
        told |= {
            "pristine": "gone: it was removed by something else than toto-patch",
            "drifted": "not the bytes that were written: edited since",
        }
    if file.line_endings:
        return r.Check("bytes", False, ws.LINE_ENDINGS, file.path)
    line = ws.first_edit(workspace, file.path) if file.state == "drifted" else None
    return r.Check("bytes", file.state == "patched", told[file.state], file.path, line)


def _structure_checks(workspace: ws.Workspace, *, parsed: bool) -> list[r.Check]:
    """Files parse and carry their notice.

    Args:
        parsed: they are what the patches write now: what is edited was parsed by the plan, what is added is our own.
    """
    assert workspace.state is not None
    tree = Checkout.open(workspace.root)
    checks = []
    for file in workspace.files():
        path = PurePosixPath(file.path)
        try:
            if not parsed:
                parse_syntax(tree.read(path), path)
            checks.append(r.Check("parses", True, "valid Python", file.path))
        except TotoPatchError as error:
            checks.append(r.Check("parses", False, error.message, file.path, error.line))
        notice = b"toto-patch revert" in tree.read(path)
        checks.append(r.Check("notice", notice, "says that it was changed" if notice else "has no notice", file.path))
    return checks


def _repeat_checks(workspace: ws.Workspace) -> list[r.Check]:
    """Applying the recorded patches again would change nothing."""
    try:
        again = _plan_again(workspace)
    except UsageError as error:  # patches of another version
        return [r.Check("repeats", False, error.message)]
    if not again.pending:
        return [r.Check("repeats", True, "applying again changes nothing")]
    return [r.Check("repeats", False, "these patches would write other bytes now", str(c.path)) for c in again.pending]


def _plan_again(workspace: ws.Workspace) -> Plan:
    assert workspace.state is not None
    _, selection = ws.select(None, workspace.state.patches)
    return ws.plan(workspace, selection, ws.profile_of(workspace.state))


def _describe(patch: Patch, found: tuple[str, ...] = ()) -> r.PatchInfo:
    return r.PatchInfo(
        id=patch.id,
        title=patch.title,
        why=patch.why.strip(),
        classes=patch.targets,
        files=_golden_files(patch),
        profiles=patch.profiles,
        requires=patch.requires,
        after=patch.after,
        conflicts=patch.conflicts,
        tested_on=patch.tested_on,
        found=found,
    )


def _golden_files(patch: Patch) -> tuple[str, ...]:
    golden = patch.folder / "expected.diff"
    if not golden.is_file():
        return ()
    lines = golden.read_text(encoding="utf-8").splitlines()
    return tuple(line.split()[1] for line in lines if line.startswith("+++ "))


def _places(patch: Patch, root: Path | None) -> tuple[str, ...]:
    try:
        tree = Checkout.open(roots.find(root))
        return tuple(f"{place.path}:{place.line}" for name in patch.targets for place in tree.definitions(name))
    except TotoPatchError:
        if root is not None:
            raise
        return ()
