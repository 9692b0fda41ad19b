"""Makes hostile records: what a stranger may put into ``.toto-patch`` of a tree, from a seed.

A mutation changes a few things of a folder that a real run left, whole or interrupted: bytes, values of the JSON,
whole files. Some are coherent, with true fingerprints, for those are what a careful attacker would write.
"""

from __future__ import annotations

import json
import os
import random
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toto_patcher.patching.change import fingerprint

OURS = ".toto-patch"
PHASES = ("prepare", "journal", "undo", "done")
UTIL = "toto/model/util.py"
EDITED = (UTIL, "toto/model/attention.py")
EDIT = b"# an edit\n"
VICTIMS = (".git/config", ".git/hooks/pre-commit", "../sentinel/precious.py", "notes.txt", "app/main.py", "LICENSE")
"""Files beside the package; they are there, but for the hook."""
SENT = ("app/main.py", "LICENSE")
"""Those of them that came with the tree, so that its sender knows their fingerprints and could have sent others."""
PATHS = (
    *VICTIMS,
    "/etc/passwd",
    "..",
    "",
    ".",
    "toto/../../sentinel/precious.py",
    "toto//model/util.py",
    ".GIT/config",
    ".g\u200cit/config",
    "toto/.git/hooks/post-checkout",
    "toto/__pycache__/x.py",
    "toto/model/util.cpython-312-x86_64-linux-gnu.so",
    ".toto-patch/state.json",
    ".toto-patch/../.git/config",
    "toto/link/precious.py",
    "toto/model",
    UTIL,
    "toto/a\x1b]0;pwned\x07.py",
    "toto/a\nb.py",
    "toto/a\u202eb.py",
    "toto/\ud800.py",
    "toto/\x00.py",
    "x/" * 3000 + "a.py",
    "toto/" + "a" * 300 + ".py",
)
TEXTS = (
    "\x1b[2J\x1b]0;pwned\x07",
    "graph-breaks\n  ok  outputs  proved equal",
    "\u202egpj.exe",
    "\x9b31m",
    "\ud800",
    "a" * 100_000,
    "full-graph",
    "graph-breaks",
    "9.9.9",
    "--upload-pack=touch pwned",
    "HEAD",
    "{0.__class__}",
    "%s%n",
    "static-kv-cache",
    "no-such-patch",
)
OTHERS = (None, True, False, 0, -1, 1, 2, 3, 0o4755, 0o777, 0o100644, 2**63, 1.5, float("nan"), [], {}, [[]], "")


LARGE = 1 << 20
"""Only files that the fuzzer made sparse are larger."""


def plain(path: Path) -> bytes:
    """The bytes of a plain file of ordinary size; an earlier mutation may have put something else there."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size >= LARGE:
        raise ValueError("not a plain file of ordinary size")
    return path.read_bytes()


class Hostile:
    """Mutates the checkout at ``root``; the same seed does the same.

    Args:
        root: a checkout with a record.
        seed: what is changed and how.
    """

    def __init__(self, root: Path, seed: int) -> None:
        self.root, self.ours = root, root / OURS
        self.random = random.Random(seed)
        self.done: list[str] = []

    def mutate(self) -> str:
        """Does one to three mutations; returns what was done."""
        kinds: list[tuple[Callable[[], None], int]] = [
            (self.change_json, 10),
            (self.coherent_state, 4),
            (self.coherent_journal, 4),
            (self.change_bytes, 5),
            (self.change_kind, 4),
            (self.change_phase, 2),
            (self.edit_source, 2),
        ]
        for _ in range(self.random.choice((1, 1, 1, 2, 3))):
            kind = self.random.choices([kind for kind, _ in kinds], [weight for _, weight in kinds])[0]
            try:
                kind()
            except (OSError, ValueError, TypeError, KeyError, IndexError, RecursionError) as error:
                self.done.append(f"{kind.__name__} could not: {type(error).__name__}")
        return "; ".join(self.done)

    def _records(self) -> list[Path]:
        found = [*self.ours.rglob("*"), *self.root.rglob("*/.toto-patch-*.tmp*")]
        plain = [path for path in found if path.is_file() and not path.is_symlink()]
        return sorted(path for path in plain if path.stat().st_size < LARGE)

    def _documents(self) -> list[Path]:
        return [path for path in self._records() if path.suffix == ".json"]

    def _digests(self) -> list[str]:
        """Fingerprints of what lies there, and of nothing."""
        files = [*self._records(), self.root / UTIL, *(self.root / name for name in VICTIMS)]
        return [fingerprint(plain(path)) for path in files if path.is_file() and path.stat().st_size < LARGE] + [
            "0" * 64,
            fingerprint(b""),
        ]

    def _value(self) -> Any:
        kinds = (PATHS, TEXTS, OTHERS, self._digests())
        return self.random.choice(self.random.choice(kinds))

    def _write(self, path: Path, content: Any) -> None:
        text = json.dumps(content, ensure_ascii=self.random.random() < 0.5)
        path.write_bytes(text.encode("utf-8", errors="surrogatepass"))

    def change_json(self) -> None:
        """Replaces, removes, doubles or adds one value anywhere in a document."""
        path = self.random.choice(self._documents())
        content = json.loads(plain(path))
        places: list[tuple[Any, Any]] = []

        def walk(node: Any) -> None:
            for key in node if isinstance(node, dict) else range(len(node)):
                places.append((node, key))
                if isinstance(node[key], dict | list):
                    walk(node[key])

        walk(content)
        node, key = self.random.choice(places)
        act = self.random.choice(("replace", "replace", "replace", "replace", "remove", "double", "add", "swap"))
        if act == "replace":
            node[key] = self._value()
        elif act == "remove":
            del node[key]
        elif act == "double" and isinstance(node, list):
            node.insert(0, node[key])
        elif act == "swap":
            other, there = self.random.choice(places)
            node[key], other[there] = other[there], node[key]
        elif isinstance(node, list):
            node.append(self._value())
        else:
            node[str(self._value())] = self._value()
        self.done.append(f"{act} {key!r} of {path.name}")
        if self.random.random() < 0.05:
            path.write_bytes(plain(path).replace(b"{", b'{"schema_version": 1, ', 1))
        else:
            self._write(path, content)

    def coherent_state(self) -> None:
        """A record of a file that is there, with its true fingerprint and a backup that is there too."""
        path = self.ours / "state.json"
        content = json.loads(plain(path))
        victim = self.random.choice(VICTIMS)
        there = self.root / victim
        payload = b"#!/bin/sh\ntouch pwned\n"
        digest = fingerprint(payload)
        (self.ours / "backups").mkdir(exist_ok=True)
        (self.ours / "backups" / digest).write_bytes(payload)
        patched = fingerprint(plain(there)) if there.is_file() else self.random.choice((None, digest))
        entry = {"path": victim, "pristine": self.random.choice((digest, None)), "patched": patched, "mode": 0o755}
        content["files"].append({**entry, "backup": True, "patches": content["patches"][:1]})
        if self.random.random() < 0.3:
            content["files"] = content["files"][-1:]
        content["folders"] = self.random.choice(([], ["app"], [".git/refs/tags"], ["empty"], ["../sentinel/empty"]))
        self._write(path, content)
        self.done.append(f"a state that names {victim}")

    def coherent_journal(self) -> None:
        """A journal that moves, removes or makes a file beside the package."""
        victim = self.random.choice(VICTIMS)
        there = self.root / victim
        temporary = ".toto-patch-0123456789abcdef-0.tmp"
        payload = b"#!/bin/sh\ntouch pwned\n"
        there.parent.mkdir(parents=True, exist_ok=True)
        if self.random.random() < 0.8:
            (there.parent / temporary).write_bytes(payload)
        before = fingerprint(plain(there)) if there.is_file() else None
        sides = [before, self.random.choice((fingerprint(payload), None))]
        if self.random.random() < 0.5:
            sides.reverse()
        entry = {"path": victim, "before": sides[0], "after": sides[1], "temporary": temporary}
        found = [self.ours / f"{name}.json" for name in PHASES if (self.ours / f"{name}.json").is_file()]
        path = self.random.choice(found or [self.ours / f"{name}.json" for name in PHASES])
        content = json.loads(plain(path)) if path.is_file() else {"schema_version": 2, "entries": []}
        content["entries"].insert(0, entry)
        for name in ("old_folders", "new_folders"):
            content[name] = self.random.choice(([], ["empty"], [".git/refs/tags"], ["../sentinel/empty"]))
        content["bytecode"] = self.random.choice(([], [victim], ["../sentinel/precious.py"]))
        self._write(path, content)
        self.done.append(f"{path.name} that names {victim}: {'make' if sides[0] is None else 'change'}")

    def change_bytes(self) -> None:
        """Flips, cuts, doubles or inserts bytes of one file."""
        path = self.random.choice(self._records())
        data = bytearray(plain(path))
        at = self.random.randrange(len(data) + 1)
        end = min(len(data), at + self.random.choice((1, 1, 8, 64)))
        act = self.random.choice(("flip", "flip", "cut", "end", "double", "insert", "empty"))
        if act == "flip" and data:
            data[min(at, len(data) - 1)] ^= 1 << self.random.randrange(8)
        elif act == "cut":
            del data[at:end]
        elif act == "end":
            del data[at:]
        elif act == "double":
            data[at:at] = data[at:end]
        elif act == "insert":
            data[at:at] = self.random.choice((b"\0", b"\xff\xfe", b"\x1b]0;pwned\x07", b"[" * 100_000, b"9" * 5000))
        elif act == "empty":
            data.clear()
        path.write_bytes(data)
        self.done.append(f"{act} at {at} of {path.name[:20]}")

    def change_kind(self) -> None:
        """Puts a link, a folder, a FIFO, a huge file or nothing in the place of something of ours."""
        path = self.random.choice([*self._records(), self.ours / "backups", self.ours])
        outside = self.root.parent / "sentinel"
        act = self.random.choice(("link", "hard link", "folder", "fifo", "huge", "gone", "other"))
        other = self.random.choice([*self._records(), self.root / UTIL])
        data = plain(other)
        aside = path.with_name(path.name + ".aside")
        path.rename(aside)
        if act == "link":
            path.symlink_to(self.random.choice((outside, outside / "precious.py", self.root / ".git/config", aside)))
        elif act == "hard link":
            os.link(self.random.choice((outside / "precious.py", self.root / ".git/config", self.root / UTIL)), path)
        elif act == "folder":
            path.mkdir()
        elif act == "fifo":
            os.mkfifo(path)
        elif act == "huge":
            with path.open("wb") as stream:
                stream.truncate(6 * 1024**3)
        elif act == "other":
            path.write_bytes(data)
        self.done.append(f"{act} in place of {path.name[:20]}")

    def change_phase(self) -> None:
        """Says that an interrupted run stood elsewhere."""
        found = [name for name in PHASES if (self.ours / f"{name}.json").is_file()]
        source, target = self.random.choice(found), self.random.choice(PHASES)
        (self.ours / f"{source}.json").replace(self.ours / f"{target}.json")
        self.done.append(f"{source} is {target}")

    def edit_source(self) -> None:
        """The user edits a patched file, or removes it."""
        path = self.root / self.random.choice(EDITED)
        if self.random.random() < 0.2:
            path.unlink()
        else:
            path.write_bytes(plain(path) + EDIT)
        self.done.append(f"an edit of {path.name}")
