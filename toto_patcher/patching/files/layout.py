"""What lies where below a checkout's root."""

from pathlib import PurePosixPath

FOLDER = PurePosixPath(".toto-patch")
STATE = FOLDER / "state.json"
BACKUPS = FOLDER / "backups"
PHASES = tuple(FOLDER / f"{name}.json" for name in ("done", "undo", "journal", "prepare"))
SET_ASIDE = FOLDER / "unusable-journal.json"
