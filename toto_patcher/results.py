"""What each command found or did: frozen data that the commands return and ``report`` renders.

Field names are the keys of the JSON documents described in docs/json.md; renaming one is a change of schema.
Nobody compares or prints them, and to generate the methods for it takes every command a thirtieth of its time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

FileState = Literal["pristine", "patched", "drifted", "missing"]
Verdict = Literal["patched", "outdated", "not-patched", "half-patched", "drifted", "outputs-differ", "unrecorded"]


@dataclass(frozen=True, eq=False, repr=False)
class Result:
    """What all commands share.

    Attributes:
        exit_code: the process's exit status (docs/cli.md).
    """

    command: ClassVar[str] = ""
    exit_code: int = field(default=0, kw_only=True)


@dataclass(frozen=True, eq=False, repr=False)
class ChangedFile:
    """One file of a plan: ``change`` is what happens to the bytes on disk, ``added`` and ``removed`` count lines."""

    path: str
    change: Literal["modified", "added", "removed"]
    added: int
    removed: int
    patches: tuple[str, ...] = ()
    source: str | None = None
    """Where a revert took the original from: ``backup``, ``git commit <id>``, ``release <version>``; else ``None``."""


@dataclass(frozen=True, eq=False, repr=False)
class PatchInfo:
    """One patch of the series as ``list``, ``show`` and docs/patches.md present it.

    ``files`` are those its golden diff changes in the pinned release; ``found`` is ``path:line`` of each target class
    in the checkout at hand, empty when there is none.
    """

    id: str
    title: str
    why: str
    classes: tuple[str, ...]
    files: tuple[str, ...]
    profiles: tuple[str, ...]
    requires: tuple[str, ...]
    after: tuple[str, ...]
    conflicts: tuple[str, ...]
    tested_on: tuple[str, ...]
    found: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class ListResult(Result):
    """The series in order and its profiles."""

    command: ClassVar[str] = "list"
    patches: tuple[PatchInfo, ...]
    profiles: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class ShowResult(Result):
    """One patch."""

    command: ClassVar[str] = "show"
    patch: PatchInfo


@dataclass(frozen=True, eq=False, repr=False)
class DiffResult(Result):
    """What apply would write, as a unified diff."""

    command: ClassVar[str] = "diff"
    root: str
    profile: str | None
    patches: tuple[str, ...]
    files: tuple[ChangedFile, ...]
    diff: str


@dataclass(frozen=True, eq=False, repr=False)
class ApplyResult(Result):
    """What apply did, or would do (``written`` is false then and ``diff`` is filled in)."""

    command: ClassVar[str] = "apply"
    root: str
    profile: str | None
    patches: tuple[str, ...]
    previous: tuple[str, ...]
    files: tuple[ChangedFile, ...]
    written: bool
    backup: bool
    dry_run: bool = False
    diff: str | None = None
    recovered: str | None = None
    git_commit: str | None = None
    ladder: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()
    taken_over: Mapping[str, str] = field(default_factory=dict)
    """Files of the package that no patch touches and that changed since the last apply: path -> what became of them.
    This apply records them as they are."""
    shadows: tuple[str, ...] = ()
    """What Python runs in place of patched sources, and why; to be removed by hand."""


@dataclass(frozen=True, eq=False, repr=False)
class AdoptResult(Result):
    """What adopt recorded: whose bytes the tree holds, and where the originals were found."""

    command: ClassVar[str] = "adopt"
    root: str
    profile: str | None
    patches: tuple[str, ...]
    files: tuple[ChangedFile, ...]
    origin: str | None
    written: bool


@dataclass(frozen=True, eq=False, repr=False)
class Check:
    """One structural check of verify-only."""

    name: str
    passed: bool
    detail: str
    path: str | None = None
    line: int | None = None


@dataclass(frozen=True, eq=False, repr=False)
class FileStatus:
    """One file that the state file names; ``added`` where patches added it, so that there is no original."""

    path: str
    state: FileState
    patches: tuple[str, ...]
    backup: bool
    added: bool = False
    line_endings: bool = False
    """It has drifted, but in nothing but its line endings."""


@dataclass(frozen=True, eq=False, repr=False)
class VerifyResult(Result):
    """Is the tree patched and whole, and (with numerics) does it compute what the original computes?"""

    command: ClassVar[str] = "verify-only"
    root: str
    verdict: Verdict
    profile: str | None
    patches: tuple[str, ...]
    files: tuple[FileStatus, ...]
    checks: tuple[Check, ...]
    ladder: Mapping[str, Any] | None = None
    hint: str | None = None
    written_by: str | None = None
    """The version of toto-patch that wrote what is there."""


@dataclass(frozen=True, eq=False, repr=False)
class GitState:
    """Where the checkout stands in version control."""

    commit: str
    branch: str | None
    ignored: bool
    modified: tuple[str, ...]
    problem: str | None


@dataclass(frozen=True, eq=False, repr=False)
class StatusResult(Result):
    """What is there now."""

    command: ClassVar[str] = "status"
    root: str
    verdict: Verdict
    profile: str | None
    patches: tuple[str, ...]
    applied_at: str | None
    written_by: str | None
    release: str | None
    files: tuple[FileStatus, ...]
    pending: str | None
    git: GitState | None
    refused: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class RevertResult(Result):
    """What revert put back, and where each original came from."""

    command: ClassVar[str] = "revert"
    root: str
    previous: tuple[str, ...]
    files: tuple[ChangedFile, ...]
    recovered: str | None = None
    edited: Mapping[str, str] = field(default_factory=dict)
    """Files of the package that no patch touches and that are not as they were at the apply; left as they are."""


@dataclass(frozen=True, eq=False, repr=False)
class RecoverResult(Result):
    """What an interrupted run had left: ``action`` is ``nothing``, ``forward``, ``back`` or ``cleared``."""

    command: ClassVar[str] = "recover"
    root: str
    action: str
    files: tuple[str, ...]
    kept: tuple[str, ...]
    message: str


@dataclass(frozen=True, eq=False, repr=False)
class VendorResult(Result):
    """What was laid into the vendor folder; ``discarded`` are the files that --force gave up for good."""

    command: ClassVar[str] = "vendor"
    root: str
    lock: str
    source: Mapping[str, str]
    release: str | None
    files: int
    changed: bool
    discarded: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class BenchResult(Result):
    """What bench measured: ``document`` is the raw document, ``file`` where it was written, if that was asked for."""

    command: ClassVar[str] = "bench"
    root: str | None
    trees: Mapping[str, tuple[str, ...]]
    file: str | None
    document: Mapping[str, Any]


@dataclass(frozen=True, eq=False, repr=False)
class ReportResult(Result):
    """What a command of runtime or evidence found; each has a class of its own.

    Attributes:
        root: the tree, where there is one.
        files: what was written.
        document: the whole report, as JSON has it.
        summary: the report in words, line by line; for terminals only.
    """

    root: str | None
    files: tuple[str, ...]
    document: Mapping[str, Any]
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class EnvResult(ReportResult):
    """What ``.env.compile`` says, what holds in this process, and what one command changed."""

    command: ClassVar[str] = "env"


@dataclass(frozen=True, eq=False, repr=False)
class AccuracyResult(ReportResult):
    """Whether forecasts of real series are as accurate as upstream's."""

    command: ClassVar[str] = "accuracy"


@dataclass(frozen=True, eq=False, repr=False)
class RecompilationsResult(ReportResult):
    """What was compiled anew, why, and what cures it."""

    command: ClassVar[str] = "recompilations"


@dataclass(frozen=True, eq=False, repr=False)
class StressResult(ReportResult):
    """Whether the tree as it is keeps within the limits of a deployment."""

    command: ClassVar[str] = "stress"


@dataclass(frozen=True, eq=False, repr=False)
class Failure:
    """One refusal: what, where, why, what next."""

    kind: str
    message: str
    path: str | None = None
    line: int | None = None
    hint: str | None = None


@dataclass(frozen=True, eq=False, repr=False)
class ErrorResult:
    """A command that did not do what it was asked; ``error`` sums up ``refusals`` when there is more than one."""

    command: str
    exit_code: int
    error: Failure
    refusals: tuple[Failure, ...] = ()
    traceback: str | None = None
