"""The pinned releases of Toto 1.0: which there are, what is in them, and how their wheels are fetched and kept."""

from __future__ import annotations

import functools
import json
import os
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from toto_patcher.errors import RefusedError, StorageError, UsageError
from toto_patcher.patching.change import fingerprint

DISTRIBUTION = "toto-ts"
DEFAULT_RELEASE = "0.2.0"


@dataclass(frozen=True)
class Release:
    """One pinned release.

    Attributes:
        version: as on PyPI.
        wheel: the wheel's file name.
        sha256: of the wheel.
        files: the vendored files (``toto/...`` and the licences) -> sha256.
    """

    version: str
    wheel: str
    sha256: str
    files: Mapping[PurePosixPath, str]


@functools.cache
def pinned_releases() -> Mapping[str, Release]:
    """All pinned releases by version, oldest first. Needs neither network nor cache."""
    text = Path(__file__).with_name("releases.json").read_text(encoding="utf-8")
    return {
        version: Release(
            version=version,
            wheel=entry["wheel"],
            sha256=entry["sha256"],
            files={PurePosixPath(path): digest for path, digest in entry["files"].items()},
        )
        for version, entry in json.loads(text).items()
    }


def pinned_release(version: str) -> Release:
    """The pinned release of one version.

    Raises:
        UsageError: the version is not pinned.
    """
    releases = pinned_releases()
    if version not in releases:
        known = ", ".join(releases)
        raise UsageError(
            f"Toto {version} is not a pinned release (pinned: {known})",
            hint="pick one of these, or vendor any other revision with --from-git URL --rev R or --from-path DIR",
        )
    return releases[version]


def known_release(fingerprints: Mapping[PurePosixPath, str]) -> str | None:
    """The newest pinned release that has every one of these files with these bytes, or None.

    Args:
        fingerprints: path relative to the folder that holds ``toto/`` -> sha256; a whole tree or only the files of
            interest (``model/util.py`` for one is the same in all releases, so it alone fits each of them).
    """
    if not fingerprints:
        return None
    for release in reversed(list(pinned_releases().values())):
        if fingerprints.items() <= release.files.items():
            return release.version
    return None


def release_bytes(version: str) -> Mapping[PurePosixPath, bytes]:
    """The original bytes of a pinned release, from the cached wheel or, failing that, from PyPI.

    Returns:
        Path relative to the folder that holds ``toto/`` -> bytes, sorted by path.

    Raises:
        UsageError: the version is not pinned, or this Python has no pip.
        StorageError: no network and nothing cached, or the disk refuses.
        RefusedError: what was fetched is not what was pinned.
    """
    from toto_patcher.patching.vendoring.wheel import read_wheel

    release = pinned_release(version)
    files = read_wheel(wheel_bytes(version), release.wheel)
    if {path: fingerprint(data) for path, data in files.items()} != release.files:
        raise RefusedError("the wheel's files are not those that were pinned", path=release.wheel)
    return files


def cached_release_bytes(version: str) -> Mapping[PurePosixPath, bytes] | None:
    """As ``release_bytes``, from the cache alone; ``None`` where it is not there, whole."""
    release, folder = pinned_release(version), cache_folder()
    try:
        data = b"" if folder is None else (folder / release.wheel).read_bytes()
    except OSError:
        return None
    if fingerprint(data) != release.sha256:
        return None
    from toto_patcher.patching.vendoring.wheel import read_wheel

    return read_wheel(data, release.wheel)


def cache_folder() -> Path | None:
    """Where wheels are kept between runs: ``$XDG_CACHE_HOME/toto-patch/wheels``, by default below ``~/.cache``.

    None where the user has no home folder.
    """
    configured = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(configured) if configured.startswith("/") else Path.home() / ".cache"
    except RuntimeError:
        return None
    return base / "toto-patch" / "wheels"


def wheel_bytes(version: str) -> bytes:
    """The wheel of a pinned release: the cached one if its sha256 is right, else fetched with pip and cached.

    Raises:
        UsageError, StorageError, RefusedError: as ``release_bytes``.
    """
    release = pinned_release(version)
    folder = cache_folder()
    if folder is not None:
        data = _cached(folder / release.wheel)
        if fingerprint(data) == release.sha256:
            return data
    data = _download(release)
    if folder is not None:
        _keep(folder / release.wheel, data)
    return data


def _cached(path: Path) -> bytes:
    """The bytes of a file of a wheel's size; none for anything else that lies there."""
    from toto_patcher.patching.vendoring.wheel import MAX_WHEEL_BYTES

    try:
        status = path.stat()
        return path.read_bytes() if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_WHEEL_BYTES else b""
    except OSError:
        return b""


def _keep(path: Path, data: bytes) -> None:
    """Puts a wheel into the cache in one step; a cache that cannot be written costs a download next time, no more."""
    import tempfile

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return


def _download(release: Release) -> bytes:
    import tempfile

    requirement = f"{DISTRIBUTION}=={release.version} --hash=sha256:{release.sha256}\n"
    try:
        with tempfile.TemporaryDirectory(prefix="toto-patch-") as folder:
            (Path(folder) / "requirements.txt").write_text(requirement, encoding="utf-8")
            _run_pip(release, Path(folder))
            data = (Path(folder) / release.wheel).read_bytes()
    except OSError as error:
        raise StorageError(f"cannot fetch {release.wheel}: {error}", hint="free space or set TMPDIR") from error
    if fingerprint(data) != release.sha256:
        raise RefusedError("the downloaded wheel does not have the pinned sha256", path=release.wheel)
    return data


def _run_pip(release: Release, folder: Path) -> None:
    import subprocess

    # In the temporary folder, so that neither a pip.py in the user's folder nor a stray file there is picked up.
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--require-hashes", "--only-binary=:all:"]
    command += ["--no-input", "--disable-pip-version-check", "--progress-bar=off", "--dest=.", "-r", "requirements.txt"]
    done = subprocess.run(command, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return
    if "No module named pip" in done.stderr:
        raise UsageError(
            f"this Python has no pip, which fetches {release.wheel} ({sys.executable})",
            hint=f"run {sys.executable} -m ensurepip, or use a virtual environment made by python -m venv",
        )
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise RefusedError(
            f"the package index offers another file than the pinned one (sha256 {release.sha256})",
            path=release.wheel,
            hint="check which package index pip is configured to use: pip config list",
        )
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if line.startswith("ERROR")), lines[-1] if lines else "no message")
    raise StorageError(
        f"pip could not fetch {release.wheel} (exit {done.returncode}): {reason}",
        hint=f"check the network and pip's settings; offline, put the wheel into {cache_folder()} yourself",
    )
