"""Forecasts a real series with the original and the patched Toto, same seed, and plots both over each other.

    python scripts/forecast_demo.py --original DIR --patched DIR --output PNG [--series NAME] [--checkpoint DIR]

Each tree runs in its own process, which imports the vendored code alone and loads a checkpoint as anybody would:
without ``--checkpoint`` (a folder with config.json and model.safetensors) the small model that travels with
toto-patch, which was trained on made-up series only. The series is out of an installed package and its end is kept
back, to see what really came. Exits 5 if the two programs do not agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))

CONTEXT, SAMPLES, SEED = 512, 128, 7
TOLERANCE = 1e-3
"""Largest difference allowed between two samples, in standard deviations of the context."""


@dataclass(frozen=True)
class Shown:
    """What of a series is forecast and drawn.

    Attributes:
        horizon: steps ahead.
        before: steps of history to draw.
        values: what they measure.
        unit: of the time axis, and ``steps`` in one of it.
    """

    horizon: int
    before: int
    values: str
    unit: str
    steps: int


SERIES = {
    "elnino": Shown(48, 120, "sea surface temperature off Peru, °C", "years", 12),
    "taylor": Shown(96, 288, "electricity demand in England and Wales, MW", "days", 48),
    "co2": Shown(104, 312, "CO₂ at Mauna Loa, ppm", "years", 52),
    "sunspots": Shown(22, 110, "sunspots a year", "years", 1),
}


def forecast(tree: Path, context: np.ndarray, horizon: int, interval: int, checkpoint: Path) -> np.ndarray:
    """Samples of the forecast by the Toto in this tree, shape (horizon, SAMPLES). Runs in a process of its own."""
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    import torch
    from toto.data.util.dataset import MaskedTimeseries
    from toto.inference.forecaster import TotoForecaster
    from toto.model.toto import Toto

    imported = Path(sys.modules["toto.model.toto"].__file__ or "").resolve()
    if not imported.is_relative_to(tree.resolve()):
        raise SystemExit(f"imported another Toto: {imported}")
    model = Toto.load_from_checkpoint(str(checkpoint), "cpu").eval()
    series = torch.from_numpy(context)[None, None, :]
    inputs = MaskedTimeseries(
        series=series,
        padding_mask=torch.ones_like(series, dtype=torch.bool),
        id_mask=torch.zeros_like(series),
        timestamp_seconds=torch.arange(series.shape[-1]).expand(series.shape) * interval,
        time_interval_seconds=torch.full((1, 1), interval),
    )
    torch.manual_seed(SEED)
    result = TotoForecaster(model.model).forecast(
        inputs, prediction_length=horizon, num_samples=SAMPLES, samples_per_batch=SAMPLES, use_kv_cache=True
    )
    return result.samples[0, 0].numpy()


def forecast_in_child(tree: Path, context: np.ndarray, horizon: int, interval: int, checkpoint: Path) -> np.ndarray:
    """The same, in a fresh process that has imported no other Toto."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "context.npy", Path(folder) / "samples.npy"
        np.save(given, context)
        command = [sys.executable, "-W", "ignore", __file__, "--checkpoint", str(checkpoint)]
        command += ["--child", str(tree), str(given), str(made), str(horizon), str(interval)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise SystemExit(f"the forecast with {tree} failed, see above")
        return np.load(made)


def plot(values: np.ndarray, both: dict[str, np.ndarray], shown: Shown, weights: str) -> Any:
    """History, what came, and for each tree the median and the 10-90 % band of its samples; below, their difference."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    grid = {"height_ratios": (5, 1)}
    figure, (axes, below) = pyplot.subplots(2, 1, figsize=(11, 6), sharex=True, layout="constrained", gridspec_kw=grid)
    past = np.arange(1 - shown.before, 1) / shown.steps
    future = np.arange(shown.horizon + 1) / shown.steps
    last = values[-shown.horizon - 1]  # everything starts where the history ends
    axes.plot(past, values[-shown.horizon - shown.before : -shown.horizon], color="0.2", linewidth=1.3, label="history")
    axes.plot(future, values[-shown.horizon - 1 :], ".:", color="0.2", linewidth=1, markersize=3, label="what came")
    quantiles = {name: np.quantile(samples, [0.1, 0.5, 0.9], axis=1) for name, samples in both.items()}
    bands = {name: np.hstack([np.full((3, 1), last), rows]) for name, rows in quantiles.items()}
    low, median, high = bands["original"]
    axes.fill_between(future, low, high, color="tab:blue", alpha=0.22, linewidth=0, label="original: 10-90 %")
    axes.plot(future, median, color="tab:blue", linewidth=4, alpha=0.5, label="original: median")
    low, median, high = bands["patched"]
    axes.plot(future, low, ":", color="tab:orange", linewidth=1.2, label="patched: 10-90 %")
    axes.plot(future, high, ":", color="tab:orange", linewidth=1.2)
    axes.plot(future, median, "--", color="tab:orange", linewidth=1.6, label="patched: median")
    axes.set_title(f"Toto 1.0, original and patched, the same seed ({weights})", loc="left")
    axes.set_ylabel(shown.values)
    axes.legend(loc="upper left", ncols=3, fontsize="small", frameon=False)
    axes.margins(x=0.01, y=0.02)
    floor, top = axes.get_ylim()
    axes.set_ylim(floor, top + 0.15 * (top - floor))  # room for the legend
    difference = np.abs(both["patched"] - both["original"]).max(axis=1)
    below.fill_between(future[1:], difference, color="tab:red", linewidth=0)
    below.set(xlabel=f"{shown.unit} from the last known value", ylabel="difference", ylim=(0, None))
    same = f"none: all {SAMPLES} samples are the same to the bit"
    found = f"largest of {SAMPLES} samples: {difference.max():.1e}" if difference.any() else same
    below.text(0.01, 0.6, found, transform=below.transAxes, fontsize="small")
    if not difference.any():
        below.set(ylim=(0, 1), yticks=[0])
    for axis in (axes, below):
        axis.axvline(0, color="0.6", linewidth=0.8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> int:
    """Forecasts with both trees, compares, plots; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--original", type=Path)
    parser.add_argument("--patched", type=Path)
    parser.add_argument("--output", type=Path, default=Path("forecast.png"))
    parser.add_argument("--series", choices=SERIES, default="elnino")
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--child", nargs=5, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        tree, given, made, horizon, interval = options.child
        samples = forecast(Path(tree), np.load(given), int(horizon), int(interval), options.checkpoint)
        np.save(made, samples)
        return 0
    if options.original is None or options.patched is None:
        parser.error("--original and --patched are needed")

    from toto_patcher.evidence import series
    from toto_patcher.runtime.checkpoints import EMBEDDED

    checkpoint = options.checkpoint or EMBEDDED
    for name in ("config.json", "model.safetensors"):
        if not (checkpoint / name).is_file():
            parser.error(f"no {name} in {checkpoint}")
    (chosen,) = series.load([options.series])
    shown = SERIES[chosen.name]
    horizon = shown.horizon
    context = chosen.values[: -horizon or None][-CONTEXT:]
    trees = {"original": options.original, "patched": options.patched}
    both = {
        name: forecast_in_child(tree, context, horizon, chosen.interval_seconds, checkpoint)
        for name, tree in trees.items()
    }
    difference = float(np.abs(both["original"] - both["patched"]).max() / context.std())
    weights = "embedded model" if options.checkpoint is None else f"checkpoint {options.checkpoint.name}"
    figure = plot(chosen.values, both, shown, weights)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.output, dpi=120)
    actual, naive = chosen.values[-horizon:], np.resize(context[-chosen.season :], horizon)
    errors = {"forecast": np.median(both["patched"], axis=1), "last season repeated": naive}
    what = f"{shown.values}; {context.size} steps known, {horizon} ahead"
    print(f"    series    {what}, {SAMPLES} samples, seed {SEED}")
    print(f"    weights   {weights}")
    for name, point in errors.items():
        print(f"    mean absolute error, {name}: {np.abs(point - actual).mean():.3g}")
    print(f"    largest difference between two samples: {difference:.1e} standard deviations (allowed: {TOLERANCE:g})")
    print(f"    picture   {options.output}")
    if not difference <= TOLERANCE:
        print("error: the two forecasts differ", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
