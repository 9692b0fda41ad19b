"""The shapes of the functions that patches rely on, from every release and from the forms that compute the same.

To add a function, add its name to a patch's ``shapes.json`` with an empty list. To fill the lists in::

    python -m tests.shapes --write
"""

from __future__ import annotations

import argparse
import ast
import functools
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from tests.variations import REGISTRY
from toto_patcher.patching import series
from toto_patcher.patching.assumptions import places
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.scope import scope_of
from toto_patcher.patching.shape import Alternatives, read_shapes, released_shape, write_shapes
from toto_patcher.patching.syntax import parse_syntax
from toto_patcher.patching.vendoring.releases import release_bytes

NAME = "shapes.json"
DIFFERING = ("0.1.3", "0.2.0")  # every file of 0.1.4 is one of theirs
ATTENTION = "BaseMultiheadAttention"
# Where the constructor refuses it, the methods may do without what it would ask for.
NEVER = frozenset({"use_memory_efficient_attention"})
FORMS = (
    "nothing_changed",
    # RMSNorm without its fused kernel.
    "xformers_removed",
    "rms_norm_of_torch",
    # The cache's index and layer map in other containers: the same keys and values come back.
    "index_as_list",
    "index_as_list_reset_in_place",
    "index_as_list_reset_in_a_loop",
    "index_as_list_comprehension",
    "index_and_map_as_lists",
    "map_as_list",
    "map_as_dict",
    "map_as_empty_dict",
    "map_as_tuple",
    "index_read_with_item_only",
    "index_read_with_int_only",
    "index_read_with_tolist",
    "index_read_through_cpu",
    "index_read_with_walrus",
    "index_advanced_with_add",
    "start_read_as_int",
    "index_as_int64",
    "explicit_init",
    "asserts_removed",
    # What computes the same and is no matter of spelling.
    "old_allocate_kv_cache",
    "xformers_branches_removed",
)


def lay_down(root: Path, version: str, form: str) -> Checkout:
    """A release in one form, below a folder."""
    for path, data in release_bytes(version).items():
        target = root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    REGISTRY[form].apply(root)
    return Checkout.open(root)


def collect(names: Iterable[str], checkouts: Iterable[Checkout]) -> dict[str, Alternatives]:
    """Every shape that each function has in one of the checkouts, in order; ``None`` where it is not there."""
    found: dict[str, dict[tuple[str, ...] | None, None]] = {name: {} for name in names}
    for checkout in checkouts:
        for name, shapes in found.items():
            for place in places(checkout, name) or [None]:
                if place is None or place.function is None:
                    shapes[None] = None
                    continue
                shapes |= dict.fromkeys(_shapes_at(checkout.read(place.path), name, place.path, place.line))
    return {name: tuple(shapes) for name, shapes in found.items()}


@functools.cache  # most forms leave most files alone
def _shapes_at(source: bytes, name: str, path: PurePosixPath, line: int) -> tuple[tuple[str, ...], ...]:
    """The shapes of the function of that name on that line."""
    module = parse_syntax(source, path)
    owners = [node for node in ast.walk(module) if isinstance(node, ast.ClassDef)]
    function = next(node for node in ast.walk(module) if isinstance(node, ast.FunctionDef) and node.lineno == line)
    owner = next((node for node in owners if function in node.body), None)
    ruled_out = (frozenset(), NEVER) if name.startswith(f"{ATTENTION}.") else (frozenset(),)
    return tuple(released_shape(function, scope_of(module, owner, never=never)) for never in ruled_out)


def collected(path: Path) -> dict[str, Alternatives]:
    """What a patch's file should hold."""
    with tempfile.TemporaryDirectory() as folder:
        checkouts = [lay_down(Path(folder, version, form), version, form) for version in DIFFERING for form in FORMS]
        return collect(read_shapes(path), checkouts)


def main() -> None:
    """Compares, or writes with ``--write``; exits 1 when a file is not up to date."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="write the files instead of comparing them")
    write = parser.parse_args().write
    stale = []
    for path in sorted(series.patches_folder().glob(f"*/{NAME}")):
        shapes = collected(path)
        if write:
            write_shapes(path, shapes)
        elif read_shapes(path) != shapes:
            stale.append(path.parent.name)
    if stale:
        sys.exit(f"not up to date: {', '.join(stale)}; run: python -m tests.shapes --write")


if __name__ == "__main__":
    main()
