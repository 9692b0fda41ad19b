"""Forecasts a real series with the original and the patched Toto, same seed, and plots both over each other.

    python scripts/forecast_demo.py --original DIR --patched DIR --output PNG [--checkpoint DIR]

Each tree runs in its own process, with nothing of toto-patch in it: what is seen is the vendored code alone. The
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

TINY_MODEL: dict[str, Any] = {
    "patch_size": 16,
    "stride": 16,
    "embed_dim": 64,
    "num_layers": 4,
    "num_heads": 4,
    "mlp_hidden_dim": 128,
    "dropout": 0.1,
    "spacewise_every_n_layers": 4,
    "spacewise_first": False,
    "scaler_cls": "<class 'model.scaler.CausalPatchStdMeanScaler'>",
    "output_distribution_classes": ["<class 'model.distribution.MixtureOfStudentTsOutput'>"],
    "output_distribution_kwargs": {"k_components": 4},
    "use_memory_efficient_attention": False,
    "stabilize_with_global": True,
    "scale_factor_exponent": 10.0,
}


def load_series() -> tuple[np.ndarray, np.ndarray]:
    """Times in years and temperatures in degrees Celsius, one a month."""
    from statsmodels.datasets import elnino

    table = elnino.load_pandas().data
    values = table.drop(columns="YEAR").to_numpy(dtype=np.float32).reshape(-1)
    return float(table["YEAR"].iloc[0]) + np.arange(values.size) / 12, values


def forecast(tree: Path, context: np.ndarray, checkpoint: Path | None) -> np.ndarray:
    """Samples of the forecast by the Toto in this tree, shape (HORIZON, SAMPLES). Runs in a process of its own."""
    sys.path.insert(0, str(tree))
    sys.dont_write_bytecode = True
    import torch
    from toto.data.util.dataset import MaskedTimeseries
    from toto.inference.forecaster import TotoForecaster
    from toto.model.toto import Toto

    imported = Path(sys.modules["toto"].__path__[0]).resolve()
    if imported != (tree / "toto").resolve():
        raise SystemExit(f"imported another Toto: {imported}")
    torch.manual_seed(SEED)
    model = Toto(**TINY_MODEL) if checkpoint is None else Toto.from_pretrained(str(checkpoint))
    model.eval()
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


def forecast_in_child(tree: Path, context: np.ndarray, checkpoint: Path | None) -> np.ndarray:
    """The same, in a fresh process that has imported no other Toto."""
    with tempfile.TemporaryDirectory() as folder:
        given, made = Path(folder) / "context.npy", Path(folder) / "samples.npy"
        np.save(given, context)
        command = [sys.executable, "-W", "ignore", __file__, "--child", str(tree), str(given), str(made)]
        command += [] if checkpoint is None else ["--checkpoint", str(checkpoint)]
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
    times, values = load_series()
    context = values[:CONTEXT]
    trees = {"original": options.original, "patched": options.patched}
    both = {name: forecast_in_child(tree, context, options.checkpoint) for name, tree in trees.items()}
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
