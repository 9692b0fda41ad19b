"""Two small Totos to vendor from a folder, the steps between them, and what must hold of a destination and its lock."""

from __future__ import annotations

import shutil
from pathlib import Path, PurePosixPath

from file_trees import Snapshot, snapshot

from toto_patcher.patching import transaction
from toto_patcher.patching.change import FileChange, Plan, fingerprint
from toto_patcher.patching.vendor import vendor_path
from toto_patcher.patching.vendoring import vendor_lock

UTIL = b"""class TotoBackbone: pass
class TimeWiseMultiheadAttention: pass
class KVCache:
    def append(self): pass
    def reset(self): pass
    def seq_len(self): pass
    def __getitem__(self, layer): pass
"""
OLD = {
    "toto/__init__.py": b"",
    "toto/gone/old.py": b"OLD = 1\n",
    "toto/model/util.py": UTIL,
    "LICENSE": b"old terms\n",
    "NOTICE": b"a notice\n",
}
NEW = {
    "toto/__init__.py": b"",
    "toto/fresh/deep/new.json": b"{}\n",
    "toto/model/util.py": b"# newer\n" + UTIL,
    "LICENSE": b"new terms\n",
}
PATCHED = {**OLD, "toto/extra/added.py": b"ADDED = 1\n", "toto/model/util.py": b"# patched\n" + UTIL}
TREES: dict[str, dict[str, bytes]] = {"none": {}, "old": OLD, "new": NEW, "patched": PATCHED}
BESIDE = {"ours/work.py": b"only copy\n", "README.md": b"ours\n", "toto2/__init__.py": b""}

# action -> (tree before, tree after); file_driver.py knows what each does
STEPS = {"vendor-first": ("none", "new"), "vendor-upgrade": ("old", "new"), "vendor-force": ("patched", "new")}


def write(folder: Path, files: dict[str, bytes]) -> Path:
    """Lays files."""
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def lay(place: Path, tree: str) -> Path:
    """Fills an empty folder with the sources ``from-old``, ``from-new`` and a destination ``t``; returns that."""
    if place.exists():
        shutil.rmtree(place)
    write(place / "from-old", OLD)
    write(place / "from-new", NEW)
    root = place / "t"
    if tree == "none":
        return root
    vendor_path(place / "from-old", root)
    write(root, BESIDE)
    if tree == "patched":
        changes = [
            FileChange(PurePosixPath(name), OLD.get(name), OLD.get(name), data, ("p",))
            for name, data in PATCHED.items()
            if OLD.get(name) != data
        ]
        transaction.commit(Plan(root, tuple(changes), ("p",), None), backup=True)
    return root


def own(root: Path) -> dict[str, bytes]:
    """The files of the package and its licences on disk, after checking that everything beside them is untouched."""
    if not root.exists():
        return {}
    found = {name: data for name, (kind, _, data) in snapshot(root, ours=False).items() if kind == "-"}
    beside = {name: data for name, data in found.items() if not name.startswith("toto/") and "/" in name}
    beside |= {name: found[name] for name in ("README.md",) if name in found}
    assert beside in ({}, BESIDE)
    return {name: data for name, data in found.items() if name not in beside}


def tree_in_force(root: Path) -> str:
    """Which tree lies there; fails if it is a mixture, has anything left over, or has a lock that tells otherwise."""
    files = own(root)
    tree = next((name for name, expected in TREES.items() if expected == files), "mixed")
    assert tree != "mixed", sorted(files)
    lock_path = root.parent / "t.lock.toml"
    lock = vendor_lock.parse(lock_path.read_bytes()) if lock_path.exists() else None
    told = None if lock is None else {path.as_posix(): digest for path, digest in lock.files.items()}
    expected = TREES["old" if tree == "patched" else tree]
    assert told == ({name: fingerprint(data) for name, data in expected.items()} if expected else None)
    assert {path.name for path in root.parent.iterdir()} <= {"from-old", "from-new", "t", "t.lock.toml"}
    kept = {path.name for path in (root / ".toto-patch").glob("*")}
    # A run that was killed when all was done leaves its lock, which says nothing and blocks nobody.
    assert kept <= {"lock", ".gitignore", ".gitattributes", *(("state.json", "backups") if tree == "patched" else ())}, kept
    if tree == "new" and root.exists():
        assert not (root / "toto/gone").exists() and not (root / "toto/extra").exists()
    return tree


def assert_each_file_is_whole(root: Path, before: str, after: str) -> None:
    """No file has other bytes than one of the two trees gives it."""
    old, new, disk = TREES[before], TREES[after], own(root)
    for name in {*old, *new, *disk} - {name for name in disk if ".toto-patch-" in name}:
        assert disk.get(name) in (old.get(name), new.get(name)), name


def everything(root: Path) -> Snapshot:
    """The destination with its record, and what lies beside it."""
    return snapshot(root.parent)
