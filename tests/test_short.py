"""The short suite, which CI runs on the oldest torch too: a tree is patched, proved, compiled, forecast with, reverted.

It needs the extra `short` and nothing else.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]

FORECAST = """
import json, sys, warnings
import toto_compile_config
toto_compile_config.apply(mode="default")
import torch
from toto_patcher.runtime import TotoPipeline, compilations
pipeline = TotoPipeline.from_pretrained("embedded", device_map="cpu", torch_compile=True, root=sys.argv[1])
history = torch.sin(torch.arange(512) / 9) + 3
def forecast():
    return pipeline.predict(history, prediction_length=8, num_samples=64, seed=7)[0].samples
first = forecast()
compilations.mark_warm()
second = forecast()
facts = {
    "profile": pipeline.profile, "compiled": pipeline.compiled, "shape": list(first.shape),
    "same": bool((first == second).all()), "finite": bool(first.isfinite().all()),
    "compilations": [compilations.warm_mark() > 0, compilations.total() - compilations.warm_mark()],
}
print(json.dumps(facts))
"""


def run(*command: object, cwd: Path) -> str:
    paths = [
        str(REPOSITORY),
        str(REPOSITORY / "toto_patcher" / "compat"),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOTO_")}
    environment = {**kept, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(
        [sys.executable, *map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph"])
def test_a_tree_is_patched_and_proved_and_forecasts_compiled_and_is_reverted(
    profile: str, fresh_toto: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    tool = ("-m", "toto_patcher", "--root", root)
    run(*tool, "apply", "--backup", "--profile", profile, cwd=tmp_path)
    ladder = json.loads(run(*tool, "--json", "verify-only", "--numerics", "--quick", cwd=tmp_path))["ladder"]
    assert ladder["passed"] and {"compiled/tiny/float32", "recompilations/tiny"} <= {
        check["name"] for check in ladder["checks"] if check["verdict"] == "pass"
    }
    facts = json.loads(run("-c", FORECAST, root, cwd=tmp_path).splitlines()[-1])
    assert facts == {
        "profile": profile, "compiled": True, "shape": [64, 8], "same": True, "finite": True, "compilations": [True, 0]
    }  # fmt: skip
    run(*tool, "revert", cwd=tmp_path)
    kept = (path for path in root.rglob("*") if path.is_file() and path.parent.name != "__pycache__")
    assert {path: path.read_bytes() for path in kept if ".toto-patch" not in path.parts} == before
