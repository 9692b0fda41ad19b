"""Model shapes, and the checkpoints of seeded weights that stand in for trained ones.

The weights are made here, from the names and shapes that a tree's own model declares, so no download is needed and
original and patched get the same bytes. They are scaled so that every part of the model shows in its outputs: sharp
attention, biases that are not zero, all components of the mixture in play.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

CONFIG_FILE = "config.json"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Shape:
    """The sizes of a model; the names are those of Toto's own configuration.

    Attributes:
        patch_size: time steps in a patch.
        embed_dim: width of the transformer.
        num_layers: layers, of which the last is space-wise and the others time-wise.
        components: Student-Ts in the output mixture.
    """

    name: str
    patch_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    mlp_hidden_dim: int
    components: int

    def config(self) -> dict[str, Any]:
        """The content of ``config.json``, with class names as the published checkpoint spells them."""
        return {
            "patch_size": self.patch_size,
            "stride": self.patch_size,
            "embed_dim": self.embed_dim,
            "num_layers": self.num_layers,
            "num_heads": self.num_heads,
            "mlp_hidden_dim": self.mlp_hidden_dim,
            "dropout": 0.1,
            "spacewise_every_n_layers": self.num_layers,
            "spacewise_first": False,
            "scaler_cls": "<class 'model.scaler.CausalPatchStdMeanScaler'>",
            "output_distribution_classes": ["<class 'model.distribution.MixtureOfStudentTsOutput'>"],
            "output_distribution_kwargs": {"k_components": self.components},
            "stabilize_with_global": True,
            "scale_factor_exponent": 10.0,
        }


TINY = Shape("tiny", patch_size=16, embed_dim=64, num_layers=4, num_heads=4, mlp_hidden_dim=128, components=4)
BASE = Shape("base", patch_size=64, embed_dim=768, num_layers=12, num_heads=12, mlp_hidden_dim=3072, components=24)
SHAPES: Mapping[str, Shape] = {shape.name: shape for shape in (TINY, BASE)}

# Sharp attention, or positions would not matter; a head that is not too steep, or feeding forecasts back into the model
# would multiply rounding errors from patch to patch and drown what is being looked for.
_GAINS = {"wQKV": 1.2, "mlp": 0.7, "df": 0.5, "loc_proj": 0.4, "scale_proj": 0.5, "mixture_weights": 0.5}


def weight(name: str, shape: Sequence[int], seed: int = 0) -> npt.NDArray[np.float32]:
    """The seeded value of one parameter, the same in every process and for every order of creation."""
    import numpy as np

    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(tuple(shape), dtype=np.float32)
    if len(shape) < 2:
        is_norm = name.rpartition(".")[2] == "scale" or ".norm" in name
        return (1.0 + 0.2 * normal if is_norm else 0.3 * normal).astype(np.float32)
    gain = next((value for part, value in _GAINS.items() if part in name.split(".")), 1.0)
    normal *= np.float32(gain / float(np.sqrt(shape[-1])))
    return normal


def write_checkpoint(
    shape: Shape, parameters: Mapping[str, Sequence[int]], folder: Path, seed: int = 0
) -> dict[str, str]:
    """Writes ``config.json`` and ``model.safetensors`` into ``folder``, as ``Toto.load_from_checkpoint`` reads them.

    Args:
        shape: the configuration to write.
        parameters: name and shape of every parameter, from the model that the tree itself builds.
        folder: an existing folder.
        seed: of the weights.

    Returns:
        File name -> sha256, so that two processes can prove that they loaded the same weights.
    """
    from safetensors.numpy import save_file

    (folder / CONFIG_FILE).write_text(json.dumps(shape.config(), indent=2, sort_keys=True) + "\n")
    save_file({name: weight(name, parameters[name], seed) for name in sorted(parameters)}, folder / WEIGHTS_FILE)
    return checkpoint_fingerprints(folder)


def checkpoint_fingerprints(folder: Path) -> dict[str, str]:
    """File name -> sha256 of the two files of a checkpoint; a file that is absent is left out."""
    found = {}
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if (folder / name).is_file():
            with (folder / name).open("rb") as stream:
                found[name] = _digest(stream)
    return found


def _digest(stream: Any) -> str:
    digest = hashlib.sha256()
    while block := stream.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
