"""Plans: what a selection of patches would do to a checkout. Pure; nothing here writes."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

import libcst as cst

from toto_patcher.errors import RefusedError, UnknownSourceError, refuse_all
from toto_patcher.patching import codemod
from toto_patcher.patching.additions import obstacles, package_files
from toto_patcher.patching.assumptions import broken_assumptions, is_released
from toto_patcher.patching.change import FileChange, Plan
from toto_patcher.patching.checkout import Checkout, Definition
from toto_patcher.patching.notice import trace, unrecorded
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.reach import ROOTS, Reach
from toto_patcher.patching.syntax import parse_syntax

OTHER_GENERATION = "Toto2Model"


def plan_selection(
    checkout: Checkout,
    selection: Sequence[Patch],
    *,
    pristine: Mapping[PurePosixPath, bytes | None],
    profile: str | None = None,
) -> Plan:
    """What ``selection`` would make of the checkout.

    Args:
        checkout: the tree as it is on disk.
        selection: the patches in order, as ``Series.select`` gives them.
        pristine: the original bytes of the files that are patched now, ``None`` for those that patches added, so that
            a tree can move from one selection to another in one step. Every other file is taken to be original.
        profile: the profile's name, for the record.

    Raises:
        RefusedError: a precondition is not met; ``RefusedGroup`` when there are several, all of them.
    """
    original = checkout.with_sources(pristine)
    reach = Reach.of(original)
    _refuse_other_generation(original)
    refusals: list[RefusedError] = []
    notes: list[str] = []
    planned: dict[PurePosixPath, cst.Module] = {}
    added: dict[PurePosixPath, bytes] = {}
    touched: defaultdict[PurePosixPath, list[str]] = defaultdict(list)
    for patch in selection:
        refusals += _uses_elsewhere(original, patch)
        refusals += broken_assumptions(original, patch)
        for class_name, transform in patch.transforms.items():
            try:
                targets = reach.definitions(class_name)
            except RefusedError as refusal:
                refusals.append(refusal)
                continue
            if not targets and class_name in patch.where_absent and len(selection) > 1:
                notes.append(f"{patch.id}: {patch.where_absent[class_name]}")
            elif not targets:
                refusals.append(_missing(original, patch, class_name))
            for target in targets:
                try:
                    module = planned.get(target.path) or _parse(original, target.path)
                    planned[target.path] = transform(module)
                    touched[target.path].append(patch.id)
                except RefusedError as refusal:
                    refusals.append(_placed(refusal, patch, target))
                except RecursionError:
                    refusals.append(codemod.too_deep(target.path))
        for class_name, folder in patch.adds.items():
            for target in reach.definitions(class_name):
                refusals += obstacles(original, patch, folder, target, pristine)
                for path, data in package_files(patch, folder, target).items():
                    if path not in added:
                        touched[path].append(patch.id)
                    added[path] = data
    refusals += [_added_with_original(path) for path in sorted(added) if pristine.get(path) is not None]
    refuse_all(_without_repeats(refusals))
    after = {path: _finished(module, path, touched[path]) for path, module in planned.items()} | added
    changes = []
    for path in sorted({*after, *pristine}):
        is_new = path in added if path not in pristine else pristine[path] is None
        source = None if is_new else original.read(path)
        changes.append(
            FileChange(
                path=path,
                pristine=source,
                before=_added_before(checkout, path, path in pristine) if is_new else checkout.read(path),
                after=after.get(path, source),
                patches=tuple(touched.get(path, ())),
            )
        )
    return Plan(checkout.root, tuple(changes), tuple(patch.id for patch in selection), profile, _notes(notes, reach))


def _notes(notes: Sequence[str], reach: Reach) -> tuple[str, ...]:
    return (*notes, *sorted(map(str, reach.left)))


def _added_with_original(path: PurePosixPath) -> RefusedError:
    from toto_patcher.patching.restore import added_with_original

    return added_with_original(path)


def _added_before(checkout: Checkout, path: PurePosixPath, recorded: bool) -> bytes | None:
    """What is on disk in the place of an added file; nothing, as far as is recorded, before it was added."""
    return checkout.read(path) if recorded and (checkout.root / path).is_file() else None


def _missing(original: Checkout, patch: Patch, class_name: str) -> UnknownSourceError:
    return UnknownSourceError(
        f"{patch.id}: no file under the root defines class {class_name}",
        path=original.root,
        hint="Is the root a Toto 1.0 checkout? Fetch one with: toto-patch vendor",
    )


def _refuse_other_generation(original: Checkout) -> None:
    """One sentence for a tree of Toto 2.0 and nothing of Toto 1.0, in place of all that does not fit."""
    others = original.definitions(OTHER_GENERATION)
    if others and not any(original.definitions(name) for name in (*ROOTS, "BaseMultiheadAttention")):
        raise UnknownSourceError(
            "this is Toto 2.0, and the patches are for Toto 1.0",
            path=others[0].path,
            line=others[0].line,
            hint="Give the root of a Toto 1.0 checkout, or fetch one with: toto-patch vendor",
        )


def _parse(original: Checkout, path: PurePosixPath) -> cst.Module:
    source = original.read(path)
    parse_syntax(source, path)
    found = trace(source, path)
    if found:
        raise unrecorded(found)
    return codemod.parse(source, path, reproduced=is_released(source))


def _uses_elsewhere(original: Checkout, patch: Patch) -> list[RefusedError]:
    """Uses, outside of the files the patch changes, of attributes whose meaning it changes."""
    if not patch.private:
        return []
    reach = Reach.of(original)
    own = {place.path for class_name in patch.transforms for place in reach.definitions(class_name)}
    hint = "Use the cache's methods current_len, seq_len and reset instead."
    refusals: list[RefusedError] = []
    for path in original.sources:
        source = original.read(path)
        for name in patch.private:
            if name.encode() not in source:  # far faster than the search
                continue
            line = _line_of_attribute(source, path, name) if path not in own else None
            if line and not (_keeps_its_own(source, path, name) and not reach.imports_own(path)):
                message = f"{patch.id}: this file uses {name}, whose meaning the patch changes"
                refusals.append(UnknownSourceError(message, path=path, line=line, hint=hint))
    return refusals


def _line_of_attribute(source: bytes, path: PurePosixPath, name: str) -> int | None:
    """The first line that reads or writes an attribute of that name, or names it in a string."""
    for node in ast.walk(parse_syntax(source, path)):
        if isinstance(node, ast.Attribute) and node.attr == name:
            return node.lineno
        if isinstance(node, ast.Constant) and node.value == name:
            return node.lineno
    return None


def _keeps_its_own(source: bytes, path: PurePosixPath, name: str) -> bool:
    """Whether every use of an attribute is one of ``self`` in a file whose classes set it: another class's own."""
    uses = [
        node for node in ast.walk(parse_syntax(source, path)) if isinstance(node, ast.Attribute) and node.attr == name
    ]
    own = all(isinstance(node.value, ast.Name) and node.value.id == "self" for node in uses)
    return own and any(isinstance(node.ctx, ast.Store) for node in uses)


def _placed(refusal: RefusedError, patch: Patch, target: Definition) -> RefusedError:
    """The refusal with the patch and the file it is about."""
    if refusal.path is not None:
        return refusal
    return type(refusal)(
        f"{patch.id}: {refusal.message}",
        path=target.path,
        line=refusal.line if refusal.line is not None else target.line,
        hint=refusal.hint,
    )


def _without_repeats(refusals: Sequence[RefusedError]) -> list[RefusedError]:
    return list({(str(refusal), refusal.hint): refusal for refusal in refusals}.values())


def _finished(module: cst.Module, path: PurePosixPath, patches: Sequence[str]) -> bytes:
    """The bytes to write: with the notice, and proven to be valid Python."""
    result = codemod.with_notice(module, patches).bytes
    parse_syntax(result, path)
    return result


def unified_diff(plan: Plan) -> str:
    """The plan as a unified diff with ``a/`` and ``b/`` prefixes, which ``git apply`` accepts.

    Bytes that are not UTF-8 come through as surrogates: encode the text with ``errors="surrogateescape"``.
    """
    return "".join(_file_diff(change) for change in plan.pending)


def _file_diff(change: FileChange) -> str:
    import difflib

    before, after = _lines(change.before), _lines(change.after)
    old = f"a/{change.path}" if change.before is not None else "/dev/null"
    new = f"b/{change.path}" if change.after is not None else "/dev/null"
    header = f"diff --git a/{change.path} b/{change.path}\n"
    if change.before is None:
        header += "new file mode 100644\n"
    if change.after is None:
        header += "deleted file mode 100644\n"
    body = []
    for line in difflib.unified_diff(before, after, old, new):
        body.append(line if line.endswith("\n") else line + "\n\\ No newline at end of file\n")
    return header + "".join(body)


def _lines(data: bytes | None) -> list[str]:
    """Lines ended by line feeds alone: a carriage return belongs to its line, as git sees it."""
    text = (data or b"").decode("utf-8", errors="surrogateescape")
    parts = text.split("\n")
    return [part + "\n" for part in parts[:-1]] + ([parts[-1]] if parts[-1] else [])
