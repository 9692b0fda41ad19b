"""Runs in a process of its own, because one process holds one Toto: ``python training_driver.py TREE [SERIES ...]``.

With names of real series it loads the embedded model as anybody would and prints its errors on them. Without, it trains
a tiny model twice under one seed and once under another, and prints the digests of the weights and the losses.
"""

import hashlib
import json
import sys
import warnings
from pathlib import Path

import torch

from toto_patcher.equivalence import tree as trees
from toto_patcher.equivalence.models import TINY
from toto_patcher.evidence import series
from toto_patcher.evidence.training import artefact, fitting, heldout
from toto_patcher.evidence.training.batches import Layout
from toto_patcher.runtime.checkpoints import EMBEDDED

sys.dont_write_bytecode = True
warnings.simplefilter("ignore")
torch.set_num_threads(1)
tree = trees.load(Path(sys.argv[1]))


def fit(seed: int) -> tuple[str, list[float]]:
    torch.manual_seed(seed)
    backbone = tree.model(**artefact.config(TINY), use_memory_efficient_attention=False).model
    layouts = (Layout(0.5, 4, 1, 128), Layout(0.5, 2, 4, 96))
    losses = fitting.fit(
        backbone, fitting.Settings(24, seed, warmup=4, compiled=False, layouts=layouts), lambda *_: None
    )
    weights = b"".join(value.detach().numpy().tobytes() for value in backbone.parameters())
    return hashlib.sha256(weights).hexdigest(), losses


def forecast() -> dict[str, dict[str, float]]:
    model = tree.model.load_from_checkpoint(str(EMBEDDED)).eval()
    return {one.name: vars(heldout.score(model, tree, one)) for one in series.load(sys.argv[2:])}


print(json.dumps(forecast() if sys.argv[2:] else [fit(0), fit(0), fit(1)]))
