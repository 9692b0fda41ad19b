"""Forecasts a real series with the original and the patched Toto, same seed, and plots both over each other.

    python scripts/forecast_demo.py --original DIR --patched DIR --output PNG [--checkpoint DIR]

Each tree runs in its own process, which imports the vendored code alone and loads a checkpoint as anybody would. The
series is El Niño's sea surface temperature, monthly, 1950-2010, out of statsmodels. Without a checkpoint (a folder with
config.json and model.safetensors) the model is small and its weights are random, and the plot says so: it shows that
two programs agree, not that they forecast well. Exits 5 if they do not agree.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

MONTH_SECONDS = 30 * 24 * 3600
CONTEXT, HORIZON, SAMPLES, SEED = 384, 60, 64, 7
TOLERANCE = 1e-3
"""Largest difference allowed between two samples, in standard deviations of the context."""


def load_series() -> tuple[np.ndarray, np.ndarray]:
    """Times in years and temperatures in degrees Celsius, one a month."""
    from statsmodels.datasets import elnino

    table = elnino.load_pandas().data
    values = table.drop(columns="YEAR").to_numpy(dtype=np.float32).reshape(-1)
    return float(table["YEAR"].iloc[0]) + np.arange(values.size) / 12, values


def forecast(tree: Path, context: np.ndarray, checkpoint: Path) -> np.ndarray:
    """Samples of the forecast by the Toto in this tree, shape (HORIZON, SAMPLES). Runs in a process of its own."""
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    import torch
    from toto.data.util.dataset import MaskedTimeseries
    from toto.inference.forecaster import TotoForecaster
    from toto.model.toto import Toto

    imported = Path(sys.modules["toto.model.toto"].__file__ or "").resolve()
    if not imported.is_relative_to(tree.resolve()):
        raise SystemExit(f"imported another Toto: {imported}")
    if not (checkpoint / "model.safetensors").exists():
        write_random_checkpoint(Toto, checkpoint)
    model = Toto.load_from_checkpoint(str(checkpoint), "cpu").eval()
    series = torch.from_numpy(context)[None, None, :]
    inputs = MaskedTimeseries(
        series=series,
        padding_mask=torch.ones_like(series, dtype=torch.bool),
        id_mask=torch.zeros_like(series),
        timestamp_seconds=torch.arange(series.shape[-1]).expand(series.shape) * MONTH_SECONDS,
        time_interval_seconds=torch.full((1, 1), MONTH_SECONDS),
    )
    torch.manual_seed(SEED)
    result = TotoForecaster(model.model).forecast(
        inputs, prediction_length=HORIZON, num_samples=SAMPLES, samples_per_batch=SAMPLES, use_kv_cache=True
    )
    return result.samples[0, 0].numpy()


def write_random_checkpoint(toto: Any, folder: Path) -> None:
    """Writes a checkpoint of the tiny shape with seeded weights, the same that `verify-only --numerics` uses."""
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    from toto_patcher.equivalence.models import TINY, write_checkpoint

    state = toto(**TINY.config(), use_memory_efficient_attention=False).state_dict()
    write_checkpoint(TINY, {name: tuple(tensor.shape) for name, tensor in state.items()}, folder, seed=SEED)


def forecast_in_child(tree: Path, context: np.ndarray, checkpoint: Path) -> np.ndarray:
    """The same, in a fresh process that has imported no other Toto."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "context.npy", Path(folder) / "samples.npy"
        np.save(given, context)
        command = [sys.executable, "-W", "ignore", __file__, "--child", str(tree), str(given), str(made)]
        command += ["--checkpoint", str(checkpoint)]
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        if subprocess.run(command, env=environment, check=False).returncode != 0:
            raise SystemExit(f"the forecast with {tree} failed, see above")
        return np.load(made)


def plot(times: np.ndarray, values: np.ndarray, both: dict[str, np.ndarray], title: str, output: Path) -> None:
    """History and, for each tree, the median and the 10-90 % band of its samples."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(11, 5), layout="constrained")
    shown = slice(CONTEXT - 10 * 12, CONTEXT)
    axes.plot(times[shown], values[shown], color="0.35", label="history")
    future = times[CONTEXT : CONTEXT + HORIZON]
    axes.plot(future, values[CONTEXT : CONTEXT + HORIZON], color="0.7", label="what happened")
    styles = {"original": ("tab:blue", "-", 4.0, 0.5), "patched": ("tab:orange", "--", 1.6, 1.0)}
    for name, samples in both.items():
        color, line, width, alpha = styles[name]
        low, median, high = np.quantile(samples, [0.1, 0.5, 0.9], axis=1)
        axes.plot(future, median, line, color=color, linewidth=width, alpha=alpha, label=f"{name}: median")
        axes.fill_between(future, low, high, color=color, alpha=0.12, label=f"{name}: 10-90 %")
    axes.set(title=title, xlabel="year", ylabel="sea surface temperature, °C")
    axes.legend(loc="upper left", ncols=3, fontsize="small")
    output.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(output, dpi=120)


def main() -> int:
    """Forecasts with both trees, compares, plots; returns the exit status."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--original", type=Path)
    parser.add_argument("--patched", type=Path)
    parser.add_argument("--output", type=Path, default=Path("forecast.png"))
    parser.add_argument("--checkpoint", type=Path)
    parser.add_argument("--child", nargs=3, type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        tree, given, made = options.child
        np.save(made, forecast(tree, np.load(given), options.checkpoint))
        return 0
    if options.original is None or options.patched is None:
        parser.error("--original and --patched are needed")
    for name in () if options.checkpoint is None else ("config.json", "model.safetensors"):
        if not (options.checkpoint / name).is_file():
            parser.error(f"no {name} in {options.checkpoint}")
    times, values = load_series()
    context = values[:CONTEXT]
    trees = {"original": options.original, "patched": options.patched}
    with tempfile.TemporaryDirectory() as random_weights:
        checkpoint = options.checkpoint or Path(random_weights)
        both = {name: forecast_in_child(tree, context, checkpoint) for name, tree in trees.items()}
    difference = float(np.abs(both["original"] - both["patched"]).max() / context.std())
    weights = "RANDOM WEIGHTS, tiny model" if options.checkpoint is None else f"checkpoint {options.checkpoint.name}"
    title = (
        f"Toto 1.0, original and patched ({weights}): {SAMPLES} samples each, largest difference {difference:.1e} sd"
    )
    plot(times, values, both, title, options.output)
    print(f"    series    El Niño, {CONTEXT} months as context, {HORIZON} ahead, {SAMPLES} samples, seed {SEED}")
    print(f"    weights   {weights}" + (": the forecast means nothing" if options.checkpoint is None else ""))
    print(f"    largest difference between two samples: {difference:.1e} standard deviations (allowed: {TOLERANCE:g})")
    print(f"    picture   {options.output}")
    if not difference <= TOLERANCE:
        print("error: the two forecasts differ", file=sys.stderr)
        return 5
    return 0


if __name__ == "__main__":
    sys.exit(main())
