"""What stands in for the class ``Toto`` in a tree that has none: the backbone, built and loaded directly."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any


def direct(backbone: Any) -> Any:
    """A class that is made and loaded as ``Toto`` is, and holds the backbone as its ``model``.

    Args:
        backbone: the tree's ``TotoBackbone``.
    """
    import torch

    class Direct(torch.nn.Module):
        def __init__(self, **config: Any) -> None:
            super().__init__()
            taken = inspect.signature(backbone).parameters
            self.model = backbone(**{name: value for name, value in config.items() if name in taken})

        @classmethod
        def load_from_checkpoint(cls, checkpoint: str, map_location: str = "cpu", **options: Any) -> Any:
            from safetensors.torch import load_file

            folder = Path(checkpoint)
            made = cls(**{**json.loads((folder / "config.json").read_text()), **options}).to(map_location)
            known = made.state_dict()
            weights = load_file(folder / "model.safetensors", device=map_location)
            kept = {name: value for name, value in _as_unfused(weights).items() if name in known}
            made.load_state_dict(
                {name: value for name, value in kept.items() if not name.endswith("rotary_emb.freqs")}, strict=False
            )
            return made

    return Direct


def _as_unfused(weights: dict[str, Any]) -> dict[str, Any]:
    """The weights by the names that they have without xformers' fused layers."""
    names = {"mlp.0.w12.": "mlp.0.", "mlp.0.w3.": "mlp.2."}
    found = {}
    for name, value in weights.items():
        for fused, plain in names.items():
            name = name.replace(fused, plain)
        found[name] = value
    return found
