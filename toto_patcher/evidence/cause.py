"""What a cause is: a row of the tables in ``guard_causes`` and ``break_causes``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from toto_patcher.evidence.compile_messages import Event, Kind

GUARDS: tuple[Kind, ...] = ("recompilation", "limit")

# What only Toto's own cache has, in a guard, in the line of source behind it, or in the frame where a graph broke.
CACHE = r"_current_idx|_layer_cache_map|self\._(?:keys|values)\b|\bself\.max_seq_len\b"
CACHE_SOURCE = rf"{CACHE}|\bKVCache\b|\bkv_cache\.(?:seq_len|current_len|append|reset)\b"


@dataclass(frozen=True)
class Cause:
    """One row of the table.

    Attributes:
        id: a short name, the same in JSON.
        meaning: the cause in plain words.
        cure: what to do, in words.
        kinds: the events it explains.
        pattern: of the guard or reason.
        context: of what torch says besides (source, innermost frame).
        function: of the function's name. What is given must all be found.
        patches: those that remove it.
        profile: the smallest profile that holds these.
        setting: a setting that bears on it.
        expected: it is there on purpose, or happens once per process, so that a warm-up takes it.
    """

    id: str
    meaning: str
    cure: str
    kinds: tuple[Kind, ...]
    pattern: str = ""
    context: str = ""
    function: str = ""
    patches: tuple[str, ...] = ()
    profile: str | None = None
    setting: str | None = None
    expected: bool = False

    def explains(self, event: Event) -> bool:
        """Whether this is the cause of an event."""
        asked = (
            (self.pattern, event.text),
            (self.context, f"{event.text}\n{event.context}"),
            (self.function, event.function or ""),
        )
        return event.kind in self.kinds and all(re.search(pattern, text) for pattern, text in asked if pattern)

    @property
    def command(self) -> str | None:
        """The command line that applies the cure."""
        return f"toto-patch apply --profile {self.profile}" if self.profile else None
