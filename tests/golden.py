"""Golden diffs: what each patch does to the pinned release, without a line of upstream's source.

Lines that a patch inserts are its own and stand in clear text. Where it changes a line of upstream's, old and new line
are given by number and sha256 only. To write them anew after a patch was changed on purpose::

    python -m tests.golden --write
"""

from __future__ import annotations

import argparse
import difflib
import hashlib
import sys
import tempfile
from pathlib import Path

from toto_patcher.patching import series
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.plan import plan_selection
from toto_patcher.patching.vendoring.releases import release_bytes

RELEASE = "0.2.0"
NAME = "expected.diff"
HEAD = f"""\
# What this patch does to toto-ts {RELEASE}. Generated: python -m tests.golden --write
# A line that starts with +sha256 or -sha256 stands for a line of upstream's, before or after the change.
"""
ADDED = "@@ -0,0 @@ a file of this patch's, below the lines that say so\n"


def golden(patch: Patch, plan: Plan) -> str:
    """The golden diff of one patch; the plan is that of the patch and what it requires."""
    return HEAD + "".join(_file(change) for change in plan.changes if patch.id in change.patches)


def _file(change: FileChange) -> str:
    if change.pristine is None:
        return f"--- /dev/null\n+++ {change.path}\n{ADDED}"
    assert change.before is not None
    assert change.after is not None
    before, after = change.before.decode().split("\n"), change.after.decode().split("\n")
    lines = [f"--- {change.path} {fingerprint(change.before)}", f"+++ {change.path} {fingerprint(change.after)}"]
    matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
    for kind, start, end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            continue
        lines.append(f"@@ -{_range(start, end)} +{_range(new_start, new_end)} @@")
        lines += [f"-{_digest(line)}" for line in before[start:end]]
        lines += [f"+{line if kind == 'insert' else _digest(line)}" for line in after[new_start:new_end]]
    return "\n".join(lines) + "\n"


def _range(start: int, end: int) -> str:
    """As in ``diff -U0``: first line and count, the count left out when it is one."""
    count = end - start
    return f"{start + 1}" if count == 1 else f"{start + 1 if count else start},{count}"


def _digest(line: str) -> str:
    return "sha256 " + hashlib.sha256(line.encode()).hexdigest()[:16]


def plan_in(root: Path, patch: Patch) -> Plan:
    """The plan of one patch, with what it requires, for the tree at ``root``."""
    return plan_selection(Checkout.open(root), series.load().select(ids=(patch.id,)), pristine={})


def main() -> None:
    """Compares, or writes with ``--write``; exits 1 when a golden diff is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args().write
    stale = []
    with tempfile.TemporaryDirectory() as folder:
        for path, data in release_bytes(RELEASE).items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        for patch in series.load().patches:
            text = golden(patch, plan_in(Path(folder), patch))
            file = patch.folder / NAME
            if write:
                file.write_text(text, encoding="utf-8")
            elif not file.is_file() or file.read_text(encoding="utf-8") != text:
                stale.append(patch.id)
    if stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run: python -m tests.golden --write")


if __name__ == "__main__":
    main()
