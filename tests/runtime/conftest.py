"""Trees with a profile applied, and processes that hold one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import copy_tree
from toto_patcher.patching import series
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.plan import plan_selection

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def patched(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``patched(profile)``: Toto 0.2.0 with it, or as it is for ``None``; no ``.toto-patch``. Read-only."""
    made: dict[str | None, Path] = {}

    def make(profile: str | None) -> Path:
        if profile not in made:
            root = copy_tree(toto_release("0.2.0"), tmp_path_factory.mktemp("tree") / (profile or "unpatched"))
            if profile is not None:
                plan = plan_selection(Checkout.open(root), series.load().select(profile=profile), pristine={})
                for change in plan.changes:
                    assert change.after is not None
                    (root / change.path).parent.mkdir(exist_ok=True)
                    (root / change.path).write_bytes(change.after)
            made[profile] = root
        return made[profile]

    return make


def python(*arguments: str | Path, cwd: Path, path: Path | None = None, **environ: str) -> Any:
    """What a fresh Python prints as its last line, as JSON. It has no tree but the one it is told."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOTO_")}
    paths = os.pathsep.join(str(place) for place in (REPOSITORY, path) if place is not None)
    own = {
        "PYTHONPATH": paths,
        "HF_HUB_OFFLINE": "1",
        "TORCHINDUCTOR_COMPILE_THREADS": "1",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        **environ,
    }
    command = [sys.executable, "-W", "ignore", *arguments]
    done = subprocess.run(command, cwd=cwd, env=kept | own, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout.splitlines()[-1])
