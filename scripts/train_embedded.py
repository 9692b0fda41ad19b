"""Trains the small model that travels with the package, on made-up series, and judges it on real ones.

    python scripts/train_embedded.py --root DIR [--out DIR] [--steps N] [--threads N] [--seed N] [--eager]

DIR is a Toto checkout; its own model code is what is trained. The same command on the same machine gives the same
weights, byte for byte. The real series (those of installed packages: pip install statsmodels, and with --no-deps
pmdarima and backtesting) are only forecast, never learned from.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
import time
import warnings
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.dont_write_bytecode = True

from toto_patcher.equivalence import tree as trees  # noqa: E402
from toto_patcher.evidence import series as real  # noqa: E402
from toto_patcher.evidence.training import artefact, batches, heldout  # noqa: E402
from toto_patcher.patching.vendoring.releases import known_release  # noqa: E402
from toto_patcher.runtime.checkpoints import EMBEDDED  # noqa: E402

UNSEEN = 10**6
"""Number of the first block that no run learns from."""


def main() -> int:
    """Trains, prints losses, writes the artefact; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="a Toto checkout")
    parser.add_argument("--out", type=Path, default=EMBEDDED)
    parser.add_argument("--steps", type=int, default=7_000)
    parser.add_argument("--threads", type=int, default=1, help="of the training; one more process makes the series")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--eager", action="store_true", help="do not compile")
    options = parser.parse_args()

    import torch

    from toto_patcher.evidence.training import fitting

    warnings.simplefilter("ignore")
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    tree = trees.load(options.root)
    model = tree.model(**artefact.config(), use_memory_efficient_attention=False)
    settings = fitting.Settings(steps=options.steps, seed=options.seed, compiled=not options.eager)
    patch = artefact.SHAPE.patch_size
    unseen = [batch for number in range(4) for batch in batches.block(options.seed, UNSEEN + number, patch)]
    known = real.load()
    losses: list[dict[str, float]] = []
    judged: list[dict[str, float]] = []

    def tell(step: int, loss: float, seconds: float) -> None:
        losses.append({"step": step, "loss": loss})
        line = f"{step:6d}  {seconds:6.0f} s  loss {loss:7.4f}"
        if step % (options.steps // 10 or 1) == 0 or step == options.steps:
            found = fitting.heldout_losses(model.model, unseen, known)
            judged.append({"step": step, **found})
            line += "".join(f"  {name} {value:.4f}" for name, value in found.items())
        print(line, flush=True)

    started = time.perf_counter()
    fitting.fit(model.model, settings, tell)
    seconds = time.perf_counter() - started
    scores = [heldout.score(model, tree, one) for one in known]
    record = _record(options, settings, tree, model, seconds)
    grouped = tuple(layout for layout in settings.layouts if layout.variates > 1)
    groups = [batch for number in range(4) for batch in batches.block(options.seed, UNSEEN + number, patch, grouped)]
    record["groups"] = fitting.group_losses(model.model, groups)
    record |= {"losses": losses, "heldout": judged, "scores": heldout.table(scores), "summary": heldout.summary(scores)}
    artefact.write(options.out, model, record)
    print(json.dumps(record["summary"]))
    return 0


def _record(options: argparse.Namespace, settings: Any, tree: Any, model: Any, seconds: float) -> dict[str, Any]:
    """What was run, with what, on what."""
    import numpy
    import torch

    command = f"python scripts/train_embedded.py --root DIR --steps {options.steps} --threads {options.threads}"
    command += f" --seed {options.seed}" + (" --eager" if options.eager else "")
    shapes, imported = settings.layouts, tree.fingerprints()
    mean = sum(shape.share * shape.series * shape.variates * shape.length for shape in shapes)
    return {
        "schema": 1,
        "run": {
            "command": command,
            "date": datetime.now(timezone.utc).date().isoformat(),
            "seconds": round(seconds),
            "threads": options.threads,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
            "processor": _processor(),
            "toto": known_release({PurePosixPath(path): digest for path, digest in imported.items()}),
            "tree": imported,
        },
        "settings": {name: value for name, value in vars(settings).items() if name != "layouts"},
        "layouts": [vars(layout) for layout in settings.layouts],
        "config": artefact.config(),
        "parameters": sum(value.numel() for value in model.parameters()),
        "points": round(mean * options.steps),
        "longest_context": max(shape.length for shape in shapes),
        "most_variates": max(shape.variates for shape in shapes),
        "samples": heldout.SAMPLES,
    }


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    sys.exit(main())
