"""A small synthetic checkout and hand-made plans over it, for the tests of everything that writes files."""

from __future__ import annotations

import os
import stat
from pathlib import Path, PurePosixPath

from toto_patcher.patching.change import FileChange, Plan

OLD: dict[str, tuple[bytes, int]] = {
    "toto/__init__.py": (b"", 0o644),
    "toto/model/attention.py": (b"\xef\xbb\xbfclass Attention:\r\n    pass\r\n", 0o640),
    "toto/model/rope.py": (b"# -*- coding: latin-1 -*-\nNAME = '\xe9'", 0o600),
    "toto/model/util.py": (b"class KVCache:\n    size = 1\n", 0o755),
    "LICENSE": (b"licence\n", 0o644),
}
SELECTIONS: dict[str, dict[str, bytes]] = {
    "none": {},
    "first": {
        "toto/extra/added.py": b"ADDED = 1\n",
        "toto/model/attention.py": b"\xef\xbb\xbfclass Attention:\r\n    fast = True\r\n",
        "toto/model/util.py": b"class KVCache:\n    size = [1]\n",
    },
    "second": {
        "toto/model/attention.py": b"\xef\xbb\xbfclass Attention:\r\n    fast = 'very'\r\n",
        "toto/model/rope.py": b"# -*- coding: latin-1 -*-\nNAME = '\xe8'",
    },
}
Snapshot = dict[str, tuple[str, int, bytes]]


def build(root: Path) -> Path:
    """Lays the original files."""
    for name, (data, mode) in OLD.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
        path.chmod(mode)
    return root


def plan_for(root: Path, selection: str) -> Plan:
    """The plan from what is on disk to a selection."""
    changes = []
    for name in sorted({*OLD, *SELECTIONS["first"], *SELECTIONS["second"]}):
        path = root / name
        pristine = OLD[name][0] if name in OLD else None
        before = path.read_bytes() if path.exists() else None
        after = SELECTIONS[selection].get(name, pristine)
        if not pristine == before == after:
            patches = (selection,) if name in SELECTIONS[selection] else ()
            changes.append(FileChange(PurePosixPath(name), pristine, before, after, patches))
    patches = () if selection == "none" else (selection,)
    return Plan(root, tuple(changes), patches, None if selection == "none" else f"profile-{selection}")


def snapshot(root: Path, *, ours: bool = True) -> Snapshot:
    """Everything below a root: kind, permission bits and bytes by relative path.

    Args:
        root: the folder.
        ours: with what lies in ``.toto-patch``.
    """
    found: Snapshot = {}
    for folder, folders, files in os.walk(root):
        if not ours and ".toto-patch" in folders:
            folders.remove(".toto-patch")
        for name in [*folders, *files]:
            path = Path(folder, name)
            status = path.lstat()
            kind = stat.filemode(status.st_mode)[0]
            data = path.read_bytes() if kind == "-" else os.fsencode(path.readlink()) if kind == "l" else b""
            found[path.relative_to(root).as_posix()] = (kind, stat.S_IMODE(status.st_mode), data)
    return found


def sources(selection: str) -> dict[str, bytes]:
    """The source files that a checkout with this selection has."""
    return {**{name: data for name, (data, _) in OLD.items()}, **SELECTIONS[selection]}


def sources_on_disk(root: Path) -> dict[str, bytes]:
    """The plain files below a root, without ``.toto-patch``."""
    return {name: data for name, (kind, _, data) in snapshot(root, ours=False).items() if kind == "-"}
