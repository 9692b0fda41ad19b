"""Pinned releases are fetched by hash with pip, kept in the user's cache, and never believed without their hash."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

from toto_patcher.errors import RefusedError, StorageError, UsageError
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.vendoring.releases import (
    cache_folder,
    known_release,
    pinned_release,
    pinned_releases,
    release_bytes,
    wheel_bytes,
)

VERSIONS = ("0.1.3", "0.1.4", "0.2.0")
RELEASE = pinned_release("0.2.0")


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that is pip's only source, and an empty cache: no test here touches the network or the user's cache."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.fixture(scope="session")
def wheel_020() -> bytes:
    return wheel_bytes("0.2.0")


def test_the_pinned_versions_are_the_three_supported_ones() -> None:
    assert tuple(pinned_releases()) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_release_is_exactly_its_manifest(version: str) -> None:
    files = release_bytes(version)
    assert {path: fingerprint(data) for path, data in files.items()} == pinned_release(version).files
    assert {PurePosixPath("LICENSE"), PurePosixPath("NOTICE"), PurePosixPath("toto/model/util.py")} <= files.keys()
    assert {path.parts[0] for path in files} == {"toto", "LICENSE", "NOTICE", "LICENSE-3rdparty.csv"}


def test_pip_fetches_the_wheel_and_it_is_cached(wheel_020: bytes, index: Path) -> None:
    (index / RELEASE.wheel).write_bytes(wheel_020)
    assert wheel_bytes("0.2.0") == wheel_020
    (index / RELEASE.wheel).unlink()
    assert wheel_bytes("0.2.0") == wheel_020, "the second run must work offline"


def test_a_corrupt_cached_wheel_is_fetched_again(wheel_020: bytes, index: Path) -> None:
    (index / RELEASE.wheel).write_bytes(wheel_020)
    folder = cache_folder()
    assert folder is not None
    folder.mkdir(parents=True)
    (folder / RELEASE.wheel).write_bytes(wheel_020[:-1])
    assert release_bytes("0.2.0").keys() == RELEASE.files.keys()
    assert (folder / RELEASE.wheel).read_bytes() == wheel_020


def test_a_cache_that_cannot_be_written_costs_nothing_but_the_download(
    wheel_020: bytes, index: Path, tmp_path: Path
) -> None:
    (index / RELEASE.wheel).write_bytes(wheel_020)
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert wheel_bytes("0.2.0") == wheel_020


def test_a_wheel_of_another_hash_is_refused(wheel_020: bytes, index: Path, tmp_path: Path) -> None:
    (index / RELEASE.wheel).write_bytes(wheel_020 + b"tampered")
    with pytest.raises(RefusedError, match="another file than the pinned one") as caught:
        wheel_bytes("0.2.0")
    assert caught.value.exit_code == 3
    assert not (tmp_path / "cache").exists()


def test_no_network_and_no_cache_says_what_pip_said(index: Path) -> None:
    with pytest.raises(StorageError, match=r"could not fetch .*No matching distribution") as caught:
        wheel_bytes("0.2.0")
    assert caught.value.exit_code == 4
    assert str(cache_folder()) in str(caught.value.hint)


def test_an_unknown_version_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"0\.3\.0 .*0\.1\.3, 0\.1\.4, 0\.2\.0") as caught:
        release_bytes("0.3.0")
    assert caught.value.exit_code == 2


def test_a_python_without_pip_is_named(index: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(tmp_path / "bare")], check=True)
    bare = tmp_path / "bare" / "bin" / "python"
    code = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "from toto_patcher.errors import UsageError\n"
        "from toto_patcher.patching.vendoring.releases import wheel_bytes\n"
        "try: wheel_bytes('0.2.0')\n"
        "except UsageError as error: print(error, '|', error.hint)\n"
    )
    repository = Path(__file__).resolve().parents[2]
    done = subprocess.run([bare, "-c", code, repository], capture_output=True, text=True, check=True)
    assert f"this Python has no pip, which fetches {RELEASE.wheel} ({bare})" in done.stdout
    assert "-m ensurepip" in done.stdout


def test_a_pip_in_the_current_folder_is_not_run(
    wheel_020: bytes, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (index / RELEASE.wheel).write_bytes(wheel_020)
    (tmp_path / "pip.py").write_text("raise SystemExit('wrong pip')")
    monkeypatch.chdir(tmp_path)
    assert wheel_bytes("0.2.0") == wheel_020


def test_known_release_tells_a_tree_or_a_part_of_it() -> None:
    for version in VERSIONS:
        assert known_release(pinned_release(version).files) == version
    part = {PurePosixPath("toto/model/util.py"): pinned_release("0.1.3").files[PurePosixPath("toto/model/util.py")]}
    assert known_release(part) == "0.2.0", "the same in all releases: the newest is named"


def test_known_release_rejects_edits_additions_and_nothing() -> None:
    files = dict(RELEASE.files)
    assert known_release({**files, PurePosixPath("toto/model/util.py"): "0" * 64}) is None
    assert known_release({**files, PurePosixPath("toto/extra.py"): "0" * 64}) is None
    assert known_release({}) is None


def test_the_cache_follows_xdg_and_ignores_a_relative_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere" / "toto-patch" / "wheels"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert cache_folder() == tmp_path / ".cache" / "toto-patch" / "wheels"
