"""Promise 16: a record from a stranger can do nothing but be refused.

Every command runs, in this process, on a real patched tree whose ``.toto-patch`` was changed: whole records, and what
runs that were killed at every step had left. ``TOTO_PATCH_FUZZ=10000 pytest tests/patching/test_promises_strangers.py``
tries that many; the suite takes a sample.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import signal
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest
from hostile_records import EDIT, EDITED, LARGE, OURS, PHASES, SENT, UTIL, Hostile

from tests.conftest import copy_tree
from toto_patcher import commands, inspection, report
from toto_patcher import results as r
from toto_patcher.errors import TotoPatchError
from toto_patcher.patching import plan as planning
from toto_patcher.patching.change import fingerprint
from toto_patcher.patching.files.safe_files import Tree

NUMBER = int(os.environ.get("TOTO_PATCH_FUZZ", "150"))
SHARDS = 6
Files = dict[str, tuple[str, int, bytes]]
READERS = ("status", "verify-only", "diff")
WRITERS = ("apply", "apply full-graph", "revert", "recover")
TEMPORARY = re.compile(r"/\.toto-patch-[0-9a-f]{16}-[0-9]+\.tmp")
PATIENCE = 120
"""Seconds after which a command hangs, on a FIFO say; that is a fault like any other."""


def look(folder: Path) -> Files:
    """Kind, permission bits and bytes of everything below a folder."""
    found: Files = {}
    for current, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(current, name)
            status = path.lstat()
            kind = stat.filemode(status.st_mode)[0]
            plain = kind == "-" and status.st_size < LARGE
            data = path.read_bytes() if plain else os.fsencode(path.readlink()) if kind == "l" else b""
            found[path.relative_to(folder).as_posix()] = (kind, stat.S_IMODE(status.st_mode), data)
    return found


def lay(folder: Path, files: Files) -> None:
    """Makes a folder what ``look`` saw: plain files and folders."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, (kind, mode, data) in files.items():  # a folder comes before what is in it
        path = folder / name
        if kind == "d":
            path.mkdir(exist_ok=True)
        else:
            path.write_bytes(data)
        path.chmod(mode)


def run(command: str, root: Path) -> r.Result:
    """One command as the command line calls it."""
    if command.startswith("apply"):
        return commands.apply(
            root,
            profile=command.partition(" ")[2] or None,
            ids=(),
            backup=True,
            dry_run=False,
            check=False,
            verify=False,
            quick=False,
            commit=False,
            progress=lambda *_: None,
        )
    calls: dict[str, Callable[[], r.Result]] = {
        "status": lambda: inspection.status(root),
        "verify-only": lambda: inspection.verify(root, None, lambda *_: None),
        "diff": lambda: inspection.diff(root, None, ()),
        "revert": lambda: commands.revert(root),
        "recover": lambda: commands.recover(root),
    }
    return calls[command]()


def hangs(number: int, frame: object) -> NoReturn:
    """The signal handler."""
    raise AssertionError(f"still running after {PATIENCE} seconds")


@pytest.fixture(scope="module")
def remembered() -> Iterator[None]:
    """Plans are a pure function of sources and selection, and take half a second: each is made once."""
    plans: dict[Any, Any] = {}
    original = planning.plan_selection

    def plan_selection(checkout: Any, selection: Any, **given: Any) -> Any:
        sources = tuple((path, fingerprint(checkout.read(path))) for path in checkout.sources)
        pristine = tuple(sorted((given.get("pristine") or {}).items(), key=lambda item: str(item[0])))
        key = (checkout.root, sources, tuple(patch.id for patch in selection), pristine, given.get("profile"))
        if key not in plans:
            try:
                plans[key] = original(checkout, selection, **given)
            except TotoPatchError as error:
                plans[key] = error
        if isinstance(plans[key], TotoPatchError):
            raise plans[key]
        return plans[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "plan_selection", plan_selection)
        signal.signal(signal.SIGALRM, hangs)
        patch.setenv("NO_COLOR", "1")
        yield


CHANGING = ("write_new", "exchange", "move_new", "rename", "remove", "make_folder", "remove_folder")


def killed(root: Path, command: str, at: int, *, failing: int | None = None) -> bool:
    """Runs a command in a child that dies before its call number ``at``; true where it came to its end before that.

    With ``failing``, the call of that number fails first, so that the child dies while it takes the change back.
    """
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    calls = 0

    def counted(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == at:
                os._exit(9)
            if calls == failing:
                raise OSError(5, "Input/output error")
            return method(*arguments)

        return call

    try:
        for name in CHANGING:
            setattr(Tree, name, counted(getattr(Tree, name)))
        run(command, root)
    finally:
        os._exit(0)


class Ground:
    """A folder with a checkout in a git repository, and beside it a folder that nobody may touch."""

    def __init__(self, folder: Path, release: Path) -> None:
        self.folder, self.root = folder, folder / "checkout"
        self.root.mkdir(parents=True)
        copy_tree(release / "toto", self.root / "toto")
        for name, text in {
            **dict.fromkeys((*SENT, "notes.txt"), "SENT = 1\n"),
            "mine.txt": "mine\n",
            "app/mine.py": "MINE = 1\n",
        }.items():
            (self.root / name).parent.mkdir(exist_ok=True)
            (self.root / name).write_text(text, encoding="utf-8")
        (self.root / "empty").mkdir()
        sentinel = folder / "sentinel"
        (sentinel / "empty").mkdir(parents=True)
        (sentinel / "precious.py").write_text("PRECIOUS = 1\n", encoding="utf-8")
        subprocess.run(["git", "init", "--quiet", str(self.root)], check=True)
        for hook in (self.root / ".git/hooks").iterdir():
            hook.unlink()
        for path in sorted(self.root.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o644)
        self.pristine = look(folder)
        self.forms: dict[str, Files] = {"pristine": self.pristine}
        for profile in ("graph-breaks", "full-graph"):
            lay(folder, self.pristine)
            run(f"apply {profile}", self.root)
            self.forms[profile] = look(folder)
        self.bases = [self.forms["graph-breaks"]] * 8 + [self.forms["full-graph"]] * 8
        for before, command in (("pristine", "apply"), ("graph-breaks", "apply full-graph"), ("full-graph", "revert")):
            self._interrupt(self.forms[before], command)

    def _interrupt(self, before: Files, command: str) -> None:
        lay(self.folder, before)
        run(command, self.root)  # so that the children below remember its plans
        for at in range(1, 1000, 3):
            lay(self.folder, before)
            if killed(self.root, command, at):
                break
            found = look(self.folder)
            if any(f"checkout/{OURS}/{phase}.json" in found for phase in PHASES):
                self.bases.append(found)
            if f"checkout/{OURS}/journal.json" in found:
                lay(self.folder, before)
                killed(self.root, command, at + 4, failing=at + 1)
                self.bases.append(look(self.folder))
        else:
            pytest.fail(f"{command} never came to its end")

        names = {name for form in self.forms.values() for name, (kind, _, _) in form.items() if kind == "d"}
        self.folders = {name for name in names if any(name not in form for form in self.forms.values())}

    def known(self, name: str) -> set[bytes | None]:
        """What a file of the package may hold; ``None`` where it may be absent."""
        return {form[name][2] if name in form else None for form in self.forms.values()}


@pytest.fixture(scope="module")
def ground(
    tmp_path_factory: pytest.TempPathFactory, toto_release: Callable[[str], Path], remembered: None
) -> Iterator[Ground]:
    """One for the module: plans are remembered by the root."""
    memory = Path("/dev/shm")
    base = memory if os.access(memory, os.W_OK) else tmp_path_factory.mktemp("ground")
    folder = base / f"toto-patch-records-{os.getpid()}"
    try:
        yield Ground(folder, toto_release("0.2.0"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class Terminal(io.StringIO):
    """A terminal without colour."""

    def isatty(self) -> bool:
        return True


def told(result: r.Result | r.ErrorResult) -> str:
    """What a terminal would get."""
    stream = Terminal()
    with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
        report.emit(result, as_json=False)
    return stream.getvalue()


def broken(ground: Ground, before: Files, after: Files, brought: set[bytes]) -> list[str]:
    """What changed though nobody may change it.

    Bytes that lay in the package under a temporary's name came from who made the tree, as the sources did: an original
    that may be put in place, patched and given back. What a command makes of it is added to ``brought``.
    """
    faults = []
    interrupted = any(f"checkout/{OURS}/{phase}.json" in before for phase in PHASES)
    for name in sorted({*before, *after}):
        was, now = before.get(name), after.get(name)
        inside = name.removeprefix("checkout/")
        if was == now or inside == OURS or inside.startswith(f"{OURS}/"):
            continue
        if TEMPORARY.search(name) or name in ground.folders:
            continue
        if inside in SENT and interrupted:
            continue  # a journal that knows a file's fingerprint is from whoever made the file
        if now is None and name.endswith("/empty") and name.startswith("checkout/"):
            continue  # a journal may name folders that are removed if they are empty
        if inside.startswith("toto/") and name.endswith(".py"):
            data = now[2] if now else None
            if was and EDIT in was[2]:
                if data is None or EDIT not in data:
                    faults.append(f"{name}: an edit was lost")
            elif data is not None and was and was[2] in brought - ground.known(name):
                brought.add(data)
            elif data not in ground.known(name) | brought:
                faults.append(f"{name}: bytes that are neither the original's nor a patch's")
            elif now and (now[0] != "-" or now[1] & ~0o777 or (was and was[1] != now[1])):
                faults.append(f"{name}: mode {was and oct(was[1])} -> {oct(now[1])}")
            continue
        faults.append(f"{name}: {was and was[:2]} -> {now and now[:2]}")
    return faults


def form_of(ground: Ground, files: Files, brought: set[bytes]) -> str:
    """Which of the three forms the package has, but for the user's edits; ``mixed`` for none of them."""

    def package(of: Files) -> dict[str, bytes]:
        return {
            name: data.replace(EDIT, b"")
            for name, (kind, _, data) in of.items()
            if name.startswith("checkout/toto/") and kind == "-" and not TEMPORARY.search(name)
        }

    found = package(files)
    # Not told apart: what was removed by hand, and what a temporary of the stranger's brought, which no form has.
    gone = {f"checkout/{name}" for name in EDITED} - found.keys()
    gone |= {name for name, data in found.items() if data in brought and data not in ground.known(name)}
    found = {name: data for name, data in found.items() if name not in gone}
    for name, form in ground.forms.items():
        if {path: data for path, data in package(form).items() if path not in gone} == found:
            return name
    return "mixed"


def attempt(ground: Ground, seed: int) -> list[str]:
    """One mutation and some commands; returns what went wrong."""
    chosen = random.Random(seed)
    lay(ground.folder, chosen.choice(ground.bases))
    what = Hostile(ground.root, seed).mutate()
    faults: list[str] = []
    order = [chosen.choice(READERS), *chosen.sample(WRITERS, 2), chosen.choice(READERS), "recover", "revert"]
    after = look(ground.folder)
    brought = {data for name, (_, _, data) in after.items() if TEMPORARY.search(name)}
    for command in order:
        before = after
        answer: r.Result | r.ErrorResult
        signal.alarm(PATIENCE)
        try:
            answer = run(command, ground.root)
        except Exception as error:  # what the command line catches
            answer = report.failure(error, command=command, verbose=True)
            if not isinstance(error, TotoPatchError) or answer.exit_code not in (2, 3, 4, 6):
                faults.append(f"{command} ended as {answer.exit_code}, {answer.traceback}")
        finally:
            signal.alarm(0)
        after = look(ground.folder)
        faults += [f"{command}: {fault}" for fault in broken(ground, before, after, brought)]
        if command in READERS and before != after:
            faults.append(f"{command} wrote")
        text = told(answer)
        if any(not (letter.isprintable() or letter == "\n") for letter in text):
            faults.append(f"{command} sends control characters to the terminal: {text!r}")
        form = form_of(ground, after, brought)
        if answer.exit_code == 0:
            wanted = {
                "revert": ("pristine",),
                "apply": ("graph-breaks", "full-graph"),
                "apply full-graph": ("full-graph",),
            }
            if command in wanted and form not in wanted[command]:
                faults.append(f"{command} says that all is well, but the tree is {form}: {text}")
            if command == "verify-only" and (form in ("pristine", "mixed") or getattr(answer, "profile", form) != form):
                faults.append(f"verify-only says that all is well, but the tree is {form}: {text}")
    return [f"seed {seed} ({what}), {' '.join(order)}: {fault}" for fault in faults]


def failed(faults: list[str]) -> NoReturn:
    pytest.fail(f"{len(faults)} faults; the first:\n" + "\n".join(faults[:20]))


@pytest.mark.parametrize("shard", range(SHARDS))
def test_promise_16_a_strangers_record_can_do_nothing_but_be_refused(ground: Ground, shard: int) -> None:
    first = int(os.environ.get("TOTO_PATCH_FUZZ_SEED", "0"))
    faults = [fault for seed in range(first + shard, first + NUMBER, SHARDS) for fault in attempt(ground, seed)]
    if faults:
        failed(faults)


def test_promise_16_the_fuzzer_begins_with_what_runs_leave_in_every_phase(ground: Ground) -> None:
    for phase in PHASES:
        assert sum(f"checkout/{OURS}/{phase}.json" in base for base in ground.bases) >= 3, phase
    assert all(f"checkout/{UTIL}" in base for base in ground.bases)


def test_promise_16_a_journal_that_contradicts_the_record_it_carries_is_refused(ground: Ground) -> None:
    name, tried = f"checkout/{OURS}/journal.json", 0
    for base in (base for base in ground.bases if name in base):
        content = json.loads(base[name][2])
        if content["entries"][-1]["after"] is None:  # a revert carries no new record
            continue
        move = next(entry for entry in content["entries"] if entry["before"] and entry["after"])
        move["after"] = None
        lay(ground.folder, base)
        (ground.folder / name).write_text(json.dumps(content), encoding="utf-8")
        with pytest.raises(TotoPatchError, match="another end"):
            run("recover", ground.root)
        assert look(ground.folder)[f"checkout/{move['path']}"] == base[f"checkout/{move['path']}"]
        tried += 1
    assert tried
