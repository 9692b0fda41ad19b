#!/usr/bin/env python3
"""Makes the four trees that the benchmark compares: ``python scripts/benchmark_trees.py FOLDER [--release 0.2.0]``.

``upstream`` is the pinned release as it is, ``list-index`` the same with ``_current_idx`` kept as a Python list of ints
(the form whose users saw ``hit config.recompile_limit``); each also with the default profile applied.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))


def main() -> int:
    """Writes the trees and returns 0."""
    from tests.variations.cache_forms import index_and_map_as_lists
    from toto_patcher.patching.checkout import Checkout
    from toto_patcher.patching.plan import plan_selection
    from toto_patcher.patching.series import load
    from toto_patcher.patching.vendoring.releases import release_bytes

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--release", default="0.2.0")
    options = parser.parse_args()
    for name in ("upstream", "list-index"):
        tree = options.folder / name
        shutil.rmtree(tree, ignore_errors=True)
        for path, data in release_bytes(options.release).items():
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(data)
        if name == "list-index":
            index_and_map_as_lists(tree)
        patched = options.folder / ("patched" if name == "upstream" else "list-index-patched")
        shutil.rmtree(patched, ignore_errors=True)
        shutil.copytree(tree, patched)
        for change in plan_selection(Checkout.open(patched), load().select(), pristine={}).changes:
            if change.after is not None:
                (patched / change.path).write_bytes(change.after)
    return 0


if __name__ == "__main__":
    sys.exit(main())
