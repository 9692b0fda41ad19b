"""Who wrote what into the environment and into torch's configuration, so that calls can be repeated and undone."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from toto_patcher.runtime import forking
from toto_patcher.runtime.places import Exported, Place


@dataclass(frozen=True)
class _Written:
    """What we wrote into a place, and what the user has there."""

    value: Any
    theirs: Any
    saved: Any


@dataclass(frozen=True, eq=False)
class Page:
    """What one call changed: places as they were before it, and what was ours before it."""

    before: dict[Place, Any] = field(default_factory=dict)
    ours: dict[Place, _Written] = field(default_factory=dict)


class Ledger:
    """The writes of all calls that are in force, oldest first. Hold ``lock`` from the first read to the last write."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        forking.renew(self)
        self._pages: list[Page] = []
        self._ours: dict[Place, _Written] = {}

    def after_fork(self) -> None:
        """See ``forking``."""
        self.lock = threading.RLock()

    def theirs(self, place: Place) -> Any:
        """What the user has in a place: what is there, unless we put it there; then what was there before."""
        now, written = place.get(), self._ours.get(place)
        return written.theirs if written is not None and written.value == now else now

    def environ(self) -> dict[str, str]:
        """The environment without what we put there."""
        found = dict(os.environ)
        for place in self._ours:
            if isinstance(place, Exported):
                value = self.theirs(place)
                found.pop(place.name, None)
                found.update({} if value is None else {place.name: value})
        return found

    def write(self, targets: Mapping[Place, Any]) -> Page:
        """Makes the targets hold, and the user's own values in the places that earlier calls wrote and these do not."""
        page = Page(ours=dict(self._ours))
        ours: dict[Place, _Written] = {}
        try:
            for place in dict.fromkeys((*self._ours, *targets)):
                now, written = place.get(), self._ours.get(place)
                if written is None or written.value != now:
                    written = _Written(None, now, place.save())
                target = targets.get(place, written.theirs)
                if target != now:
                    page.before[place] = place.save()
                    if target == written.theirs:
                        place.restore(written.saved)
                    else:
                        place.set(target)
                if target != written.theirs:
                    ours[place] = _Written(target, written.theirs, written.saved)
        except BaseException:
            self._restore(page)
            raise
        self._ours = ours
        if page.before:
            self._pages.append(page)
        return page

    def undo(self, page: Page) -> None:
        """Puts back what was before a call, and with it what later calls wrote; nothing if that was done already."""
        with self.lock:
            while page in self._pages:
                self._restore(self._pages.pop())

    def _restore(self, page: Page) -> None:
        for place, saved in page.before.items():
            place.restore(saved)
        self._ours = page.ours
