#!/usr/bin/env python3
"""Makes the trees that a benchmark compares, for a machine that cannot make them itself.

    python scripts/benchmark_trees.py FOLDER                                    # the four of graph-breaks
    python scripts/benchmark_trees.py FOLDER --profile full-graph --ablation    # those of `toto-patch bench`

Without ``--profile``: ``upstream`` is the pinned release as it is, ``list-index`` the same with ``_current_idx`` kept
as a Python list of ints (the form whose users saw ``hit config.recompile_limit``); each also with the default profile
applied. With it: what ``toto-patch bench`` makes of the release, and ``order.txt`` with the names in order.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))


def write_release(release: str, folder: Path) -> None:
    """Lays a pinned release down in a folder, in place of what is there."""
    from toto_patcher.patching.vendoring.releases import release_bytes

    shutil.rmtree(folder, ignore_errors=True)
    for path, data in release_bytes(release).items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)


def graph_breaks(release: str, folder: Path) -> None:
    """The trees of the profile ``graph-breaks``."""
    from tests.variations.cache_forms import index_and_map_as_lists
    from toto_patcher.patching.checkout import Checkout
    from toto_patcher.patching.plan import plan_selection
    from toto_patcher.patching.series import load

    for name in ("upstream", "list-index"):
        tree = folder / name
        write_release(release, tree)
        if name == "list-index":
            index_and_map_as_lists(tree)
        patched = folder / ("patched" if name == "upstream" else "list-index-patched")
        shutil.rmtree(patched, ignore_errors=True)
        shutil.copytree(tree, patched)
        for change in plan_selection(Checkout.open(patched), load().select(), pristine={}).changes:
            if change.after is not None:
                (patched / change.path).write_bytes(change.after)


def candidates(release: str, folder: Path, profiles: list[str], *, ablation: bool) -> None:
    """The trees of other profiles, as ``toto-patch bench`` makes them."""
    from toto_patcher import workspace
    from toto_patcher.evidence import trees
    from toto_patcher.patching.series import load

    series = load()
    selections = trees.candidates(series, profiles, ())
    if ablation:
        selections |= trees.ablation(series, selections)
    for name in ("upstream", *selections):
        shutil.rmtree(folder / name, ignore_errors=True)
    with tempfile.TemporaryDirectory() as release_folder:
        write_release(release, Path(release_folder))
        trees.lay_down(workspace.look(Path(release_folder)), selections, folder)


def main() -> int:
    """Writes the trees and returns 0."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--release", default="0.2.0")
    parser.add_argument("--profile", action="append", default=[])
    parser.add_argument("--ablation", action="store_true")
    options = parser.parse_args()
    if options.profile:
        candidates(options.release, options.folder, options.profile, ablation=options.ablation)
    else:
        graph_breaks(options.release, options.folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
