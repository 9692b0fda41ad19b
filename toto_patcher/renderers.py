"""Each result as text: what was done, where, what to do next. Called by ``report`` with the surface to write on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from toto_patcher import results as r
from toto_patcher.terminal import Row, Surface, block


def render_error(result: r.ErrorResult, out: Surface) -> None:
    """Every refusal: where, what and why, what to do next."""
    if result.traceback:
        block(out, result.traceback.rstrip(), "dim")
    many = len(result.refusals) > 1
    if many:
        out.line(f"error: {result.error.message}", "bold red")
    for told in result.refusals:
        if many:
            out.line()
        where = "" if told.path is None else told.path if told.line is None else f"{told.path}:{told.line}"
        out.line(
            f"{'' if many else 'error: '}{where + ': ' if where else ''}{told.message}", "" if many else "bold red"
        )
        if told.hint:
            out.line(f"  next: {told.hint}")


def _next(out: Surface, steps: Sequence[tuple[str, str]]) -> None:
    out.line()
    out.table([[("next" if i == 0 else "", "dim"), (cmd, "bold"), (why, "dim")] for i, (cmd, why) in enumerate(steps)])


def _changes(files: Sequence[r.ChangedFile]) -> list[Row]:
    styles = {"modified": "yellow", "added": "green", "removed": "red"}
    return [
        [
            (file.change, styles[file.change]),
            (file.path, ""),
            (f"+{file.added}", "green"),
            (f"-{file.removed}", "red"),
            (f"from {file.source}" if file.source else ", ".join(file.patches), "dim"),
        ]
        for file in files
    ]


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}{'es' if noun.endswith(('ch', 's')) else 's'}"


def _selection(profile: str | None, patches: Sequence[str]) -> str:
    return f"profile {profile} ({_count(len(patches), 'patch')})" if profile else ", ".join(patches) or "no patch"


def _tree(root: str) -> str:
    """A path as a user would type it: relative when the tree is below the current folder."""
    path = Path(root)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else root


def _list(result: r.ListResult, out: Surface) -> None:
    out.line("Patches, in the order they are applied", "bold")
    out.table([[(p.id, "cyan"), (p.title, ""), (", ".join(p.classes), "dim")] for p in result.patches])
    out.line()
    out.line("Profiles", "bold")
    out.table([[(name, "cyan"), (", ".join(ids), "")] for name, ids in result.profiles.items()])
    _next(
        out, [("toto-patch show PATCH", "why it exists and what it changes"), ("toto-patch diff", "what apply writes")]
    )


def _show(result: r.ShowResult, out: Surface) -> None:
    patch = result.patch
    out.line(patch.id, "bold cyan")
    out.line(patch.title)
    out.line()
    facts = {
        "classes": patch.classes,
        "files": patch.files,
        "in this checkout": patch.found,
        "profiles": patch.profiles,
        "requires": patch.requires,
        "comes after": patch.after,
        "conflicts with": patch.conflicts,
        "tested on": patch.tested_on,
    }
    out.table([[(name, "dim"), (", ".join(values), "")] for name, values in facts.items() if values])
    out.line()
    block(out, patch.why)


def _diff(result: r.DiffResult, out: Surface) -> None:
    out.diff(result.diff)


def _apply(result: r.ApplyResult, out: Surface, *, verbose: bool = False) -> None:
    what, where = _selection(result.profile, result.patches), _tree(result.root)
    if result.recovered:
        out.line(result.recovered)
    if result.ladder is not None:
        render_ladder(result.ladder, out, verbose=verbose)
        out.line()
    if result.exit_code == 5:
        out.line(f"The outputs differ: {what} was not applied to {where}; nothing was written.", "bold red")
        failing = ", ".join(check["name"] for check in (result.ladder or {})["checks"] if not check["passed"])
        out.line(f"  next: please report the failing check ({failing}) with the output of --json.")
        return
    if not result.files:
        out.line(f"{where} already carries {what}; nothing to do.", "green")
    elif not result.written:
        out.line(f"Would apply {what} to {where}; nothing was written.", "bold")
        out.table(_changes(result.files))
        if result.dry_run and result.diff:
            out.line()
            out.diff(result.diff)
    else:
        out.line(f"Applied {what} to {where}.", "bold green")
        out.table(_changes(result.files))
        if result.previous and result.previous != result.patches:
            out.line(f"  It carried {', '.join(result.previous)} before.", "dim")
        if not result.backup:
            out.line("  No backup was kept: revert needs the git commit or the pinned release.", "yellow")
        if result.git_commit:
            out.line(f"  Committed as {result.git_commit[:12]}.")
    _notes(result.notes, out)
    for path, kind in result.taken_over.items():
        told = "recorded as it is now" if result.written or not result.files else "would be recorded as it is now"
        out.line(f"  {path} was {kind if kind != 'gone' else 'removed'} since the last apply; {told}.", "yellow")
    for shadow in result.shadows:
        out.line(f"  The patch has no effect until this is removed: {shadow}.", "bold red")
    if result.written or not result.files:
        steps = [("toto-patch verify-only --numerics", "proves that the outputs did not change")]
        _next(out, [*steps, ("toto-patch revert", "puts back every byte")])


def _notes(notes: Sequence[str], out: Surface) -> None:
    """What was left as it is."""
    for note in notes[:3]:
        out.line(f"  {note}", "dim")
    if notes[3:]:
        out.line(f"  {_count(len(notes[3:]), 'more note')} of this kind with --verbose or --json.", "dim")


_FILE_STYLES = {"patched": "green", "pristine": "", "drifted": "bold red", "missing": "bold red"}


def _file_rows(files: Sequence[r.FileStatus]) -> list[Row]:
    return [
        [
            (file.state, _FILE_STYLES[file.state]),
            (file.path, ""),
            (", ".join(file.patches), "dim"),
            ("added", "dim") if file.added else ("" if file.backup else "no backup", "yellow"),
        ]
        for file in files
    ]


_VERDICTS = {
    "patched": ("is patched and whole", "bold green"),
    "not-patched": ("is not patched", "bold"),
    "half-patched": ("is half-patched", "bold red"),
    "drifted": ("has drifted from what was applied", "bold red"),
    "outdated": ("is patched, by another version of toto-patch", "bold yellow"),
    "unrecorded": ("was changed by toto-patch, but there is no record of its original", "bold red"),
    "outputs-differ": ("is patched, but its outputs differ from the original's", "bold red"),
}


def _verify(result: r.VerifyResult, out: Surface, *, verbose: bool = False) -> None:
    text, style = _VERDICTS[result.verdict]
    named = f": {_selection(result.profile, result.patches)}" if result.patches else ""
    named += f", written by toto-patch {result.written_by}" if result.written_by else ""
    out.line(f"{_tree(result.root)} {text}{named}.", style)
    rows: list[Row] = []
    passed = [check.name for check in result.checks if check.passed]
    if passed and not verbose:
        told = f"{_count(len(passed), 'check')} passed: {', '.join(dict.fromkeys(passed))}"
        out.line(f"  ok  {told}", "green")
    for check in result.checks:
        if check.passed and not verbose:
            continue
        where = "" if check.path is None else f"{check.path}{'' if check.line is None else f':{check.line}'}: "
        mark = ("ok", "green") if check.passed else ("FAILED", "bold red")
        rows.append([mark, (check.name, ""), (where + check.detail, "dim")])
    out.table(rows)
    if result.ladder is not None:
        out.line()
        render_ladder(result.ladder, out, verbose=verbose)
    if result.hint:
        out.line(f"  next: {result.hint}")


def render_ladder(ladder: Mapping[str, Any], out: Surface, *, verbose: bool = False) -> None:
    """The checks that failed, and in one line those that passed; with ``verbose`` these too."""
    checks = ladder["checks"]
    checkpoint = ladder["facts"].get("checkpoint")
    passed = [check for check in checks if check["passed"]]
    told = f"{_count(len(passed), 'check')} passed, over {sum(check['cases'] for check in passed)} cases"
    on = f", on the checkpoint {checkpoint}" if checkpoint else ""
    out.line(f"Outputs, original against patched{on}: {told}", "bold")
    shown = [check for check in checks if verbose or not check["passed"]]
    if not shown:
        return
    rows: list[Row] = [
        [("check", "dim"), ("cases", "dim"), ("worst error", "dim"), ("bound", "dim"), ("verdict", "dim")]
    ]
    for check in shown:
        verdict, good = str(check["verdict"]), bool(check["passed"])
        cells = [(str(check["name"]), ""), (str(check["cases"]), ""), (_number(check["worst_error"]), "")]
        rows.append([*cells, (_number(check["bound"]), "dim"), (verdict, "green" if good else "bold red")])
        if check.get("detail") and not good:
            rows.append([("  " + str(check["detail"]), "red")])
    out.table(rows)


def _number(value: object) -> str:
    return f"{value:.2e}" if isinstance(value, float) else "-" if value is None else str(value)


def _status(result: r.StatusResult, out: Surface) -> None:
    text, style = _VERDICTS[result.verdict]
    out.line(f"{_tree(result.root)} {text}.", style)
    facts = {
        "release": result.release,
        "profile": result.profile,
        "patches": ", ".join(result.patches),
        "applied": result.applied_at and f"{result.applied_at} by toto-patch {result.written_by}",
        "git": result.git and _git(result.git),
        "interrupted": result.pending,
        "refused": result.refused,
    }
    out.table([[(name, "dim"), (value, "")] for name, value in facts.items() if value])
    if result.files:
        out.line()
        out.table(_file_rows(result.files))
    steps = {
        "patched": [("toto-patch verify-only", "checks bytes and structure")],
        "not-patched": [("toto-patch apply", "says every reason why it refuses this tree")]
        if result.refused
        else [("toto-patch apply", "applies the profile graph-breaks")],
        "half-patched": [("toto-patch revert", "puts the originals back; then apply again")],
        "drifted": [
            ("toto-patch verify-only", "names the first edited line of each file"),
            ("toto-patch vendor --force", "starts afresh, if another release was copied over the tree"),
        ],
        "unrecorded": [
            ("toto-patch adopt", "makes the record again if the bytes are its own"),
            ("git checkout", "puts the originals back if git has them"),
            ("toto-patch vendor --force", "puts a pinned release in their place"),
        ],
    }
    _next(out, [("toto-patch recover", "finishes or undoes it")] if result.pending else steps.get(result.verdict, []))


def _git(git: r.GitState) -> str:
    if git.problem and not git.commit:
        return f"unknown ({git.problem})"
    place = f"{git.branch or 'detached'} at {git.commit[:12]}"
    if git.ignored:
        return f"{place} (ignored by this repository)"
    found = _count(len(git.modified), "modified file") if git.modified else "" if git.problem else "clean"
    return ", ".join(filter(None, (place, found, git.problem)))


def _revert(result: r.RevertResult, out: Surface) -> None:
    if result.recovered:
        out.line(result.recovered)
    if not result.previous and not result.files:
        out.line(f"{_tree(result.root)} is not patched; nothing to do.", "green")
        return
    out.line(
        f"Reverted {', '.join(result.previous)} in {_tree(result.root)}: every byte "
        f"{'of the patched files ' if result.edited else ''}is the original's.",
        "bold green",
    )
    out.table(_changes(result.files))
    for path, kind in result.edited.items():
        told = "removed" if kind == "gone" else kind
        out.line(f"  {path}, which no patch touches, was {told} since the apply and was left as it is.", "yellow")


def _adopt(result: r.AdoptResult, out: Surface) -> None:
    if not result.written:
        told = f"{_selection(result.profile, result.patches)} is recorded" if result.patches else "nothing is patched"
        out.line(f"{_tree(result.root)}: {told}; nothing to do.", "green")
        return
    what = _selection(result.profile, result.patches)
    out.line(f"Recorded {what} in {_tree(result.root)}: its bytes, from {result.origin}.", "bold green")
    out.table(_changes(result.files))
    _next(
        out, [("toto-patch verify-only", "checks bytes and structure"), ("toto-patch revert", "puts back every byte")]
    )


def _recover(result: r.RecoverResult, out: Surface) -> None:
    out.line(result.message, "green" if result.action == "nothing" else "bold green")
    out.table([[(path, "")] for path in result.files])
    for path in result.kept:
        out.line(f"  {path} holds somebody's edit and was left as it is.", "yellow")


def _vendor(result: r.VendorResult, out: Surface) -> None:
    origin = " ".join(value for key, value in result.source.items() if key not in ("wheel", "sha256", "rev"))
    where = f"{_tree(result.root)} ({_count(result.files, 'file')})"
    done = f"Vendored {origin} into {where}." if result.changed else f"{where} is {origin} already; nothing to do."
    out.line(done, "bold green" if result.changed else "green")
    for path in result.discarded:
        out.line(
            f"  {path} was discarded: its bytes were from no release and no source that gives them again.", "yellow"
        )
    out.line(f"  Their sha256 are in {_tree(result.lock)}.", "dim")
    _next(out, [("toto-patch apply --backup", "applies the profile graph-breaks")])


def _bench(result: r.BenchResult, out: Surface) -> None:
    from toto_patcher.evidence.summary import short_table

    for line in short_table(dict(result.document)).splitlines():
        out.line(line)
    if result.file:
        out.line(f"The raw document is in {_tree(result.file)}.", "dim")


def _report(result: r.ReportResult, out: Surface) -> None:
    for line in result.summary:
        out.line(line)
    for file in result.files:
        out.line(f"Written: {_tree(file)}", "dim")


RENDERERS: Mapping[type[r.Result], Callable[[Any, Surface], None]] = {
    r.ListResult: _list,
    r.ShowResult: _show,
    r.DiffResult: _diff,
    r.ApplyResult: _apply,
    r.AdoptResult: _adopt,
    r.VerifyResult: _verify,
    r.StatusResult: _status,
    r.RevertResult: _revert,
    r.RecoverResult: _recover,
    r.VendorResult: _vendor,
    r.BenchResult: _bench,
    r.ReportResult: _report,
}
VERBOSE: Mapping[type[r.Result], Callable[[Any, Surface], None]] = {
    **RENDERERS,
    r.ApplyResult: partial(_apply, verbose=True),
    r.VerifyResult: partial(_verify, verbose=True),
}
"""Those for ``--verbose``."""
