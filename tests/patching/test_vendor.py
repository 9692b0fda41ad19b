"""Vendoring: a release, a git revision or a folder becomes a tree and its lock, and nobody's work is overwritten."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

import pytest

from toto_patcher.errors import DriftError, LockedError, RefusedError, StorageError, UnsafePathError, UsageError
from toto_patcher.patching import git_program, vendor
from toto_patcher.patching.vendor import vendor_git, vendor_path, vendor_release
from toto_patcher.patching.vendoring import releases, vendor_lock
from toto_patcher.patching.vendoring.releases import pinned_release

VERSIONS = ("0.1.3", "0.1.4", "0.2.0")
UTIL = PurePosixPath("toto/model/util.py")


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file below a folder, hidden ones too: bytes and time of last change."""
    return {
        path.relative_to(folder).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def only_tree_and_lock(folder: Path) -> bool:
    return {path.name for path in folder.iterdir()} == {"toto", "toto.lock.toml"}


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "vendor" / "toto"


@pytest.fixture
def repository(fresh_toto: Callable[[str, Path], Path], tmp_path: Path) -> Path:
    """A git repository as upstream's: the package and its licences at the top, 0.1.4 tagged, 0.2.0 on a branch."""
    origin = tmp_path / "origin"
    for version, ref in (("0.1.4", ("tag", "v0.1.4")), ("0.2.0", ("branch", "next"))):
        tree = fresh_toto(version, tmp_path / "trees")
        if not origin.exists():
            tree.rename(origin)
            git(origin, "init", "-q", "-b", "main")
            (origin / ".gitattributes").write_text("*.py text eol=crlf\n")
        else:
            subprocess.run(["cp", "-r", f"{tree}/.", origin], check=True)
        git(origin, "add", "-A")
        git(origin, "commit", "-q", "-m", version)
        git(origin, *ref)
    git(origin, "reset", "-q", "--hard", "v0.1.4")
    return origin


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.autocrlf=false")
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull}
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=folder, check=True, capture_output=True, text=True, env=environment
    )
    return done.stdout.strip()


@pytest.mark.parametrize("version", VERSIONS)
def test_each_release_is_laid_down_whole_with_its_lock(version: str, dest: Path) -> None:
    done = vendor_release(version, dest)
    laid = {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()}
    assert laid == {path.as_posix() for path in pinned_release(version).files}
    assert {path: releases.fingerprint((dest / path).read_bytes()) for path in done.files} == done.files
    assert done.changed and done.release == version and done.root == dest
    lock = vendor_lock.parse(done.lock_path.read_bytes())
    assert lock is not None and lock.files == done.files and lock.release == version
    assert lock.source.details == {
        "version": version,
        "wheel": f"toto_ts-{version}-py3-none-any.whl",
        "sha256": pinned_release(version).sha256,
    }
    assert only_tree_and_lock(dest.parent)


def test_a_second_run_writes_nothing_and_needs_no_wheel(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor_release("0.2.0", dest)
    (dest / "toto" / "__pycache__").mkdir()
    (dest / "toto" / "__pycache__" / "x.pyc").write_bytes(b"bytecode is not an edit")
    before = snapshot(dest.parent)
    monkeypatch.setattr(vendor, "release_bytes", lambda version: pytest.fail("fetched for nothing"))
    assert not vendor_release("0.2.0", dest).changed
    assert snapshot(dest.parent) == before


def test_the_lock_is_deterministic(tmp_path: Path) -> None:
    locks = {vendor_release("0.2.0", tmp_path / name / "toto").lock_path.read_bytes() for name in ("one", "two")}
    assert len(locks) == 1


def test_an_unedited_release_is_replaced_by_another(dest: Path) -> None:
    vendor_release("0.1.3", dest)
    assert vendor_release("0.2.0", dest).changed
    assert {path.relative_to(dest).as_posix() for path in dest.rglob("*") if path.is_file()} == {
        path.as_posix() for path in pinned_release("0.2.0").files
    }


@pytest.mark.parametrize("lock", [None, b"not [toml", b"lock-version = 99\n"])
def test_a_missing_or_damaged_lock_is_written_anew(dest: Path, lock: bytes | None) -> None:
    done = vendor_release("0.2.0", dest)
    good = done.lock_path.read_bytes()
    done.lock_path.unlink()
    if lock is not None:
        done.lock_path.write_bytes(lock)
    tree = snapshot(dest)
    assert vendor_release("0.2.0", dest).changed
    assert done.lock_path.read_bytes() == good
    assert snapshot(dest) == tree
    assert only_tree_and_lock(dest.parent)


def edit(dest: Path) -> None:
    with (dest / UTIL).open("ab") as stream:
        stream.write(b"# mine\n")


def add(dest: Path) -> None:
    (dest / "toto" / "mine.py").write_bytes(b"")


def remove(dest: Path) -> None:
    (dest / UTIL).unlink()


def link(dest: Path) -> None:
    (dest / "toto" / "linked").symlink_to("/", target_is_directory=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (edit, r"toto/model/util\.py \(edited\)$"),
        (add, r"toto/mine\.py \(added\)$"),
        (remove, r"toto/model/util\.py \(missing\)$"),
        (link, r"toto/linked \(added\)$"),
    ],
)
@pytest.mark.parametrize("version", ["0.1.4", "0.2.0"])
def test_an_edited_tree_is_refused_by_file_name_and_kept(
    dest: Path, change: Callable[[Path], None], message: str, version: str
) -> None:
    vendor_release("0.2.0", dest)
    change(dest)
    before = snapshot(dest.parent)
    with pytest.raises(DriftError, match=message) as caught:
        vendor_release(version, dest)
    assert "--force" in str(caught.value.hint)
    assert snapshot(dest.parent) == before
    assert vendor_release(version, dest, force=True).release == version
    assert not (dest / "toto" / "mine.py").exists()
    assert only_tree_and_lock(dest.parent)


def test_somebody_elses_folder_is_refused(dest: Path) -> None:
    dest.mkdir(parents=True)
    (dest / "thesis.tex").write_text("years of work")
    with pytest.raises(DriftError, match=r"thesis\.tex: holds files that vendor did not put there"):
        vendor_release("0.2.0", dest)
    assert (dest / "thesis.tex").read_text() == "years of work"


def test_an_empty_folder_is_filled(dest: Path) -> None:
    dest.mkdir(parents=True)
    assert vendor_release("0.2.0", dest).changed


@pytest.mark.parametrize(("name", "hint"), [("state.json", "revert"), ("journal.json", "recover")])
def test_a_patched_or_interrupted_tree_is_refused(dest: Path, name: str, hint: str) -> None:
    vendor_release("0.2.0", dest)
    (dest / ".toto-patch").mkdir()
    (dest / ".toto-patch" / name).write_text("{}")
    before = snapshot(dest.parent)
    for version in ("0.2.0", "0.1.3"):
        with pytest.raises(RefusedError) as caught:
            vendor_release(version, dest)
        assert f"toto-patch {hint}" in str(caught.value.hint)
    assert snapshot(dest.parent) == before
    assert vendor_release("0.2.0", dest, force=True).changed
    assert not (dest / ".toto-patch").exists()


def test_a_reverted_tree_counts_as_unpatched(dest: Path) -> None:
    vendor_release("0.2.0", dest)
    (dest / ".toto-patch").mkdir()
    (dest / ".toto-patch" / "lock").touch()
    assert not vendor_release("0.2.0", dest).changed
    assert vendor_release("0.1.3", dest).changed


def test_a_git_checkout_in_the_destination_is_refused_even_by_force(dest: Path) -> None:
    vendor_release("0.2.0", dest)
    git(dest, "init", "-q")
    with pytest.raises(RefusedError, match="git checkout of its own"):
        vendor_release("0.1.3", dest, force=True)


@pytest.mark.parametrize("kind", ["dangling link", "link to a folder", "file"])
def test_a_destination_that_is_no_folder_is_refused(dest: Path, tmp_path: Path, kind: str) -> None:
    dest.parent.mkdir()
    (tmp_path / "other").mkdir()
    if kind == "file":
        dest.write_text("mine")
    else:
        dest.symlink_to(tmp_path / ("other" if kind == "link to a folder" else "nowhere"))
    with pytest.raises(UnsafePathError, match="no plain folder"):
        vendor_release("0.2.0", dest, force=True)
    assert list((tmp_path / "other").iterdir()) == []


def test_one_may_stand_in_the_tree_that_is_replaced(dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vendor_release("0.2.0", dest)
    monkeypatch.chdir(dest / "toto")
    assert vendor_release("0.1.3", dest).changed
    assert Path.cwd() == dest / "toto" and Path("model/util.py").exists()


@contextmanager
def another_writer(root: Path) -> Iterator[None]:
    """Another process that holds the lock of a checkout."""
    code = (
        "import sys\nfrom pathlib import Path\nfrom toto_patcher.patching import transaction\n"
        "with transaction.exclusive(Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()\n"
    )
    command = [sys.executable, "-c", code, str(root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield
        process.communicate()


def test_two_runs_at_once_are_refused_with_exit_4(dest: Path) -> None:
    vendor_release("0.2.0", dest)
    before = snapshot(dest.parent)
    with another_writer(dest):
        with pytest.raises(LockedError) as caught:
            vendor_release("0.1.3", dest)
        assert caught.value.exit_code == 4
    assert snapshot(dest.parent) == before


def test_git_branch_tag_and_commit_give_the_bytes_of_the_commit(repository: Path, dest: Path) -> None:
    head = git(repository, "rev-parse", "main")
    for rev, version in (("v0.1.4", "0.1.4"), ("next", "0.2.0"), (head[:10], "0.1.4"), ("main", "0.1.4")):
        done = vendor_git(str(repository), rev, dest)
        assert done.release == version, "bytes of the object database, whatever .gitattributes says"
        expected = git(repository, "rev-parse", f"{rev}^{{commit}}")
        assert done.source.details == {"url": str(repository), "rev": rev, "commit": expected}
        lock = vendor_lock.parse(done.lock_path.read_bytes())
        assert lock is not None and lock.source == done.source
    assert not vendor_git(str(repository), "main", dest).changed


def test_git_takes_a_commit_that_no_branch_reaches(repository: Path, dest: Path) -> None:
    commit = git(repository, "rev-parse", "next")
    git(repository, "branch", "-q", "-D", "next")
    git(repository, "config", "uploadpack.allowAnySHA1InWant", "true")
    assert vendor_git(repository.as_uri(), commit, dest).release == "0.2.0"


def test_git_ignores_the_repository_of_a_hook_that_calls(
    repository: Path, dest: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q", "hooked")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "hooked" / ".git"))
    assert vendor_git(str(repository), "v0.1.4", dest).release == "0.1.4"


@pytest.mark.parametrize("rev", ["no-such-branch", "--upload-pack=touch {}; git-upload-pack", ""])
def test_git_refuses_an_unknown_or_dangerous_revision(repository: Path, dest: Path, tmp_path: Path, rev: str) -> None:
    with pytest.raises(UsageError):
        vendor_git(str(repository), rev.format(tmp_path / "pwned"), dest)
    assert not dest.exists()
    assert not (tmp_path / "pwned").exists(), "a revision must not be an option of git"


def test_git_that_cannot_be_cloned_is_exit_4(dest: Path, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="cannot clone") as caught:
        vendor_git(str(tmp_path / "nothing"), "main", dest)
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("url", ["ext::sh -c touch% pwned", "--upload-pack=x"])
def test_git_runs_no_command_hidden_in_an_address(url: str, dest: Path, tmp_path: Path) -> None:
    with pytest.raises((UsageError, StorageError)):
        vendor_git(url, "main", dest)
    assert not list(tmp_path.rglob("pwned"))


def test_git_refuses_a_symbolic_link_in_the_package(repository: Path, dest: Path) -> None:
    (repository / "toto" / "link.py").symlink_to("/etc/passwd")
    git(repository, "add", "-A")
    git(repository, "commit", "-q", "-m", "link")
    with pytest.raises(UnsafePathError, match=r"toto/link\.py"):
        vendor_git(str(repository), "main", dest)


def commit_with(repository: Path, name: bytes, kind: str = "100644") -> None:
    """A branch ``evil`` whose package holds one more entry, which git's own commands would not make."""

    def run(*command: str, given: bytes = b"") -> bytes:
        return subprocess.run(["git", *command], cwd=repository, input=given, capture_output=True, check=True).stdout

    blob = run("hash-object", "-w", "--stdin", given=b"x").decode().strip()
    inner = run("mktree", given=f"100644 blob {blob}\tconfig\n".encode()).decode().strip()
    entry = kind.encode() + b" " + name + b"\0" + bytes.fromhex(inner if kind == "40000" else blob)
    package = run("cat-file", "tree", "HEAD:toto") + entry
    tree = run("hash-object", "-t", "tree", "-w", "--stdin", "--literally", given=package).decode().strip()
    top = run("mktree", given=f"040000 tree {tree}\ttoto\n".encode()).decode().strip()
    commit = git(repository, "commit-tree", "-m", "evil", top)
    git(repository, "update-ref", "refs/heads/evil", commit)


@pytest.mark.parametrize("kind", ["100644", "40000"], ids=["file", "folder"])
@pytest.mark.parametrize(
    "name",
    [
        *(b".git", b".GIT", b"git~1", b"GIT~1", b".git.", b".git ", b".git . ", b".git::$INDEX_ALLOCATION"),
        *(".g\u200cit".encode(), "\ufeff.git".encode(), b".hidden", b".gitmodules", b".pth"),
        *(b"a\nb.py", b"a\x1b[2J.py", b"a\x7f.py", "a\u202e.py".encode(), b"a\xff.py", b"a\\b.py"),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("checked", [True, False], ids=["by git too", "by us alone"])
def test_git_writes_only_names_that_a_package_has(
    name: bytes, kind: str, checked: bool, repository: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not checked:
        monkeypatch.setattr(git_program, "_CHECKED", ())
    commit_with(repository, name, kind)
    with pytest.raises(RefusedError) as refusal:
        vendor_git(str(repository), "evil", dest)
    assert checked or repr(name.decode(errors="surrogateescape"))[1:-1] in refusal.value.message
    assert not dest.exists()


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"])
def test_git_of_a_surrounding_hook_is_not_asked(
    variable: str, repository: Path, dest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, str(tmp_path / "other"))
    assert vendor_git(str(repository), "next", dest).changed
    assert not (tmp_path / "other").exists()


def test_git_takes_a_folder_by_its_relative_name(repository: Path, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository.parent)
    assert vendor_git(repository.name, "next", dest).changed


def test_git_that_does_not_trust_the_owner_is_a_refusal(
    repository: Path, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(RefusedError, match="dubious ownership"):
        vendor_git(str(repository), "next", dest)


def test_git_finds_a_package_that_lies_deeper(repository: Path, dest: Path) -> None:
    (repository / "src").mkdir()
    git(repository, "mv", "toto", "LICENSE", "src")
    git(repository, "commit", "-q", "-m", "deeper")
    files = vendor_git(str(repository), "main", dest).files
    assert UTIL in files and PurePosixPath("LICENSE") in files


def test_credentials_do_not_reach_the_lock() -> None:
    assert vendor._without_credentials("https://me:secret@example.org/x.git") == "https://example.org/x.git"
    assert vendor._without_credentials("git@example.org:x.git") == "git@example.org:x.git"


@pytest.mark.parametrize("inner", ["", "src", "toto"])
def test_a_folder_is_vendored_without_caches(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path, dest: Path, inner: str
) -> None:
    tree = fresh_toto("0.1.3", tmp_path)
    (tree / "toto" / "model" / "util.py").write_bytes(b"# mine\n" + (tree / "toto" / "model" / "util.py").read_bytes())
    (tree / "toto" / "__pycache__").mkdir()
    (tree / "toto" / "__pycache__" / "a.pyc").touch()
    (tree / "unrelated.txt").touch()
    given = tree
    if inner == "toto":
        given = tree / "toto"
    elif inner:
        (tmp_path / "project").mkdir()
        tree = tree.rename(tmp_path / "project" / inner)
        given = tmp_path / "project"
    done = vendor_path(given, dest)
    assert done.files.keys() == pinned_release("0.1.3").files.keys()
    assert (dest / UTIL).read_bytes().startswith(b"# mine\n")
    assert done.release is None
    assert done.source.details == {"path": given.as_posix()}
    assert not vendor_path(given, dest).changed


def test_a_folder_without_toto_is_refused(tmp_path: Path, dest: Path) -> None:
    (tmp_path / "toto").mkdir()
    (tmp_path / "toto" / "__init__.py").write_text("class Toto: pass  # another package of the same name\n")
    with pytest.raises(RefusedError, match=r"no Toto 1\.0 package"):
        vendor_path(tmp_path, dest)
    with pytest.raises(UsageError, match="no such folder"):
        vendor_path(tmp_path / "missing", dest)
    assert not dest.exists()


@pytest.mark.parametrize("part", [b"class KVCache", b"class TotoBackbone", b"class TimeWise", b"    def append("])
def test_a_package_that_lacks_a_part_of_toto_is_refused(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path, dest: Path, part: bytes
) -> None:
    tree = fresh_toto("0.2.0", tmp_path)
    keyword, space, name = part.rpartition(b" ")
    for path in tree.rglob("*.py"):
        path.write_bytes(path.read_bytes().replace(part, keyword + space + b"Other" + name))
    with pytest.raises(RefusedError, match=r"no Toto 1\.0 package"):
        vendor_path(tree, dest)


def test_a_folder_with_two_totos_is_refused_by_name(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path, dest: Path
) -> None:
    for version in ("0.1.3", "0.2.0"):
        fresh_toto(version, tmp_path / "many")
    with pytest.raises(RefusedError, match=r"toto-0\.1\.3, .*toto-0\.2\.0"):
        vendor_path(tmp_path / "many", dest)


def test_a_patched_folder_is_refused(fresh_toto: Callable[[str, Path], Path], tmp_path: Path, dest: Path) -> None:
    tree = fresh_toto("0.2.0", tmp_path)
    (tree / ".toto-patch").mkdir()
    (tree / ".toto-patch" / "state.json").write_text("{}")
    with pytest.raises(RefusedError, match="is patched"):
        vendor_path(tree, dest)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_folder_with_symbolic_links_is_refused(
    fresh_toto: Callable[[str, Path], Path], tmp_path: Path, dest: Path, kind: str
) -> None:
    tree = fresh_toto("0.2.0", tmp_path)
    (tree / "toto" / "data.py").symlink_to("/etc/passwd" if kind == "file" else "/etc")
    with pytest.raises(UnsafePathError, match=r"toto/data\.py"):
        vendor_path(tree, dest)
    assert not dest.exists()


def test_the_destination_is_not_its_own_source(dest: Path) -> None:
    vendor_release("0.2.0", dest)
    with pytest.raises(UsageError, match="lies in the destination"):
        vendor_path(dest / "toto", dest)
