"""What the profile eager does: same numbers on the ladder, one prefill, the last patch, and when it does neither."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.variations import REGISTRY
from tests.variations.bench import Child
from toto_patcher.equivalence import ladder
from toto_patcher.errors import ConflictError
from toto_patcher.patching import series
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.plan import plan_selection

PLAIN = REGISTRY["nothing_changed"]
HEAD, PREFILL = "last-patch-head", "shared-prefill"
GRAPH_BREAKS = ("kv-cache-tensor-index", "positional-embedding-break")
BOTH = (HEAD, PREFILL)
Tree = Callable[..., Path]
Ask = Callable[[Path, str], Any]


@pytest.fixture(scope="module")
def tree(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Tree:
    """``tree(version, *ids)``: a release with these patches."""
    made: dict[tuple[str, ...], Path] = {}

    def make(version: str, *ids: str) -> Path:
        if (version, *ids) not in made:
            root = tmp_path_factory.mktemp(f"toto-{version}")
            source = toto_release(version) / "toto"
            skipped = shutil.ignore_patterns("__pycache__")
            shutil.copytree(source, root / "toto", copy_function=shutil.copyfile, ignore=skipped)
            plan = plan_selection(Checkout.open(root), series.load().select(ids=ids) if ids else (), pristine={})
            for change in plan.changes:
                (root / change.path).chmod(0o644)
                assert change.after is not None
                (root / change.path).write_bytes(change.after)
            made[(version, *ids)] = root
        return made[(version, *ids)]

    return make


@pytest.fixture(scope="module")
def ask() -> Iterator[Ask]:
    child = Child()

    def answer(root: Path, probe: str) -> Any:
        found = child.ask(root, PLAIN, probe=probe, module="eager_probes")
        assert "value" in found, found["error"]
        return found["value"]

    yield answer
    child.close()


@pytest.mark.parametrize(
    ("version", "ids"),
    [
        ("0.2.0", (HEAD,)),
        ("0.2.0", (PREFILL,)),
        ("0.2.0", (*BOTH, *GRAPH_BREAKS)),
        ("0.2.0", (PREFILL, GRAPH_BREAKS[0])),
        ("0.1.4", BOTH),
        ("0.1.3", BOTH),
    ],
    ids=lambda value: value if isinstance(value, str) else "+".join(value),
)
def test_the_ladder_passes(tree: Tree, version: str, ids: tuple[str, ...]) -> None:
    files = {HEAD: "forecaster backbone", PREFILL: "forecaster", GRAPH_BREAKS[0]: "util", GRAPH_BREAKS[1]: "attention"}
    folder = {"forecaster": "inference"}
    names = {name for patch in ids for name in files[patch].split()}
    expected = {PurePosixPath(f"toto/{folder.get(name, 'model')}/{name}.py") for name in names}
    compiled = set(ids) >= set(GRAPH_BREAKS)
    report = ladder.run(tree(version), tree(version, *ids), quick=True, expected=expected, compiled=compiled)
    assert report.failures == ()
    checks = {check.name.split("/")[0] for check in report.checks}
    assert ("fast-sampler" in checks) == (HEAD in ids)
    assert checks >= {"teacher-forced", "point-forecasts", "same-seed"}


def test_the_profile_is_both_patches_and_no_decoder(tree: Tree) -> None:
    loaded = series.load()
    assert [patch.id for patch in loaded.select(profile="eager")] == [*BOTH]
    for patch in BOTH:
        with pytest.raises(ConflictError, match=rf"{patch} and static-decoder cannot"):
            loaded.select(ids=("static-decoder", patch))
    assert len(loaded.select(ids=(*BOTH, *GRAPH_BREAKS, "effective-compile"))) == 5


def test_the_context_is_read_once_for_all_samples(tree: Tree, ask: Ask) -> None:
    before, after = ask(tree("0.2.0"), "calls"), ask(tree("0.2.0", PREFILL), "calls")
    # [series, steps, patches cached before] of each call.
    assert before["below a patch"] == [[3, 64, 0], [3, 64, 0]]
    assert after["below a patch"] == [[1, 64, 0]]
    assert after["three patches"] == [[1, 64, 0], *[[3, 80, 4], [3, 96, 5]] * 2]
    for name in ("mean", "no cache", "training", "another distribution"):
        assert after[name] == before[name], name


def test_only_the_last_patch_gets_a_distribution_where_there_is_a_cache(tree: Tree, ask: Ask) -> None:
    whole = [2, 3, 64]
    assert ask(tree("0.2.0", HEAD), "heads") == [
        False, [[2, 3, 16], whole, whole], [whole] * 3, True, [whole] * 3
    ]  # fmt: skip


@pytest.mark.parametrize("ids", [(HEAD,), BOTH], ids="+".join)
def test_the_switch(tree: Tree, ask: Ask, ids: tuple[str, ...]) -> None:
    refusal = 'the sampler is "fast" or "seed-exact", not \'exact\''
    expected = ["fast", "seed-exact", True, [], refusal, "fast", "fast"]
    assert ask(tree("0.2.0", *ids), "settings") == expected


@pytest.mark.parametrize("ids", [(HEAD,), (PREFILL,), (*BOTH, *GRAPH_BREAKS)], ids="+".join)
def test_a_single_distribution_and_layers_that_begin_with_space(tree: Tree, ask: Ask, ids: tuple[str, ...]) -> None:
    before, after = ask(tree("0.2.0"), "student"), ask(tree("0.2.0", *ids), "student")
    scale = max(map(abs, before))
    assert max(abs(one - other) for one, other in zip(before, after, strict=True)) <= 1e-5 * scale


def test_with_a_head_or_patches_of_another_kind_the_means_are_upstreams(tree: Tree, ask: Ask) -> None:
    before, after = ask(tree("0.2.0"), "others"), ask(tree("0.2.0", HEAD), "others")
    assert after == before
    assert before["patches that overlap"] == ["RuntimeError"]


def test_noise_in_the_model_gives_samples_of_their_own(tree: Tree, ask: Ask) -> None:
    """A hook, a method or a subclass may draw for each copy of the context; then nothing is shared."""
    before, after = ask(tree("0.2.0"), "noises"), ask(tree("0.2.0", PREFILL), "noises")
    assert set(before.values()) == {True}
    assert after == before
