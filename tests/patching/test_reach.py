"""Toto's own classes are those that forecaster and backbone reach, by whatever import; others are left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.reach import Reach

METHODS = "".join(
    f"    def {name}(self):\n        pass\n\n" for name in ("__getitem__", "append", "current_len", "seq_len", "reset")
)
CACHE = f"class KVCache:\n{METHODS}"
OTHER = "class KVCache:\n    def update(self):\n        pass\n"
FORECASTER = "class TotoForecaster:\n" + "".join(
    f"    def {name}(self):\n        pass\n\n" for name in ("forecast", "generate_mean", "generate_samples")
)


def tree(root: Path, files: dict[str, str]) -> Reach:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Reach.of(Checkout.open(root))


def own(reach: Reach, name: str = "KVCache") -> list[str]:
    return [str(place.path) for place in reach.definitions(name)]


@pytest.mark.parametrize(
    ("line", "more"),
    [
        ("from .cache import KVCache", {}),
        ("from .cache import KVCache as Other", {}),
        ("from .cache import *", {}),
        ("from . import cache", {}),
        ("from . import cache as c\nx = c.KVCache", {}),
        ("import toto.cache\nx = toto.cache.KVCache", {}),
        ("import toto.cache as c", {}),
        ("from toto.cache import KVCache", {}),
        ("from cache import KVCache", {}),
        ("def f():\n    from .cache import KVCache", {}),
        ("def f():\n    import importlib\n    return importlib.import_module('toto.cache')", {}),
        ("try:\n    from missing import KVCache\nexcept ImportError:\n    from .cache import KVCache", {}),
        ("from .hub import KVCache", {"toto/hub.py": "from .cache import KVCache\nfrom other.model import Thing\n"}),
        ("from .hub import C", {"toto/hub.py": "from . import cache\nC = cache.KVCache\n"}),
        ("from .hub import C", {"toto/hub.py": "from .cache import KVCache\nC = KVCache\n"}),
        ("from .hub import KVCache", {"toto/hub.py": "from .cache import *\n"}),
        ("from .hub import lazy", {"toto/hub/__init__.py": "from .. import cache\ndef __getattr__(name):\n    pass\n"}),
        ("from .middle import f", {"toto/middle.py": "def f():\n    from .cache import KVCache\n"}),
    ],
)
def test_every_way_to_import_a_class_reaches_it(tmp_path: Path, line: str, more: dict[str, str]) -> None:
    files = {"toto/__init__.py": "", "toto/forecaster.py": f"{line}\n\n\n{FORECASTER}", "toto/cache.py": CACHE}
    other = {"other/__init__.py": "", "other/model.py": f"class Thing:\n    pass\n\n\n{OTHER}"}
    assert own(tree(tmp_path, {**files, **other, **more})) == ["toto/cache.py"]


def test_a_package_that_hands_on_two_models_does_not_join_them(tmp_path: Path) -> None:
    hub = "from .mine import KVCache\nfrom .second import Second\n"
    reach = tree(
        tmp_path,
        {
            "zoo/__init__.py": hub,
            "zoo/mine.py": CACHE,
            "zoo/second.py": f"class Second:\n    pass\n\n\n{OTHER}",
            "zoo/forecaster.py": f"from zoo import KVCache\n\n\n{FORECASTER}",
        },
    )
    assert own(reach) == ["zoo/mine.py"]
    assert [str(left) for left in reach.left] == [
        "zoo/second.py:5: another class KVCache, which this Toto does not use, was left alone"
    ]


def test_two_definitions_that_are_both_reached_are_both_taken(tmp_path: Path) -> None:
    forecaster = f"from .one import KVCache\nfrom .two import KVCache as Second\n\n\n{FORECASTER}"
    files = {"toto/__init__.py": "", "toto/forecaster.py": forecaster, "toto/one.py": CACHE, "toto/two.py": OTHER}
    assert own(tree(tmp_path, files)) == ["toto/one.py", "toto/two.py"]


def test_a_second_version_beside_it_is_taken_and_a_class_of_another_kind_is_not(tmp_path: Path) -> None:
    files = {
        "toto/__init__.py": "",
        "toto/forecaster.py": f"from .cache import KVCache\n\n\n{FORECASTER}",
        "toto/cache.py": CACHE,
        "toto/cache_optimized.py": CACHE,
        "toto/aside.py": OTHER,
        "elsewhere/cache.py": CACHE,
    }
    assert own(tree(tmp_path, files)) == ["toto/cache.py", "toto/cache_optimized.py"]


def test_without_forecaster_and_backbone_the_definition_that_fits_is_taken(tmp_path: Path) -> None:
    assert own(tree(tmp_path, {"a/cache.py": OTHER, "b/cache.py": CACHE})) == ["b/cache.py"]


def test_where_none_fits_all_are_taken_so_that_the_refusal_names_them(tmp_path: Path) -> None:
    assert own(tree(tmp_path, {"a/cache.py": OTHER, "b/cache.py": OTHER})) == ["a/cache.py", "b/cache.py"]


def test_the_root_may_be_the_package_itself(tmp_path: Path) -> None:
    files = {"forecaster.py": f"from toto.model.cache import KVCache\n\n\n{FORECASTER}", "model/cache.py": CACHE}
    assert own(tree(tmp_path / "toto", {**files, "model/other/cache.py": OTHER})) == ["model/cache.py"]
