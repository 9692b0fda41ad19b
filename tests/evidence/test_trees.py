"""The trees that are compared: upstream's originals, and what each selection makes of them."""

from collections.abc import Callable
from pathlib import Path

import pytest

from toto_patcher import commands
from toto_patcher import workspace as ws
from toto_patcher.errors import UsageError
from toto_patcher.evidence import trees
from toto_patcher.patching import series


def sources(folder: Path) -> dict[str, bytes]:
    """The sources that the patches know of: Toto's own tests are none."""
    files = (path for path in sorted(folder.rglob("*.py")) if "test" not in path.relative_to(folder).parts)
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_upstream_is_the_original_also_where_the_checkout_is_patched(
    toto_release: Callable[[str], Path], fresh_toto: Callable[[str, Path], Path], tmp_path: Path
) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    options = {"backup": True, "dry_run": False, "check": False, "verify": False, "quick": False, "commit": False}
    commands.apply(root, profile="full-graph", ids=(), progress=lambda *_: None, **options)
    before = sources(root)
    loaded = series.load()
    selections = trees.candidates(loaded, ["full-graph", "graph-breaks"], ())
    made = trees.lay_down(ws.look(root), selections, tmp_path / "trees")
    assert [tree.name for tree in made] == ["upstream", "full-graph", "graph-breaks"]
    assert sources(made[0].path) == sources(toto_release("0.2.0"))
    assert sources(made[1].path) == before == sources(root)
    assert made[2].patches == tuple(patch.id for patch in loaded.select("graph-breaks"))
    assert (tmp_path / "trees" / trees.ORDER).read_text().split() == ["upstream", "full-graph", "graph-breaks"]


def test_patches_named_one_by_one_are_one_candidate_with_what_they_require() -> None:
    found = trees.candidates(series.load(), [], ["positional-embedding-break"])
    assert [(name, [patch.id for patch in selection]) for name, selection in found.items()] == [
        ("positional-embedding-break", ["kv-cache-tensor-index", "positional-embedding-break"])
    ]


def test_an_ablation_has_every_patch_alone_and_every_step_and_nothing_twice() -> None:
    loaded = series.load()
    for profile in loaded.profiles():
        measured = trees.candidates(loaded, [profile], ())
        found = trees.ablation(loaded, measured)
        made = [tuple(patch.id for patch in selection) for selection in (*measured.values(), *found.values())]
        assert len(set(made)) == len(made)
        ids = [patch.id for patch in measured[profile]]
        for place, one in enumerate(ids):
            assert tuple(patch.id for patch in loaded.select(ids=[one])) in made
            assert tuple(patch.id for patch in loaded.select(ids=ids[: place + 1])) in made


def test_an_unknown_profile_is_refused() -> None:
    with pytest.raises(UsageError, match="no profile fast"):
        trees.candidates(series.load(), ["fast"], ())
