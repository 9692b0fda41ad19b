"""One decoder for all forecasters of a backbone, and what becomes of it where a process forks."""

from __future__ import annotations

import os
import threading
import weakref
from typing import Any

from .decoder import StaticDecoder
from .support import Classes

Compiler = dict[str, Any] | None


class Place:
    """Where the decoder of one backbone for one way to compile is kept.

    Attributes:
        lock: of one forecast at a time.
        decoder: or ``None`` until the first forecast, and after a release.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.decoder: StaticDecoder | None = None


class Shared:
    """The decoders of a process, by backbone. They go when their backbone goes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: weakref.WeakKeyDictionary[Any, list[tuple[Compiler, Place]]] = weakref.WeakKeyDictionary()
        self._classes: dict[type, Classes] = {}

    def place(self, backbone: Any, compiler: Compiler) -> Place:
        """The place for a backbone's decoder."""
        with self._lock:
            known = self._places.setdefault(backbone, [])
            for options, place in known:
                if options == compiler:
                    return place
            known.append((compiler, Place()))
            return known[-1][1]

    def release(self, backbone: Any) -> None:
        """Frees what forecasts of a backbone kept."""
        with self._lock:
            places = [place for _, place in self._places.get(backbone, ())]
        for place in places:
            with place.lock:
                place.decoder = None

    def classes(self, forecaster: type) -> Classes:
        """The classes of a forecaster's tree, proved anew where something changed since.

        Raises:
            ReplacedError: something on upstream's path is not what the files define.
        """
        known = self._classes.get(forecaster)
        if known is None or not known.origin.holds():
            known = self._classes[forecaster] = Classes(forecaster)
        return known

    def before_fork(self) -> None:
        """Nothing of this is half done while the process forks."""
        self._lock.acquire()

    def after_fork(self, child: bool) -> None:
        """In the child, whatever another thread was at is half done for ever: it begins anew."""
        if child:
            self._lock = threading.Lock()
            for places in self._places.values():
                for _, place in places:
                    if place.lock.locked():
                        place.decoder = None
                    place.lock = threading.Lock()
        else:
            self._lock.release()


SHARED = Shared()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=SHARED.before_fork,
        after_in_parent=lambda: SHARED.after_fork(child=False),
        after_in_child=lambda: SHARED.after_fork(child=True),
    )
