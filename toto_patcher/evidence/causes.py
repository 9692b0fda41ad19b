"""Why torch.compile did what it reports, in plain words, and what cures it.

A cause names a patch or a profile only where the patch removes it. What matches nothing is said to be unknown.
"""

from __future__ import annotations

from toto_patcher.evidence.break_causes import BREAK_CAUSES
from toto_patcher.evidence.cause import GUARDS, Cause
from toto_patcher.evidence.compile_messages import Event
from toto_patcher.evidence.guard_causes import GUARD_CAUSES

CAUSES = (*GUARD_CAUSES, *BREAK_CAUSES)

UNKNOWN = Cause(
    "unknown",
    "Not in this program's table of causes.",
    "The guard or reason is torch's own; TORCH_TRACE with tlparse shows the code around it.",
    (*GUARDS, "skip", "sizes", "break"),
)


def cause_of(event: Event) -> Cause:
    """The first cause in the table that explains an event, or ``UNKNOWN``."""
    if not event.text and event.kind in GUARDS:
        return UNKNOWN
    return next((cause for cause in CAUSES if cause.explains(event)), UNKNOWN)
