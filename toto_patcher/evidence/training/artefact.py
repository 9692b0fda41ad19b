"""The folder that a training run leaves: a checkpoint as upstream loads it, the record of the run, and a model card."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from toto_patcher.equivalence.models import CONFIG_FILE, WEIGHTS_FILE, Shape

RECORD_FILE, CARD_FILE = "training.json", "README.md"
LARGEST = 6_000_000
"""Bytes that the weights may take: they travel in every wheel."""

SHAPE = Shape("embedded", patch_size=32, embed_dim=128, num_layers=5, num_heads=4, mlp_hidden_dim=192, components=6)


def config(shape: Shape = SHAPE) -> dict[str, Any]:
    """The content of ``config.json``. It was trained without dropout: it sees no series twice."""
    return {**shape.config(), "dropout": 0.0}


def write(folder: Path, model: Any, record: dict[str, Any], shape: Shape = SHAPE) -> None:
    """Writes the four files; the same model gives the same bytes of the checkpoint.

    Args:
        folder: is made if it is not there.
        model: a ``Toto``.
        record: what becomes of ``training.json``; the card is made from it.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.detach().contiguous() for name, value in sorted(model.state_dict().items())}
    save_file(weights, folder / WEIGHTS_FILE)
    (folder / WEIGHTS_FILE).chmod(0o644)  # safetensors makes it private
    (folder / CONFIG_FILE).write_text(json.dumps(config(shape), indent=2, sort_keys=True) + "\n")
    (folder / RECORD_FILE).write_text(json.dumps(record, indent=1) + "\n")
    (folder / CARD_FILE).write_text(card(record))


def card(record: dict[str, Any]) -> str:
    """The model card, from the record of the run alone."""
    shape, run = record["config"], record["run"]
    summary = record["summary"]
    return f"""# The embedded model

Made by `scripts/train_embedded.py` from `training.json` in this folder; do not edit.

A small model of Toto's architecture, trained by this project so that examples, plots and accuracy checks forecast with
something that has learned something. It is not Datadog's model and was not compared with it: for forecasts that matter
use the published checkpoint.

- {record["parameters"]:,} parameters in float32: patches of {shape["patch_size"]} points, width {shape["embed_dim"]}, \
{shape["num_layers"]} layers of which the last is space-wise, {shape["num_heads"]} heads, a mixture of \
{shape["output_distribution_kwargs"]["k_components"]} Student-Ts. Weights start from torch's own initialisation.
- It has seen no real series: all {record["points"] / 1e6:,.0f} million points that it learned from were made up by \
`toto_patcher/evidence/training` (trends, seasons, loads, random walks, cycles, counts, jumps), each seen once.
- Whoever wrote those rules knew what kinds of series are forecast below, and changed the shares of two of them after \
seeing the scores of an earlier model: the scores are of series it has not seen, not of kinds nobody thought of.
- Contexts of up to {record["longest_context"]:,} points and up to {record["most_variates"]} variates; what is longer \
or wider is outside of what it knows.
- Command: `{run["command"]}` with the model code of toto-ts {run["toto"]}, torch {run["torch"]}, numpy \
{run["numpy"]}; {run["seconds"] / 60:.0f} minutes on {run["threads"]} thread{"s" if run["threads"] > 1 else ""} of a \
{run["processor"]}; {run["date"]}.

Mean negative log-likelihood of the next patch, in scaled units: {record["losses"][0]["loss"]:.2f} after the first \
{record["losses"][0]["step"]} steps, {record["losses"][-1]["loss"]:.2f} in the last \
{record["losses"][-1]["step"] - record["losses"][-2]["step"]}; on made-up series it has not seen \
{record["heldout"][-1]["synthetic"]:.2f}, on the real ones below {record["heldout"][-1]["real"]:.2f}.
On made-up groups of variates it is {record["groups"]["together"]:.3f}, and {record["groups"]["apart"]:.3f} with an \
id mask that keeps them apart; the difference is what it makes of the other variates.

Forecasts of the end of real series, from several origins, {record["samples"]} samples each. MASE and CRPS are in \
units of the seasonal naive error in the history; lower is better. Naive repeats the last value, seasonal the last \
season, with their own past errors as samples.

{_table(record["scores"])}

Over all series (geometric mean) MASE is {summary["mase"]:.2f} and CRPS {summary["crps"]:.2f} of what the better of \
the two naive forecasts has.
"""


def _table(scores: Sequence[dict[str, Any]]) -> str:
    head = "| series | steps ahead | origins | MASE | naive | seasonal | CRPS | naive | seasonal | inside 10-90 % |"
    lines = [head, "| --- |" + " ---: |" * 9]
    for row in scores:
        numbers = [row[f"{measure}{of}"] for measure in ("mase", "crps") for of in ("", "_naive", "_seasonal")]
        cells = " | ".join(f"{number:.2f}" for number in numbers)
        lines.append(f"| {row['series']} | {row['horizon']} | {row['origins']} | {cells} | {row['covered']:.0%} |")
    return "\n".join(lines)
