"""Real Toto trees for every test: ``toto_release`` (shared, read-only) and ``fresh_toto`` (a copy of one's own).

No Toto source is in this repository. The wheels are fetched once with pip, by hash, into the user's cache folder
(``$XDG_CACHE_HOME/toto-patch``, by default below ``~/.cache``) and unpacked there once; later runs need no network.

    def test_something(fresh_toto, tmp_path):
        root = fresh_toto("0.2.0", tmp_path)      # root / "toto" / "model" / "util.py" is writable

    @pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
    def test_reading(toto_release, version):
        root = toto_release(version)              # never write here: other tests and other runs read it
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendoring.releases import cache_folder, pinned_release, release_bytes

# Two workers fill a small machine: more threads, and Inductor's processes that compile, would only wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "1")

# Files whose tests share nothing that takes long to make: any of them may run beside any other.
SPREAD = ("tests/equivalence/test_ladder.py", "tests/cli/test_numerics.py", "tests/test_documents.py")
FORMS = "tests/test_patches.py"


class _ByFixture(LoadScopeScheduling):
    """Keeps on one worker the tests that share fixtures: those of a file; in test_patches.py those of one form."""

    def _split_scope(self, nodeid: str) -> str:
        path, _, test = nodeid.partition("::")
        if path == FORMS:
            _, bracket, form = test.partition("[")
            return f"{path}[{form}" if bracket else nodeid
        return nodeid if path in SPREAD else path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The many short tests of forms come last: they fill both workers to the end."""
    items.sort(key=lambda item: item.nodeid.startswith(FORMS))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """With ``--dist loadscope``, the scheduler above."""
    return _ByFixture(config, log) if config.getvalue("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def toto_release(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``toto_release(version)``: the folder that holds the original ``toto/`` of a pinned release. Read-only."""
    wheels = cache_folder()
    # Taken now: tests may point HOME and XDG_CACHE_HOME elsewhere later.
    base = tmp_path_factory.mktemp("releases") if wheels is None else wheels.parent / "test-releases"
    whole: set[str] = set()

    def release(version: str) -> Path:
        root = base / f"{version}-{pinned_release(version).sha256[:12]}"
        if version not in whole:
            with _one_at_a_time(base):
                if not _is_whole(root, version):
                    _unpack(root, version)
        whole.add(version)
        return root

    return release


@pytest.fixture(scope="session")
def fresh_toto(toto_release: Callable[[str], Path]) -> Callable[[str, Path], Path]:
    """``fresh_toto(version, folder)``: a writable copy of that release, ``folder/toto-<version>``."""

    def fresh(version: str, folder: Path) -> Path:
        return copy_tree(toto_release(version), folder / f"toto-{version}")

    return fresh


def copy_tree(source: Path, target: Path) -> Path:
    """Copies a tree with writable files (0644) and folders (0755), without bytecode; the target must not exist."""
    shutil.copytree(source, target, copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("__pycache__"))
    for folder, _, names in os.walk(target):
        Path(folder).chmod(0o755)
        for name in names:
            (Path(folder) / name).chmod(0o644)
    return target


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Keeps the other workers, and other runs, from looking at what is being laid down."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _is_whole(root: Path, version: str) -> bool:
    """True when the tree holds exactly the release's files with their bytes: nothing missing, edited or added."""
    files = [path for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__"]
    found = {path.relative_to(root).as_posix(): path for path in files}
    wanted = {path.as_posix(): digest for path, digest in pinned_release(version).files.items()}
    return found.keys() == wanted.keys() and all(
        fingerprint(path.read_bytes()) == wanted[name] for name, path in found.items()
    )


def _unpack(root: Path, version: str) -> None:
    """Lays the release down beside its place and renames it there, so that a killed worker leaves no half of a tree."""
    files = release_bytes(version)
    building = Path(tempfile.mkdtemp(prefix=f".{root.name}.", dir=root.parent))
    for path, data in files.items():
        target = building / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
        target.chmod(0o444)
    if root.exists():  # edited, or half of it gone
        shutil.rmtree(root)
    building.rename(root)
