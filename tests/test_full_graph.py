"""What the profile full-graph adds, in use: same numbers, settings, copies, compilation, and upstream's path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.variations import REGISTRY
from tests.variations.bench import Child, make_tree
from toto_patcher.patching import series
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.plan import plan_selection

PLAIN = REGISTRY["nothing_changed"]
ALL = tuple(patch.id for patch in series.load().patches if "static-decoder" not in patch.conflicts)
SELECTIONS = {
    "full-graph": ("static-decoder", "effective-compile"),
    "static-decoder alone": ("static-decoder",),
    "all patches": ALL,
}
Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def child() -> Iterator[Child]:
    process = Child()
    yield process
    process.close()


@pytest.fixture(scope="module")
def tree(toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``tree(version, *ids)``: a release with these patches."""
    made: dict[tuple[str, ...], Path] = {}

    def make(version: str, *ids: str) -> Path:
        if (version, *ids) not in made:
            root = tmp_path_factory.mktemp(f"toto-{version}")
            make_tree(toto_release(version) / "toto", root, PLAIN)
            plan = plan_selection(Checkout.open(root), series.load().select(ids=ids) if ids else (), pristine={})
            for change in plan.changes:
                assert change.after is not None
                (root / change.path).parent.mkdir(exist_ok=True)
                (root / change.path).write_bytes(change.after)
            made[(version, *ids)] = root
        return made[(version, *ids)]

    return make


@pytest.fixture(scope="module")
def ask(child: Child) -> Ask:
    def answer(root: Path, probe: str, module: str = "decoder_probes") -> Any:
        found = child.ask(root, PLAIN, probe=probe, module=module)
        assert "value" in found, found["error"]
        return found["value"]

    return answer


@pytest.fixture(scope="module")
def full(tree: Callable[..., Path]) -> Path:
    return tree("0.2.0", *SELECTIONS["full-graph"])


@pytest.fixture(scope="module")
def original(tree: Callable[..., Path], ask: Ask) -> dict[str, list[float]]:
    return dict(ask(tree("0.2.0"), "upstream"))


def require_close(one: list[float], other: list[float]) -> None:
    scale = max(map(abs, other))
    assert len(one) == len(other)
    assert max(abs(a - b) for a, b in zip(one, other, strict=True)) <= 1e-5 * scale


@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("version", ["0.1.3", "0.1.4", "0.2.0"])
def test_means_and_samples_are_upstreams(tree: Callable[..., Path], ask: Ask, version: str, selection: str) -> None:
    before = ask(tree(version), "upstream")
    after = ask(tree(version, *SELECTIONS[selection]), "decoded")
    assert after["told"] == []
    for name, values in before.items():
        require_close(after[name], values)


def test_the_settings(full: Path, ask: Ask) -> None:
    refusal = 'the sampler is "fast" or "seed-exact", not \'exact\''
    assert ask(full, "settings") == ["fast", "seed-exact", refusal, "seed-exact", True, None]


def test_copies_keep_the_settings_and_have_buffers_of_their_own(full: Path, ask: Ask) -> None:
    same, own = ask(full, "copies")
    assert same == [["seed-exact", True]] * 3
    assert own == [True, True, False]  # a shallow copy shares what it is a copy of


def test_release_frees_and_the_next_forecast_is_the_same(full: Path, ask: Ask) -> None:
    assert ask(full, "released") == [False, True]


def test_the_four_shapes_used_last_are_kept(full: Path, ask: Ask) -> None:
    assert ask(full, "kept") == [[1, 2, 3, 4, 4, 4], [3, 4, 5, 6]]


def test_each_way_to_compile_compiles_the_decoder(full: Path, ask: Ask) -> None:
    found = ask(full, "compiled")
    fixed = "('dynamic', False), ('fullgraph', True)"
    eager, default = f"[('backend', 'eager'), {fixed}]", f"[{fixed}, ('mode', 'default')]"
    assert found == {
        "nothing": [],
        "forecaster.compile()": [default],
        "forecaster.compile(backend)": [eager],
        "toto.compile()": [default],
        "toto.compile(backend)": [eager],
        "toto.compile(disable)": [],
        "after a forecast": [eager],
    }


def test_compile_imports_inductor_where_it_is_the_backend(full: Path, ask: Ask) -> None:
    inductor = "torch._inductor.compile_fx"
    eager = "{'mode': None, 'backend': 'eager'}"
    assert ask(full, "imported") == ["{}", inductor, eager, "{'backend': 'inductor'}", inductor]


def test_compiled_the_mean_stays(full: Path, ask: Ask, original: dict[str, list[float]]) -> None:
    found = ask(full, "compiled_for_real")
    assert found["told"] == []
    require_close(found["mean"], original["mean"])


@pytest.mark.parametrize("version", ["0.1.3", "0.2.0"])
def test_without_the_decoder_toto_compiles_the_backbone(
    tree: Callable[..., Path], ask: Ask, original: dict[str, list[float]], version: str
) -> None:
    found = ask(tree(version, "effective-compile"), "toto_compiles_the_backbone")
    assert found["asked"] == [
        ["('mode', 'reduce-overhead')"],
        ["('mode', 'default')"],
        ["('backend', 'eager')"],
        ["('options', {'trace.enabled': False})"],
    ]
    assert found["graphs"]
    require_close(found["mean"], original["mean"])


def test_what_the_decoder_does_not_know_is_left_to_upstream(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    reasons = {
        "hooked": "unembed has a hook",
        "replaced": "TotoForecaster.generate_mean was replaced",
        "other_gate": "layers.0.mlp.1 is Gate",
        "part_in_training": "the model is in training mode",
        "of_another_class": "a weight is not a plain tensor",
    }
    found = ask(full, "left_to_upstream")
    assert {name: case["told"] for name, case in found.items()} == {
        f"{name}, {when}": [reason] for name, reason in reasons.items() for when in ("before", "after a forecast")
    }
    for case in found.values():
        require_close(case["mean"], original["mean"])


def test_whatever_changes_the_answer_is_upstreams(full: Path, ask: Ask) -> None:
    """Weights and settings are read anew, and what is no longer upstream's code is left to upstream's path."""
    found = ask(full, "answers", "surgeries")
    assert len(found) > 150
    paths = {name: case["told"] for name, case in found.items() if bool(case["told"]) == case["decoded"]}
    assert paths == {}
    for name, case in found.items():
        if isinstance(case["upstream"], str):
            assert case["values"] == case["upstream"], name
        else:
            scale = max(map(abs, case["upstream"]))
            furthest = max(map(abs, map(float.__sub__, case["values"], case["upstream"])))
            assert furthest < (2e-4 if case["rounded"] else 1e-9) * scale, name


def test_masks_as_in_upstreams_readme_are_decoded_and_numbers_for_padding_are_not(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    found = ask(full, "masks")
    assert [found[name]["told"] for name in ("readme", "numbers")] == [[], ["the padding mask is not boolean"]]
    for case in found.values():
        require_close(case["mean"], original["mean"])


def test_precision_may_be_set_either_way_and_float64_stays(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    found = ask(full, "precisions")
    assert found["told"] == []
    for name in ("newer", "wide"):
        require_close(found[name], original["mean"])


def test_two_threads_on_one_forecaster_both_get_the_mean(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    for values in ask(full, "two_threads"):
        require_close(values, original["mean"])


def test_after_what_is_not_finite_the_next_forecast_is_decoded_again(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    for what, case in ask(full, "after_what_is_not_finite").items():
        assert len(case["told"]) == 1 and "not finite" in case["told"][0], what
        require_close(case["mean"], original["mean"])


def test_rounds_of_one_sample_do_not_write_over_the_context(full: Path, tree: Callable[..., Path], ask: Ask) -> None:
    require_close(ask(full, "rounds_of_one_sample"), ask(tree("0.2.0"), "rounds_of_one_sample"))


def test_what_was_drawn_in_vain_is_given_back(full: Path, ask: Ask) -> None:
    assert ask(full, "seeds_after_changes") == {"weight": True, "setting": True, "hook": True}


def test_a_forecast_that_is_stopped_leaves_nothing_half_set(full: Path, ask: Ask) -> None:
    assert ask(full, "stopped_while_set") is True


def test_a_child_that_forks_beside_a_forecast_forecasts(full: Path, ask: Ask) -> None:
    assert ask(full, "forked_beside_a_forecast") == 0


def test_forecasters_of_a_backbone_share_a_decoder_that_goes_with_it(full: Path, ask: Ask) -> None:
    assert ask(full, "shared") == [True, True, True, True]


def test_samples_per_batch_says_how_much_memory_long_horizons_take(full: Path, ask: Ask) -> None:
    found = ask(full, "samples_at_once")
    assert found["16 steps, 8 per batch"] == found["16 steps, 512 per batch"] == 1024
    assert found["40000 steps, 8 per batch"] <= 16 < 512 <= found["40000 steps, 512 per batch"]


def test_an_integer_of_numpy_is_a_horizon(full: Path, ask: Ask, original: dict[str, list[float]]) -> None:
    found = ask(full, "horizon_of_numpy")
    assert found["told"] == []
    require_close(found["mean"], original["mean"])


def test_a_traced_forecast_is_upstreams(full: Path, ask: Ask) -> None:
    once, again = ask(full, "traced")
    require_close(once, again)


def test_a_wish_to_compile_keeps_its_backend_and_needs_no_compiler(
    full: Path, ask: Ask, original: dict[str, list[float]]
) -> None:
    found = ask(full, "other_ways_to_compile")
    assert found["backends"] == ["eager"] and found["told"] == []
    for mean in found["means"]:
        require_close(mean, original["mean"])
