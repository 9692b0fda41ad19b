"""A folder that looks like a Toto checkout to the benchmark and computes next to nothing: ours, a few lines."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "toto/__init__.py": "",
    "toto/data/__init__.py": "",
    "toto/data/util/__init__.py": "",
    "toto/data/util/dataset.py": """
from typing import NamedTuple
import torch

class MaskedTimeseries(NamedTuple):
    series: torch.Tensor
    padding_mask: torch.Tensor
    id_mask: torch.Tensor
    timestamp_seconds: torch.Tensor
    time_interval_seconds: torch.Tensor
    num_exogenous_variables: int = 0

    def to(self, device):
        return self
""",
    "toto/model/__init__.py": "",
    "toto/model/util.py": "",
    "toto/model/attention.py": "",
    "toto/model/backbone.py": """
import torch

class TotoBackbone(torch.nn.Module):
    def __init__(self, **config):
        super().__init__()
        self.scale = torch.nn.Linear(1, 1)

    def forward(self, x):
        return self.scale(x.mean(-1, keepdim=True)) + BIAS
""",
    "toto/inference/__init__.py": "",
    "toto/inference/forecaster.py": """
from types import SimpleNamespace
import torch

def replace_extreme_values(x):
    return x

class TotoForecaster:
    def __init__(self, model):
        self.model = model

    @torch.no_grad()
    def forecast(self, inputs, prediction_length, num_samples=None, samples_per_batch=1):
        series = inputs.series if inputs.series.dim() == 3 else inputs.series.unsqueeze(0)
        steps = []
        for _ in range(prediction_length):
            steps.append(replace_extreme_values(self.model(series)))
        mean = torch.cat(steps, -1)
        samples = mean.unsqueeze(-1) + torch.randn(*mean.shape, num_samples or 1)
        return SimpleNamespace(mean=mean, samples=samples)
""",
}


def write_stub_tree(root: Path, *, bias: float = 0.0) -> Path:
    """Writes the tree; ``bias`` shifts its forecasts, so that two trees differ."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text.replace("BIAS", repr(bias)))
    return root
