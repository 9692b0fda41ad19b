"""How a worker is started: a Python of its own that imports nothing from the folder in which the user stands."""

from __future__ import annotations

import os
import sys
from pathlib import Path

# `python -m` puts the current folder first on sys.path, and -P, which forbids it, came with 3.11 only. With -c that
# entry is the empty text, which the very first statement takes away, before anything is imported.
_START = "import sys; sys.path[:1] = sys.path[:1] if sys.path[0] else []; import runpy; " + (
    "del sys.argv[0]; runpy.run_module(sys.argv[0], run_name='__main__', alter_sys=True)"
)


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module as a worker, with this interpreter and without writing bytecode.

    Args:
        module: of this package, for example; it is found on ``environment()``'s path.
        arguments: its arguments.
    """
    return [sys.executable, "-B", "-c", _START, module, *arguments]


def environment(**changes: str) -> dict[str, str]:
    """This process's environment for a worker and whatever it starts in turn.

    Our own package can be imported whether or not it is installed. Folders of PYTHONPATH that are relative, or empty by
    a stray colon, mean those of the user's current folder: they are made absolute, or left out.
    """
    home = str(Path(__file__).resolve().parents[2])
    given = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [home, *(str(Path(path).absolute()) for path in given if path)]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONSAFEPATH": "1", **changes}
