"""Promises 10 and 14: revert restores bytes and modes, and the same inputs give the same bytes."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path, PurePosixPath

from file_trees import build, plan_for, snapshot
from hypothesis import given, settings
from hypothesis import strategies as st
from promise_checks import NOW

from toto_patcher.patching import restore, transaction
from toto_patcher.patching.change import FileChange, Plan

contents = st.one_of(
    st.binary(max_size=200),
    st.lists(st.sampled_from(["class A:", "    pass", "", "\té", "x = 1"]), max_size=8).flatmap(
        lambda lines: st.tuples(
            st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.sampled_from(["", "\ufeff", "# coding: utf-8\n"])
        ).map(lambda how: (how[2] + how[0].join(lines) + (how[0] if how[1] else "")).encode())
    ),
)


names = st.sampled_from(
    ["a.py", "é中.py", "with space.py", "n" * 250 + ".py", "sub/b.py", "sub/deep/er/c.py", "-rf.py"]
)


modes = st.integers(0, 0o777).map(lambda mode: mode | 0o600) | st.sampled_from([0o4755, 0o2711, 0o1644, 0o200, 0o222])


@settings(max_examples=60, deadline=None)
@given(
    files=st.dictionaries(names, st.tuples(st.none() | contents, st.none() | contents, modes), min_size=1),
    bystander=contents,
    backup=st.booleans(),
)
def test_promise_10_revert_restores_bytes_and_modes(
    files: dict[str, tuple[bytes | None, bytes | None, int]], bystander: bytes, backup: bool
) -> None:
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        root = Path(folder)
        (root / "bystander.py").write_bytes(bystander)
        changes = []
        for name, (old, new, mode) in files.items():
            if old is not None:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                (root / name).write_bytes(old)
                mode &= 0o777 if new is None else 0o7777  # a record of a file that is gone knows no other bits
                (root / name).chmod(mode if os.geteuid() == 0 else mode | 0o400)
            changes.append(FileChange(PurePosixPath(name), old, old, new, ("p",)))
        before = snapshot(root)
        state = transaction.commit(Plan(root, tuple(changes), ("p",)), backup=True, now=NOW)
        for name, (_, new, _) in files.items():
            assert ((root / name).read_bytes() if (root / name).exists() else None) == new
        if not backup:
            back = Plan(root, tuple(FileChange(c.path, c.pristine, c.after, c.pristine) for c in changes), ())
        else:
            back = restore.plan_revert(root, state)
        assert transaction.commit(back, backup=True) is None
        assert snapshot(root) == before


def test_promise_10_stale_bytecode_goes_with_apply_and_with_revert(root: Path) -> None:
    cache = root / "toto/model/__pycache__"
    extra = root / "toto/extra/__pycache__"

    def compile_everything() -> None:
        for folder, names in ((cache, ("util", "attention", "other")), (extra, ("added",))):
            if folder.parent.exists():
                folder.mkdir(exist_ok=True)
                for name in names:
                    (folder / f"{name}.cpython-311.pyc").write_bytes(b"compiled")
                    (folder / f"{name}.cpython-311.opt-1.pyc").write_bytes(b"compiled")

    compile_everything()
    others = {"other.cpython-311.pyc", "other.cpython-311.opt-1.pyc"}
    transaction.commit(plan_for(root, "first"), backup=True)
    assert {path.name for path in cache.iterdir()} == others
    compile_everything()
    transaction.commit(plan_for(root, "none"), backup=True)
    assert {path.name for path in cache.iterdir()} == others
    assert not (root / "toto/extra").exists()


def test_promise_10_a_cache_of_only_stale_bytecode_goes_too(root: Path) -> None:
    before = snapshot(root)
    transaction.commit(plan_for(root, "first"), backup=True)
    (root / "toto/model/__pycache__").mkdir()
    (root / "toto/model/__pycache__/util.cpython-312.pyc").write_bytes(b"compiled")
    transaction.commit(plan_for(root, "none"), backup=True)
    assert snapshot(root) == before


def test_promise_14_the_same_inputs_give_the_same_bytes(workspace: Path) -> None:
    trees = []
    for name in ("one", "two"):
        root = build(workspace / name)
        transaction.commit(plan_for(root, "first"), backup=True, now=NOW, release="0.2.0", git_commit="abcd")
        transaction.commit(plan_for(root, "second"), backup=True, now=NOW)
        trees.append(snapshot(root))
    assert trees[0] == trees[1]
    assert ".toto-patch/state.json" in trees[0]
