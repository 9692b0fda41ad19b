"""Child process: imports one tree after another and forecasts with each. Torch is imported once.

Reads one JSON request a line on stdin: ``{"root", "package", "sys_path"}``, optionally ``"probe"`` (the name of a
function) of ``"module"`` (by default ``probes``). Answers one JSON line: ``{"outputs": {case: sha256}}``,
``{"value": ...}`` or ``{"error"}``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import sys
import traceback
import types
import warnings
from pathlib import Path
from typing import Any

warnings.simplefilter("ignore")
sys.dont_write_bytecode = True

import gluonts.torch.distributions  # noqa: E402, F401
import huggingface_hub  # noqa: E402, F401
import rotary_embedding_torch  # noqa: E402, F401
import torch  # noqa: E402

torch.set_num_threads(1)


class _LowerTriangularMask:
    """Stands for xformers' causal mask."""


def _memory_efficient_attention(q: Any, k: Any, v: Any, attn_bias: Any = None, p: float = 0.0) -> Any:
    """Stands for xformers' kernel: (batch, seq, heads, dim), causal when the mask object says so."""
    q, k, v = (t.transpose(1, 2) for t in (q, k, v))
    causal = isinstance(attn_bias, _LowerTriangularMask)
    mask = None if causal else attn_bias
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=p, is_causal=causal)
    return out.transpose(1, 2)


def install_stub_of_xformers() -> None:
    """Enough of xformers for both attention layouts; its fused norms and MLP stay unavailable."""
    package, ops = types.ModuleType("xformers"), types.ModuleType("xformers.ops")
    ops.LowerTriangularMask = _LowerTriangularMask  # type: ignore[attr-defined]
    ops.memory_efficient_attention = _memory_efficient_attention  # type: ignore[attr-defined]
    package.ops = ops  # type: ignore[attr-defined]
    sys.modules.update({"xformers": package, "xformers.ops": ops})


class Tree:
    """One imported tree; purged from ``sys.modules`` on exit."""

    def __init__(self, root: str, package: str, sys_path: str) -> None:
        self.folder = str(Path(root, sys_path).resolve())
        self.prefix = f"{package}." if package else ""
        self._before: set[str] = set()

    def __enter__(self) -> Tree:
        importlib.invalidate_caches()
        self._before = set(sys.modules)
        sys.path.insert(0, self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        sys.path.remove(self.folder)
        for name in set(sys.modules) - self._before:
            origin = getattr(sys.modules[name], "__file__", None) or ""
            spaces = [str(path) for path in getattr(sys.modules[name], "__path__", [])]
            if any(place.startswith(self.folder) for place in (origin, *spaces)):
                del sys.modules[name]

    def module(self, name: str) -> types.ModuleType:
        """A module of the tree by its name inside the package; checked to come from this tree."""
        found = importlib.import_module(self.prefix + name)
        assert str(found.__file__).startswith(self.folder), found.__file__
        return found

    def model(self, *, layout: str = "torch", **changes: Any) -> Any:
        """The ``tiny`` workload's model with seeded weights, in evaluation mode."""
        torch.manual_seed(0)
        arguments: dict[str, Any] = {
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
            "use_memory_efficient_attention": layout == "xformers",
            "stabilize_with_global": True,
            "scale_factor_exponent": 10.0,
        }
        try:
            made = self.module("model.toto").Toto
        except ModuleNotFoundError:
            return types.SimpleNamespace(
                model=self.module("model.backbone").TotoBackbone(**{**arguments, **changes}).eval()
            )
        return made(**{**arguments, **changes}).eval()

    def series(self, length: int, variates: int) -> Any:
        """A seeded random walk."""
        make = self.module("data.util.dataset").MaskedTimeseries
        walk = torch.randn(variates, length, generator=torch.Generator().manual_seed(1)).cumsum(-1)
        mask = torch.ones(variates, length, dtype=torch.bool)
        ids = torch.zeros(variates, length, dtype=torch.int)
        seconds = torch.arange(length).expand(variates, length).contiguous()
        return make(walk, mask, ids, seconds, torch.full((variates,), 60))

    def forecast(self, model: Any, length: int, variates: int, horizon: int, **how: Any) -> Any:
        """Forecast values: samples where samples were drawn, else the mean."""
        forecaster = self.module("inference.forecaster").TotoForecaster(model.model)
        torch.manual_seed(5)
        result = forecaster.forecast(self.series(length, variates), horizon, **how)
        return result.mean if result.samples is None else result.samples


CASES: dict[str, tuple[str, tuple[int, int, int], dict[str, Any]]] = {
    "one step": ("torch", (64, 1, 8), {}),
    "decoding": ("torch", (50, 3, 40), {"num_samples": 4, "samples_per_batch": 2}),
    "xformers layout": ("xformers", (50, 2, 33), {"num_samples": 2, "samples_per_batch": 1}),
    "no cache": ("torch", (50, 2, 20), {"use_kv_cache": False}),
}


def outputs(tree: Tree) -> dict[str, str]:
    """A digest of every case's values."""
    found = {}
    layouts = ("torch", "xformers") if tree.module("model.attention").XFORMERS_AVAILABLE else ("torch",)
    for name, (layout, shape, how) in CASES.items():
        if layout not in layouts:
            continue
        values = tree.forecast(tree.model(layout=layout), *shape, **how)
        assert torch.isfinite(values).all()
        found[name] = hashlib.sha256(values.contiguous().numpy().tobytes()).hexdigest()
    return found


def answer(request: dict[str, str]) -> dict[str, Any]:
    """Runs one request."""
    try:
        with Tree(request["root"], request["package"], request["sys_path"]) as tree:
            if "probe" in request:
                module = importlib.import_module(f"tests.variations.{request.get('module', 'probes')}")
                return {"value": getattr(module, request["probe"])(tree)}
            return {"outputs": outputs(tree)}
    except BaseException:
        return {"error": traceback.format_exc(limit=-6)}


if __name__ == "__main__":
    install_stub_of_xformers()
    channel, sys.stdout = sys.stdout, sys.stderr
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=channel, flush=True)
