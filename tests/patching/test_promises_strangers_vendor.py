"""Promise 16 for vendor: a lock, a wheel or a commit from a stranger can do nothing but be refused, or be right.

The suite tries a sample. All of them: set TOTO_PATCH_MUTATIONS=10000.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import random
import shutil
import stat
import subprocess
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
from file_trees import snapshot
from vendor_trees import BESIDE, NEW, OLD, lay, own, write

from toto_patcher.errors import TotoPatchError
from toto_patcher.patching import vendor
from toto_patcher.patching.vendor import vendor_git, vendor_path
from toto_patcher.patching.vendoring import names, vendor_lock
from toto_patcher.patching.vendoring.lock_file import LockFile
from toto_patcher.patching.vendoring.wheel import read_wheel

MUTATIONS = int(os.environ.get("TOTO_PATCH_MUTATIONS", "200"))
SEED = int(os.environ.get("TOTO_PATCH_SEED", "16"))
NAMES = [
    "../t2/x.py", "toto/../../x.py", "/etc/x.py", "toto/.git/config", "toto/.git/hooks/post-checkout", ".git/config",
    "toto//a.py", "toto/./a.py", "toto/a\x1b[31m.py", "toto/a\nb.py", "TOTO/model/util.py", "toto/model/UTIL.py",
    "toto/model/util.py/x.py", "toto/model", "toto", "toto\\..\\x.py", "C:/x.py", "toto/a\u202e.py", "LICENSE/x",
    "licence", "NOTICE ", "toto/" + "x" * 300 + ".py", "toto/" + "d/" * 600 + "x.py", "toto/\0.py", "", ".", "..",
    ".toto-patch/state.json", "toto/.toto-patch-0000000000000000-1.tmp", "toto/__pycache__/util.cpython-311.pyc",
    "t.lock.toml", "toto/caf\u00e9.py", "toto/nul", "toto/-rf", "toto/$(id).py",
]  # fmt: skip


@pytest.fixture
def place(workspace: Path) -> Path:
    return workspace / "place"


def damaged(data: bytes, dice: random.Random) -> bytes:
    """Bytes with one to five of them changed, cut out, put in or doubled."""
    found = bytearray(data)
    for _ in range(dice.randint(1, 5)):
        at = dice.randrange(len(found) + 1)
        kind = dice.randrange(5)
        if kind == 0 and found:
            found[min(at, len(found) - 1)] = dice.randrange(256)
        elif kind == 1:
            del found[at : at + dice.choice([1, 2, 10, 1000])]
        elif kind == 2:
            found[at:at] = dice.randbytes(dice.choice([1, 4, 100]))
        elif kind == 3:
            found[at:at] = found[at : at + 50]
        elif found:
            at = min(at, len(found) - 1)
            found[at] ^= 1 << dice.randrange(8)
    return bytes(found)


def tried(place: Path, attempt: Callable[[], dict[str, bytes]]) -> bool:
    """Whether an attempt ended right rather than refused; fails if it did anything else."""
    root = place / "t"
    before = snapshot(place.parent)
    try:
        wanted = attempt()
    except TotoPatchError as error:
        assert error.exit_code in (2, 3, 4), error
        assert str(error).isprintable() or "\n" not in str(error)
        assert snapshot(place.parent) == before
        return False
    after = snapshot(place.parent)
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    allowed = ("place/t/toto", "place/t/LICENSE", "place/t/NOTICE", "place/t.lock.toml")
    assert all(name == "place/t" or name.startswith(allowed) for name in changed), changed
    found = own(root)
    assert found == wanted
    assert names.fault(found) is None
    lock = LockFile(root).read()
    assert lock is not None and {path.as_posix() for path in lock.files} == wanted.keys()
    return True


def mutated_lock(data: bytes, dice: random.Random) -> bytes:
    """A lock with damaged bytes, or a well-formed one that says something else."""
    if dice.random() < 0.4:
        return damaged(data, dice)
    lock = vendor_lock.parse(data)
    assert lock is not None
    files = {path.as_posix(): digest for path, digest in lock.files.items()}
    details = dict(lock.source.details)
    for _ in range(dice.randint(1, 3)):
        kind = dice.randrange(5)
        if kind == 0:
            files[dice.choice(NAMES)] = dice.choice([*files.values(), "0" * 64, "x", ""])
        elif kind == 1 and files:
            files.pop(dice.choice(sorted(files)))
        elif kind == 2 and files:
            files[dice.choice(sorted(files))] = dice.choice(["0" * 64, *files.values(), "../x"])
        elif kind == 3:
            details[dice.choice(["path", "url", "commit", "rev", "version"])] = dice.choice(
                [*NAMES, "/", "../from-new", "ext::touch x", "--upload-pack=x", "/dev/zero", "~"]
            )
        else:
            details.pop("path", None)
    source = f'[source]\nkind = "{dice.choice(["path", "git", "release", "x"])}"\n'
    source += "".join(f"{key} = {vendor_lock._string(value)}\n" for key, value in details.items())
    lines = "".join(f"{vendor_lock._string(name)} = {vendor_lock._string(value)}\n" for name, value in files.items())
    return f"lock-version = {dice.choice([1, 1, 1, 2])}\n{source}[files]\n{lines}".encode("utf-8", "replace")


def test_a_mutated_lock(place: Path) -> None:
    dice, right = random.Random(SEED), 0
    lay(place, "old")
    write(place.parent / "outside", {"x.py": b"theirs\n"})
    good = (place / "t.lock.toml").read_bytes()
    kept = place.with_name("kept")
    shutil.copytree(place, kept)
    for number in range(MUTATIONS // 2):
        shutil.rmtree(place)
        shutil.copytree(kept, place)
        (place / "t.lock.toml").write_bytes(mutated_lock(good, dice))
        force = dice.random() < 0.5

        def attempt(number: int = number, force: bool = force) -> dict[str, bytes]:
            vendor_path(place / "from-new", place / "t", force=force)
            left = {"NOTICE": OLD["NOTICE"]} if (place / "t/NOTICE").exists() else {}
            lock = LockFile(place / "t").read()
            assert lock is not None and lock.files.keys() == set(map(PurePosixPath, NEW)), number
            (place / "t/NOTICE").unlink(missing_ok=True)  # not in the stranger's lock: then it is not ours to remove
            assert left in ({}, {"NOTICE": OLD["NOTICE"]})
            return NEW

        right += tried(place, attempt)
    assert right, "none of them was taken: the sample cannot show that a right one is"


def mutated_wheel(dice: random.Random) -> bytes:
    """A wheel with damaged bytes, or a well-formed one with hostile entries."""
    buffer = io.BytesIO()
    entries: list[tuple[zipfile.ZipInfo | str, bytes]] = [
        (name if name.startswith("toto/") else f"toto_ts-9.dist-info/licenses/{name}", data)
        for name, data in NEW.items()
    ]
    hostile = dice.random() < 0.6
    if hostile:
        for _ in range(dice.randint(1, 3)):
            kind = dice.randrange(5)
            name = dice.choice(NAMES)
            if kind == 0:
                entries.insert(dice.randrange(len(entries) + 1), (name or "/", b"evil\n"))
            elif kind == 1:
                link = zipfile.ZipInfo(dice.choice(["toto/link.py", "toto/model", name or "x"]))
                link.external_attr = (dice.choice([stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR]) | 0o777) << 16
                entries.append((link, b"/etc/passwd"))
            elif kind == 2:
                entries.append((dice.choice(entries)[0], b"twice"))
            elif kind == 3:
                entries.append(("toto/bomb.py", b"\0" * dice.choice([1000, 2_000_000])))
            else:
                entries.append((f"{name.replace(chr(0), '')}.dist-info/RECORD", b""))
    record = "".join(
        f"{name},sha256={base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b'=').decode()},{len(data)}\n"
        for name, data in ((getattr(entry, "filename", entry), data) for entry, data in entries)
    )
    if dice.random() < 0.1:
        record = damaged(record.encode(), dice).decode("utf-8", "replace")
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", dice.choice([0, 8, 8, 12, 14])) as archive:
        warnings.simplefilter("ignore")
        for entry, data in entries:
            archive.writestr(entry, data)
        archive.writestr("toto_ts-9.dist-info/RECORD", record.encode("utf-8", "replace"))
    data = buffer.getvalue()
    return data if hostile and dice.random() < 0.8 else damaged(data, dice)


def laid(place: Path, files: dict[PurePosixPath, bytes]) -> dict[str, bytes]:
    """Vendors files that were read from somewhere."""
    source = vendor_lock.Source("release", {"version": "9", "wheel": "w.whl", "sha256": "0" * 64})
    target = vendor._Target.of(place / "t", force=False)
    vendor._lay_down(source, vendor._fingerprints(files), lambda: files, target, lambda previous: None)
    return {path.as_posix(): data for path, data in files.items()}


def test_a_mutated_wheel(place: Path) -> None:
    dice = random.Random(SEED + 1)
    write(place.parent / "outside", {"x.py": b"theirs\n"})
    for _ in range(MUTATIONS * 47 // 100):
        lay(place, "none")
        write(place / "t", BESIDE) if dice.random() < 0.2 else None
        wheel = mutated_wheel(dice)
        tried(place, lambda wheel=wheel: laid(place, read_wheel(wheel, "w.whl")))


def hostile_commit(repository: Path, dice: random.Random) -> str:
    """A commit whose trees have entries that git itself would never write."""

    def run(*command: str, data: bytes = b"") -> str:
        done = subprocess.run(["git", *command], cwd=repository, input=data, capture_output=True, check=True)
        return done.stdout.decode().strip()

    def tree(entries: list[tuple[str, str, str]]) -> str:
        data = b"".join(
            f"{mode} {name}".encode("utf-8", "replace").replace(b"\0", b"?") + b"\0" + bytes.fromhex(sha)
            for mode, name, sha in entries
        )
        return run("hash-object", "-t", "tree", "-w", "--stdin", "--literally", data=data)

    blob = {name: run("hash-object", "-w", "--stdin", data=data) for name, data in NEW.items()}
    evil = run("hash-object", "-w", "--stdin", data=b"evil\n")
    model = [("100644", "util.py", blob["toto/model/util.py"])]
    package = [("100644", "__init__.py", blob["toto/__init__.py"])]
    top = [("100644", "LICENSE", blob["LICENSE"])]
    for _ in range(dice.randint(1, 2)):
        mode = dice.choice(["100644", "100755", "120000", "160000", "40000", "100644", "100666"])
        sha = tree(model) if mode == "40000" else evil
        name = dice.choice([*NAMES, ".git", ".GIT", "git~1", "..", "config", "UTIL.py", "util.py"]) or "x"
        dice.choice([model, package, top]).append((mode, name.removeprefix("toto/"), sha))
    package.append(("40000", "model", tree(model)))
    top.append(("40000", "toto", tree(package)))
    return run("-c", "user.name=t", "-c", "user.email=t@t", "commit-tree", "-m", "x", tree(top))


def test_a_hostile_commit(place: Path, workspace: Path) -> None:
    dice = random.Random(SEED + 2)
    origin = workspace / "origin"
    write(place.parent / "outside", {"x.py": b"theirs\n"})
    for _ in range(max(6, MUTATIONS * 3 // 100)):
        shutil.rmtree(origin, ignore_errors=True)
        origin.mkdir()
        subprocess.run(["git", "init", "-q", "-b", "main"], cwd=origin, check=True)
        commit = hostile_commit(origin, dice)
        subprocess.run(["git", "update-ref", "refs/heads/main", commit], cwd=origin, check=True)
        lay(place, "none")

        def attempt() -> dict[str, bytes]:
            done = vendor_git(str(origin), "main", place / "t")
            found = own(place / "t")
            assert found.keys() == {path.as_posix() for path in done.files}
            return found

        tried(place, attempt)
