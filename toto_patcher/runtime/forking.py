"""What a forked child has to make anew: a lock that another thread held at the fork would stay locked for ever.

``fork`` copies the memory and only the thread that calls it. Nothing here helps against ``fork`` after CUDA was used:
the pipeline refuses to forecast there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """Something with state of threads in it."""

    def after_fork(self) -> None:
        """Makes it usable in the child, in which there is one thread only."""


_objects: weakref.WeakSet[Forked] = weakref.WeakSet()


def renew(owner: Forked) -> None:
    """Has ``owner.after_fork`` called in every forked child, as long as the owner lives."""
    _objects.add(owner)


def _in_child() -> None:
    for owner in list(_objects):
        owner.after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
