"""Other packages beside Toto, with classes of the same names: Toto is patched, and they are left alone."""

from __future__ import annotations

import shutil
from pathlib import Path

from .base import variation
from .edit import BACKBONE_FILE, FORECASTER, add_import, defining, rewrite_text
from .lookalikes import BUFFER_CACHE, GROWING_CACHE, IMPORTS, OTHER_ATTENTION

# As the second generation has them: the names are Toto's, what they do is not.
MODULES = """
class RMSNorm(nn.RMSNorm):
    def forward(self, x):
        return super().forward(x) * 2


class SwiGLU(nn.Module):
    def forward(self, x):
        return x


class PatchEmbedding(nn.Module):
    def _patchify(self, x, size):
        return x.unflatten(-1, (-1, size))

    def forward(self, x):
        return self._patchify(x, 8)


class TimeAwareRotaryEmbedding(nn.Module):
    def rotate_queries_and_keys(self, q, k):
        return q, k

    def get_scale(self, t):
        return t


class TransformerLayer(nn.Module):
    def forward(self, x):
        return x


class Transformer(nn.Module):
    def forward(self, x):
        return x

    def _get_mask(self):
        return None


class Toto2Model(nn.Module):
    def forward(self, x):
        return x


class MixtureOfStudentTsOutput(nn.Module):
    def forward(self, x):
        return x


def make_batched_block_mask(t):
    return None


def pad_array(values):
    return values
"""
CACHE_WITH_AN_INDEX = """
class KVCache:
    def __init__(self):
        self._current_idx = torch.zeros(3)
        self._layer_cache_map = {}

    def append(self, layer_idx, kv):
        self._current_idx += 1
"""


def _package(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")


def _second_generation(folder: Path) -> None:
    cache = GROWING_CACHE.replace("seq_len", "length").replace("__getitem__", "get")
    model = IMPORTS + cache + OTHER_ATTENTION + MODULES
    _package(folder, {"__init__.py": "from .model import Toto2Model\n", "model.py": model})


@variation(left="toto2/")
def second_generation_beside_it(root: Path) -> None:
    """Upstream's own repository since 2026: ``toto2/`` beside ``toto/``."""
    _second_generation(root / "toto2")


@variation(left="toto/second/")
def second_generation_exported_by_the_same_package(root: Path) -> None:
    """A zoo of models, whose package hands on both."""
    _second_generation(root / "toto/second")
    (root / "toto/__init__.py").write_text(
        "def models():\n    from .inference.forecaster import TotoForecaster\n    from .second import Toto2Model\n\n"
        "    return TotoForecaster, Toto2Model\n"
    )


@variation(left="toto/second/")
def forecaster_imported_through_a_package_of_both(root: Path) -> None:
    """The forecaster takes the backbone from a package that also hands on the other generation."""
    _second_generation(root / "toto/second")
    path = root / "toto/model/__init__.py"
    path.write_text(
        "def __getattr__(name):\n    raise AttributeError(name)\n\n\n"
        "try:\n    from ..second.model import KVCache as OtherCache, Toto2Model\nexcept ImportError:\n    pass\n"
        "from .backbone import TotoBackbone\n"
    )
    forecaster = defining(root, FORECASTER)
    rewrite_text(
        forecaster, lambda text: text.replace("model.backbone import TotoBackbone", "model import TotoBackbone")
    )


@variation(left="zoo/")
def library_of_models_beside_it(root: Path) -> None:
    """A benchmark's library, with its own cache that has an index of the same name, and Toto among its models."""
    _package(
        root / "zoo",
        {
            "__init__.py": "",
            "layers/__init__.py": "",
            "layers/cache.py": IMPORTS + CACHE_WITH_AN_INDEX,
            "layers/attention.py": IMPORTS + OTHER_ATTENTION,
            "layers/embed.py": IMPORTS + MODULES,
            "models/buffered.py": IMPORTS + BUFFER_CACHE,
            "models/toto.py": "from toto.inference.forecaster import TotoForecaster\n\n\nclass Toto:\n"
            "    def __init__(self, model):\n        self.forecaster = TotoForecaster(model)\n",
        },
    )


@variation(full_graph="TotoBackbone.allocate_kv_cache is not the one", left="toto/model/aside.py")
def cache_imported_late_by_another_name(root: Path) -> None:
    """The look-alike stands in Toto's own folder; Toto's own cache is imported inside of a function, by an alias."""
    _package(root / "toto/model", {"aside.py": IMPORTS + CACHE_WITH_AN_INDEX})
    path = defining(root, BACKBONE_FILE)
    text = path.read_text(encoding="utf-8")
    kept = [line for line in text.splitlines(keepends=True) if "util import KVCache" not in line]
    late = "        from . import util as tools\n\n        return tools.KVCache(\n"
    changed = "".join(kept).replace("        return KVCache(\n", late)
    assert changed.count("tools.KVCache(") == 1 and len(kept) < len(text.splitlines())
    path.write_text("from __future__ import annotations\n\n" + changed, encoding="utf-8")


@variation("refused", says="other/cache.py:.*KVCache", full_graph="other/cache.py:.*KVCache", runs=False)
def another_cache_that_the_backbone_uses(root: Path) -> None:
    """It stands in another package and is imported only where it is used: what is reached is not left alone."""
    (root / "toto/other").mkdir()
    (root / "toto/other/__init__.py").touch()
    (root / "toto/other/cache.py").write_text(IMPORTS + GROWING_CACHE)
    path = defining(root, BACKBONE_FILE)
    add_import(path, "import importlib\n")
    rewrite_text(
        path,
        lambda text: text + "\n\ndef other_cache():\n    return importlib.import_module('toto.other.cache').KVCache\n",
    )


@variation()
def without_the_class_toto(root: Path) -> None:
    """The backbone is built directly; nothing wraps it."""
    defining(root, "Toto").unlink()


@variation()
def another_class_toto(root: Path) -> None:
    """A service of that name, in place of upstream's wrapper."""
    defining(root, "Toto").unlink()
    (root / "toto/service.py").write_text("class Toto:\n    def __init__(self):\n        self.requests = []\n")


@variation()
def a_second_copy_of_toto(root: Path) -> None:
    """Both are Toto, and both become compile-friendly."""
    shutil.copytree(root / "toto", root / "vendored/toto")
