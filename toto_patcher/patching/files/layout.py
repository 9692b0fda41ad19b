"""What lies where below a checkout's root."""

from pathlib import PurePosixPath

FOLDER = PurePosixPath(".toto-patch")
STATE = FOLDER / "state.json"
BACKUPS = FOLDER / "backups"
PACKAGE = "toto"
LICENCE_FILES = ("LICENSE", "NOTICE", "LICENSE-3rdparty.csv")
"""What vendor writes: the package, and its licences beside it."""
MAX_RECORD_BYTES = 4 * 1024 * 1024
"""A state or a journal has a few KB. A larger file is no record and is never read."""
MAX_FILE_BYTES = 64 * 1024 * 1024
"""No source file and no backup is larger."""
PHASES = tuple(FOLDER / f"{name}.json" for name in ("done", "undo", "journal", "prepare"))
SET_ASIDE = FOLDER / "unusable-journal.json"
