"""The one door to the git program. What only asks runs nothing that a repository's own settings name.

A repository is input from outside: its configuration, attributes and hooks name programs (a file system monitor,
filters, an ssh command for objects that are fetched when they are missed, pagers, …). ``ask`` switches them off and
takes only commands that need none; ``act`` is for what the user told git to do, and runs as git runs for them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection, Sequence
from pathlib import Path

from toto_patcher.errors import RefusedError, StorageError, UsageError

# Inside a git hook these name the repository of the caller; what is asked here is always the checkout's own.
# (`git rev-parse --local-env-vars`, without those that carry settings which a user may export.)
_POINTERS = (
    *("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX"),
    *("GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_CONFIG", "GIT_CONFIG_PARAMETERS", "GIT_GRAFT_FILE", "GIT_SHALLOW_FILE"),
    *("GIT_REPLACE_REF_BASE", "GIT_NO_REPLACE_OBJECTS", "GIT_IMPLICIT_WORK_TREE", "GIT_INTERNAL_SUPER_PREFIX"),
    *("GIT_NAMESPACE", "GIT_QUARANTINE_PATH", "GIT_ATTR_SOURCE"),
)
# Of the caller's other GIT_ variables a question needs only those that say which settings and repositories to trust.
_KEPT = ("GIT_CONFIG_", "GIT_EXEC_PATH", "GIT_CEILING_DIRECTORIES", "GIT_DISCOVERY_ACROSS_FILESYSTEM", "GIT_TEST_")

# Whatever a repository may set to have a command run, and what could wait for a person or the network.
_OFF = (
    "core.fsmonitor=false",
    "core.hooksPath=/dev/null",
    "core.sshCommand=false",
    "core.gitProxy=false",
    "core.askPass=false",
    "core.editor=false",
    "core.pager=cat",
    "core.alternateRefsCommand=false",
    "core.untrackedCache=false",
    "credential.helper=",
    "diff.external=",
    "diff.trustExitCode=false",
    "gpg.program=false",
    "gpg.ssh.program=false",
    "gpg.x509.program=false",
    "log.showSignature=false",
    "protocol.allow=never",
    "submodule.recurse=false",
    "gc.auto=0",
    "maintenance.auto=false",
)
_QUIET = {
    "GIT_ALLOW_PROTOCOL": "none",  # stronger than any protocol.*.allow: nothing is fetched, by no helper
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_NO_REPLACE_OBJECTS": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ASKPASS": "false",
    "SSH_ASKPASS": "false",
    "GIT_PAGER": "cat",
    "LC_ALL": "C",  # so that what git says can be understood here
    "LANGUAGE": "C",
}
_PATIENCE = 60.0
"""Seconds for one question: a FIFO in the place of a file that git reads would hold it for ever."""


class NoGitError(UsageError):
    """This machine has no git program (exit 2)."""


class GitRefusedError(RefusedError):
    """Git refuses to say or do something; the message is git's reason."""


class NotARepositoryError(GitRefusedError):
    """Git finds no repository."""


def ask(folder: Path, *arguments: str, given: bytes = b"", fine: Collection[int] = (0,)) -> tuple[int, bytes]:
    """What git answers in a folder, with every program switched off that the repository could name. Writes nothing.

    Args:
        folder: where git is asked.
        arguments: a command that needs no filter, driver or hook, and its arguments. Pathspecs are taken literally.
        given: its standard input.
        fine: the exit statuses that are an answer.

    Returns:
        The exit status and standard output.

    Raises:
        NoGitError: there is no git program.
        NotARepositoryError: the folder is in no repository.
        GitRefusedError: git refused, with its reason.
        StorageError: git could not be started.
    """
    switches = [part for setting in _OFF for part in ("-c", setting)]
    environment = {name: value for name, value in os.environ.items() if _is_kept(name)}
    literally = {} if arguments[0] == "check-ignore" else _LITERALLY  # which matches no patterns, and says so
    try:
        done = subprocess.run(
            [program(), "--no-pager", "-C", str(folder), *switches, *arguments],
            input=given,
            env={**environment, **literally, **_QUIET},
            capture_output=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise GitRefusedError(f"git did not answer within {_PATIENCE:.0f} seconds", path=folder, hint=_LOOK) from error
    except OSError as error:
        raise StorageError(f"git cannot be started: {error.strerror}", path=folder) from error
    if done.returncode in fine:
        return done.returncode, done.stdout
    said = reason(done.stderr.decode(errors="replace"))
    kind = NotARepositoryError if "not a git repository" in said else GitRefusedError
    raise kind(f"git refuses: {said}", path=folder, hint=_LOOK)


def act(folder: Path, *arguments: str, **variables: str) -> str:
    """Has git do what the user asked for, with their settings, hooks and keys, and returns what it said.

    When it is interrupted, it waits until git has ended and let go of its locks.

    Raises:
        NoGitError: there is no git program.
        StorageError: git, or a hook, refused; the message is the reason.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _POINTERS}
    with subprocess.Popen(
        [program(), "-C", str(folder), *arguments],
        env={**environment, **_LITERALLY, "GIT_TERMINAL_PROMPT": "0", **variables},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        try:
            said, _ = process.communicate()
        except BaseException:
            process.terminate()  # it may have had no signal of its own; unlike a kill, this lets it clean up
            process.wait()
            raise
    if process.returncode:
        raise StorageError(reason(said), path=folder)
    return said


def clone(url: str, folder: Path) -> None:
    """Makes a bare copy of a repository, every object checked, without templates, hooks or working files.

    Raises:
        NoGitError: there is no git program.
        GitRefusedError: what came is damaged or hostile, or git does not trust the folder that it comes from.
        StorageError: it cannot be had.
    """
    here = url if not Path(url).exists() else str(Path(url).absolute())
    # Through the protocol also from a folder, so that every object is checked.
    options = ("--bare", "--quiet", "--no-local", "--template=", "--no-recurse-submodules")
    try:
        act(folder.parent, *_CHECKED, "clone", *options, "--", here, folder.name, **_UNASKED)
    except StorageError as error:
        if any(
            word in error.message for word in ("dubious ownership", "fsck", "bad object", "unpack-objects", "corrupt")
        ):
            raise GitRefusedError(
                f"git refuses {url}: {error.message}", path=url, hint="Look at it with git."
            ) from error
        raise StorageError(f"cannot clone {url}: {error.message}", hint="check the address") from error


def fetch(folder: Path, revision: str) -> None:
    """Fetches a revision from where a clone came from, under the conditions of ``clone``.

    Raises:
        StorageError: it cannot be had.
    """
    act(folder, *_CHECKED, "fetch", "--quiet", "--no-recurse-submodules", "--", "origin", revision, **_UNASKED)


def read_blobs(folder: Path, names: Sequence[str]) -> dict[str, bytes]:
    """The contents of blobs by their hashes; all in one process.

    Raises:
        GitRefusedError: one is missing.
    """
    given = "".join(f"{name}\n" for name in names).encode()
    _, told = ask(folder, "cat-file", "--batch", given=given)
    found, at = {}, 0
    for name in names:
        end = told.index(b"\n", at)
        header = told[at:end].split(b" ")
        if header[1:2] != [b"blob"]:
            raise GitRefusedError(f"git has no blob {name}", path=folder, hint=_LOOK)
        size = int(header[2])
        found[name] = told[end + 1 : end + 1 + size]
        at = end + 1 + size + 1
    return found


_CHECKED = tuple(
    part
    for setting in (
        "transfer.fsckObjects=true",
        "fetch.fsckObjects=true",
        "core.hooksPath=/dev/null",
        "core.fsmonitor=false",
        "submodule.recurse=false",
        "gc.auto=0",
    )
    for part in ("-c", setting)
)
# What git says of a repository that is damaged, made to deceive, or somebody else's.
_UNTRUSTED = ("dubious ownership", "fsck", "bad object", "corrupt")
_UNASKED = {"GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}


def program() -> str:
    """The git program's absolute path: a relative entry of PATH must not come to mean a folder of the checkout.

    Raises:
        NoGitError: there is none.
    """
    found = shutil.which("git")
    if found is None:
        raise NoGitError("this machine has no git program", hint="Install git (apt-get install git).")
    return str(Path(found).absolute())


def reason(said: str) -> str:
    """What git or a hook said, on one line and without git's hints."""
    lines = [line.strip() for line in said.splitlines()]
    return " ".join(line for line in lines if line and not line.startswith("hint:")) or "no message"


_LITERALLY = {"GIT_LITERAL_PATHSPECS": "1"}
_LOOK = "See what `git status` says there."


def _is_kept(name: str) -> bool:
    return not name.startswith("GIT_") or (name.startswith(_KEPT) and name not in _POINTERS)
