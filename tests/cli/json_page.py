"""docs/json.md read by a program: which keys each document is said to have."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[2] / "docs" / "json.md"
COMMON, FAILURES, PROOF = "Every document", "Failures", "The proof"

Keys = dict[str, list[set[str]]]
"""A key -> the sets of keys that the objects under it may have; none where it holds no object of fixed keys."""


def documented() -> dict[str, Keys]:
    """Heading -> the keys of its table."""
    found: dict[str, Keys] = {}
    heading = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("| `"):
            names, value = line.strip("| ").split(" | ", 1)
            inner = [set(group.split(", ")) for group in re.findall(r"`\[?\{([^}]*)\}\]?`", value)]
            found.setdefault(heading, {}).update(dict.fromkeys(re.findall(r"`(\w+)`", names), inner))
    return found


def commands() -> set[str]:
    """The commands that have a section of their own."""
    return {line[4:] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("### ")}


def differences(printed: Mapping[str, Any], keys: Keys) -> list[str]:
    """How an object differs from its table, in words; empty if it does not."""
    told = [f"not documented: {key}" for key in sorted(printed.keys() - keys.keys())]
    told += [f"not printed: {key}" for key in sorted(keys.keys() - printed.keys())]
    for key, allowed in keys.items():
        value = printed.get(key)
        for item in value if isinstance(value, list) else [value]:
            if allowed and isinstance(item, dict) and set(item) not in allowed:
                told.append(f"{key} holds {sorted(item)}")
    return told
