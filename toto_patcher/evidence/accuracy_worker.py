"""The child process of ``toto-patch accuracy``: forecasts every window with one tree under every seed.

    python -m toto_patcher.evidence.accuracy_worker JOB.json

It goes through ``TotoPipeline``, as production code does. ``arrays.npz`` and ``facts.json`` are in the job's folder
``out``, the facts written last; a job that could not run leaves ``failure.txt`` instead, and one whose checkpoint
cannot be loaded ``checkpoint.txt`` as well. On stdout each series is one line of JSON.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from toto_patcher.equivalence.worker import CHECKPOINT_FILE, FAILURE_FILE
from toto_patcher.errors import CheckpointError

CONTEXTS_FILE = "contexts.npz"


@dataclass(frozen=True)
class Job:
    """What a child forecasts.

    Attributes:
        role: what progress calls it.
        root: the tree.
        out: an existing folder for the results.
        contexts: a file with an array (windows, context) for each series.
        checkpoint: a folder with config.json and model.safetensors.
        horizon: steps.
        samples: of each window under each seed.
        seeds: what ``TotoPipeline.predict`` is given, one after the other.
        mode: of ``torch.compile``; empty: eager.
        threads: of torch.
    """

    role: str
    root: str
    out: str
    contexts: str
    checkpoint: str
    horizon: int
    samples: int
    seeds: list[int]
    intervals: dict[str, int]
    device: str
    mode: str
    threads: int

    def save(self) -> Path:
        """Writes the job into its own folder and returns the file."""
        path = Path(self.out) / "job.json"
        path.write_text(json.dumps(asdict(self)))
        return path


def execute(job: Job) -> None:
    """Forecasts, and writes the samples of each series, shape (windows, seeds, num_samples, horizon).

    Raises:
        CheckpointError: it cannot be loaded into this tree.
    """
    import numpy as np
    import torch

    from toto_patcher.runtime.pipeline import TotoPipeline

    torch.set_num_threads(job.threads)
    pipeline = TotoPipeline.from_pretrained(
        job.checkpoint,
        root=job.root,
        device_map=job.device,
        torch_compile=bool(job.mode),
        compile_mode=job.mode or None,
    )
    found: dict[str, Any] = {}  # arrays; numpy's stub of savez takes no narrower type
    seconds: dict[str, float] = {}
    with np.load(job.contexts) as contexts:
        for name in contexts.files:
            start = time.monotonic()
            drawn = []
            for seed in job.seeds:
                # One call a series: its windows have one length, and a call's random numbers depend on the batch alone.
                forecasts = pipeline.predict(
                    contexts[name],
                    job.horizon,
                    num_samples=job.samples,
                    seed=seed,
                    interval_seconds=job.intervals[name],
                    progress=False,
                )
                drawn.append(np.stack([forecast.numpy() for forecast in forecasts]))
            found[name] = np.stack(drawn, axis=1)
            seconds[name] = round(time.monotonic() - start, 3)
            print(json.dumps({"kind": job.role, "case": name}), flush=True)
    facts: dict[str, Any] = {
        "python": sys.version.split()[0],
        "torch": torch.__version__,
        "numpy": np.__version__,
        "device": str(pipeline.device),
        "gpu": torch.cuda.get_device_name(pipeline.device) if pipeline.device.type == "cuda" else None,
        "profile": pipeline.profile,
        "compiled": pipeline.compiled,
        "mode": pipeline.mode,
        "seconds": seconds,
    }
    np.savez(Path(job.out) / "arrays.npz", **found)
    (Path(job.out) / "facts.json").write_text(json.dumps(facts))


def main(arguments: Sequence[str]) -> int:
    """Runs the job named on the command line."""
    # What is compiled is the job's to say, not that of a shell in which compilation happens to be switched off.
    for name in [name for name in os.environ if name.startswith("TOTO_")]:
        del os.environ[name]
    job = Job(**json.loads(Path(arguments[0]).read_text()))
    try:
        execute(job)
    except Exception as error:  # whatever a tree does is a finding of the parent's
        (Path(job.out) / FAILURE_FILE).write_text(traceback.format_exc())
        if isinstance(error, CheckpointError):
            (Path(job.out) / CHECKPOINT_FILE).write_text(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
