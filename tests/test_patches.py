"""The series over every form in which people vendor Toto: each is patched correctly, or refused with the reason."""

from __future__ import annotations

import ast
import codecs
import contextlib
import difflib
import io
import re
import shutil
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from tests.variations import REGISTRY, Variation
from tests.variations.bench import Child, make_tree
from tests.variations.uses import PROBES
from toto_patcher.errors import RefusedError, RefusedGroup
from toto_patcher.patching import series
from toto_patcher.patching.change import Plan
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.plan import plan_selection

RELEASES = ("0.1.3", "0.1.4", "0.2.0")
NEWEST = RELEASES[-1]
CLASSES = ("KVCache", "BaseMultiheadAttention")
GRAPH_BREAKS = ("kv-cache-tensor-index", "positional-embedding-break")
# The forms of these modules are run on the newest release; for an older one they are planned, in every profile.
PLANNED_WHERE_OLD = {f"tests.variations.{name}" for name in ("forks", "neighbours", "spelling")}
# (patch, form) -> what the refusal says.
_BACKBONE, _FORECASTER = "TotoBackbone.backbone is not the one", "defines class TotoForecaster"
_ATTEND = "BaseMultiheadAttention.run_attention is not the one"
_CACHE = {
    "list_reset_by_statements": "KVCache.reset is not the one",
    "logging_at_the_start_of_methods": "KVCache.__post_init__ is not the one",
    "logging_at_the_end_of_cache_methods": "KVCache.__getitem__ is not the one",
    "decorated_cache_methods": "KVCache.append is not the one",
    "sliding_window": "KVCache.append is not the one",
    "keys_scaled_in_append": "KVCache.append is not the one",
    "length_shifted": "KVCache.seq_len is not the one",
    "returns_early_while_creating": "KVCache.__post_init__ is not the one",
    "growing_cache_in_a_real_tree": "KVCache.__init__ is not the one",
    "cache_missing": "defines class KVCache",
    "utf_16": "defines class KVCache",
    "syntax_error": "syntax error",
    "merge_conflict_markers": "syntax error",
    "graph_breaks_by_hand": "KVCache.append is not the one",
    "axis_enum_under_another_name": _ATTEND,
    "subclass_overrides_attention": "overrides BaseMultiheadAttention.run_attention",
    # Keys changed in place would be changed in the cache that all copies are filled from.
    "attention_scales_keys_in_place": _ATTEND,
    "attention_clamps_keys_in_place": _ATTEND,
    "attention_views_keys": _ATTEND,
    "attention_class_is_decorated": "class BaseMultiheadAttention is decorated",
    "other_attention_in_a_real_tree": "BaseMultiheadAttention has no method run_attention",
    "attention_missing": "defines class BaseMultiheadAttention",
}
_BOTH = {
    "index_read_elsewhere": _BACKBONE,
    "samples_clamped": "TotoForecaster.generate_samples is not the one",
    "old_mac_line_ends": "does not reproduce",
    "form_feed": "does not reproduce",
    "toto_2": _FORECASTER,
    "other_project_with_both_names": _FORECASTER,
    "no_python_at_all": _FORECASTER,
    "names_in_strings_only": _FORECASTER,
}
REFUSED_EAGER = {
    **{("shared-prefill", name): says for name, says in {**_CACHE, **_BOTH}.items()},
    **{("last-patch-head", name): says for name, says in _BOTH.items()},
    ("shared-prefill", "cache_imported_late_by_another_name"): "TotoBackbone.allocate_kv_cache is not the one",
    ("shared-prefill", "another_cache_that_the_backbone_uses"): "KVCache.append is not the one",
    ("shared-prefill", "attention_by_einsum"): _ATTEND,
    ("shared-prefill", "progress_shown_while_sampling"): "TotoForecaster.generate_samples is not the one",
    ("last-patch-head", "progress_shown_while_sampling"): "TotoForecaster.generate_samples is not the one",
    ("shared-prefill", "one_more_norm_at_the_end"): "Transformer.forward is not the one",
    ("shared-prefill", "scale_with_a_floor"): "MixtureOfStudentTsOutput.forward is not the one",
    ("shared-prefill", "returns_early"): "KVCache.current_len is not the one",
    ("last-patch-head", "forecaster_subclassed"): "Local overrides TotoForecaster.generate_mean",
}


def plan_of(root: Path, pristine: dict[PurePosixPath, bytes] | None = None) -> Plan:
    """The default profile's plan."""
    return plan_selection(Checkout.open(root), series.load().select(profile="graph-breaks"), pristine=pristine or {})


def snapshot(root: Path) -> dict[PurePosixPath, bytes]:
    """Every file under the root."""
    return {
        PurePosixPath(path.relative_to(root).as_posix()): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


@contextlib.contextmanager
def written(plan: Plan) -> Iterator[None]:
    """A plan's tree with the plan written, for as long as the block runs."""
    assert plan.pending
    for change in plan.pending:
        assert change.after is not None
        (plan.root / change.path).parent.mkdir(exist_ok=True)
        (plan.root / change.path).write_bytes(change.after)
    try:
        yield
    finally:
        for change in plan.pending:
            if change.before is None:
                (plan.root / change.path).unlink()
            else:
                (plan.root / change.path).write_bytes(change.before)
        for folder in {change.path.parent for change in plan.pending if change.before is None}:
            (plan.root / folder).rmdir()


@dataclass
class Form:
    """One release in one form: its plan, and its forecasts before and after."""

    root: Path
    version: str
    variation: Variation
    child: Child

    @cached_property
    def original(self) -> dict[PurePosixPath, bytes]:
        return snapshot(self.root)

    @cached_property
    def outputs_before(self) -> dict[str, str]:
        assert self.original
        return self.child.outputs(self.root, self.variation)

    @cached_property
    def plan(self) -> Plan:
        assert self.original
        return plan_of(self.root)

    @contextlib.contextmanager
    def patched(self) -> Iterator[Path]:
        """The tree with the plan written, for as long as the block runs."""
        with written(self.plan):
            yield self.root


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    process = Child()
    yield process
    process.close()


@pytest.fixture(scope="session")
def make_form(
    toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, child: Child
) -> Callable[[str, str], Form]:
    def make(version: str, name: str) -> Form:
        root = tmp_path_factory.mktemp(f"{name}-{version}")
        make_tree(toto_release(version) / "toto", root, REGISTRY[name])
        return Form(root, version, REGISTRY[name], child)

    return make


@pytest.fixture(scope="session")
def release_outputs(make_form: Callable[[str, str], Form]) -> Callable[[str], dict[str, str]]:
    """Forecasts of an untouched release."""
    return cache(lambda version: make_form(version, "nothing_changed").outputs_before)


def forms(outcome: str, *, newest: bool = False) -> list[Any]:
    """(release, name) of the forms with that outcome: all on the newest release and on 0.1.3; 0.1.4 only as it is.

    Args:
        newest: leave the forms of 0.1.3 out. They are the end of the list, so a form has one place in both lists;
            pytest then makes it once for all of its tests.
    """
    names = [name for name, variation in REGISTRY.items() if variation.outcome == outcome]
    plain = ["nothing_changed"] if "nothing_changed" in names else []
    chosen = [(NEWEST, name) for name in names] + [(version, name) for version in RELEASES[:-1] for name in plain]
    if not newest:
        planned = {name for name in names if REGISTRY[name].apply.__module__ in PLANNED_WHERE_OLD}
        chosen += [("0.1.3", name) for name in names if name not in planned.union(plain)]
    return [pytest.param(form, id="-".join(form)) for form in chosen]


def test_forms_of_0_1_4_would_be_those_of_the_newest_release(toto_release: Callable[[str], Path]) -> None:
    for name in ("util.py", "attention.py"):
        older, newest = (toto_release(version) / "toto/model" / name for version in ("0.1.4", NEWEST))
        assert older.read_bytes() == newest.read_bytes()
    first, second = (toto_release(version) / "toto" for version in RELEASES[:-1])
    differing = [
        file for file in first.rglob("*.py") if file.read_bytes() != (second / file.relative_to(first)).read_bytes()
    ]
    assert [file.name for file in differing] == ["attention.py"]


@pytest.fixture(scope="module", params=forms("patched"))
def form(request: pytest.FixtureRequest, make_form: Callable[[str, str], Form]) -> Iterator[Form]:
    """A form that the series patches. Of module scope, so that all tests of one form run one after the other."""
    made = make_form(*request.param)
    yield made
    shutil.rmtree(made.root)


@pytest.fixture(scope="module", params=forms("refused"))
def refused_form(request: pytest.FixtureRequest, make_form: Callable[[str, str], Form]) -> Iterator[Form]:
    """A form that the series refuses."""
    made = make_form(*request.param)
    yield made
    shutil.rmtree(made.root)


def require_forecasts_of_release(form: Form, release: dict[str, str]) -> None:
    """A test of the generator: a form that cannot forecast, or not what its release does, proves nothing."""
    assert form.outputs_before.keys() >= {"one step", "decoding", "no cache"}
    same = all(digest == release[case] for case, digest in form.outputs_before.items())
    assert same == form.variation.same_as_release


def test_the_form_itself_forecasts_as_its_release_does(
    form: Form, release_outputs: Callable[[str], dict[str, str]]
) -> None:
    require_forecasts_of_release(form, release_outputs(form.version))


def test_a_refused_form_is_no_broken_tree(refused_form: Form, release_outputs: Callable[[str], dict[str, str]]) -> None:
    if refused_form.variation.runs:
        require_forecasts_of_release(refused_form, release_outputs(refused_form.version))


def test_a_patched_tree_forecasts_what_it_forecast_before(form: Form) -> None:
    before = form.outputs_before
    with form.patched() as root:
        assert form.child.outputs(root, form.variation) == before


def test_applying_twice_changes_nothing(form: Form) -> None:
    pristine = {change.path: change.pristine for change in form.plan.changes if change.pristine is not None}
    with form.patched() as root:
        again = plan_of(root, pristine)
    assert not again.pending
    assert {change.path: change.after for change in again.changes} == {c.path: c.after for c in form.plan.changes}


def test_encoding_and_line_ends_stay(form: Form) -> None:
    for change in form.plan.pending:
        assert change.before is not None
        assert change.after is not None
        assert change.after.startswith(codecs.BOM_UTF8) == change.before.startswith(codecs.BOM_UTF8)
        assert _encoding(change.after) == _encoding(change.before)
        assert _line_ends(change.after) <= _line_ends(change.before)
        assert change.after.endswith((b"\r", b"\n")) or not change.before.endswith((b"\r", b"\n"))


def _encoding(data: bytes) -> str:
    return tokenize.detect_encoding(io.BytesIO(data).readline)[0]


def _line_ends(data: bytes) -> set[bytes]:
    return set(re.findall(rb"\r\n|\r|\n", data))


def test_only_the_two_classes_and_the_notice_change(form: Form) -> None:
    for change in form.plan.pending:
        assert change.before is not None
        assert change.after is not None
        before, after = _text(change.before), _text(change.after)
        own, own_after = _lines_of_classes(before), _lines_of_classes(after)
        matcher = difflib.SequenceMatcher(None, before, after, autojunk=False)
        for kind, start, end, new_start, new_end in matcher.get_opcodes():
            if kind != "equal":
                assert set(range(start, end)) <= own
                added = [after[number] for number in range(new_start, new_end) if number not in own_after]
                assert all(line.startswith("#") for line in added if line), added


def _text(data: bytes) -> list[str]:
    return re.split(r"\r\n|\r|\n", data.decode(_encoding(data)))


def _lines_of_classes(lines: list[str]) -> set[int]:
    """0-based numbers of the lines that the two classes take."""
    found: set[int] = set()
    for node in ast.walk(ast.parse("\n".join(lines))):
        if isinstance(node, ast.ClassDef) and node.name in CLASSES:
            found |= set(range(node.lineno - 1, node.end_lineno or 0))
    return found


def test_every_definition_of_the_two_classes_is_patched(form: Form) -> None:
    checkout = Checkout.open(form.root)
    defining = {place.path for class_name in CLASSES for place in checkout.definitions(class_name)}
    left = {path for path in defining if form.variation.left and str(path).startswith(form.variation.left)}
    assert {change.path for change in form.plan.pending} == defining - left
    assert all(any(note.startswith(f"{path}:") for note in form.plan.notes) for path in left)
    assert bool(left) == bool(form.variation.left)


def require_full_graph(form: Form) -> None:
    """The profile full-graph patches this form so that its forecasts stay, or says why it does not."""
    before = form.original
    selection = series.load().select(profile="full-graph")
    expected = form.variation.full_graph
    try:
        plan = plan_selection(Checkout.open(form.root), selection, pristine={})
    except RefusedError as error:
        found = refusals(error)
        said = " ".join(str(refusal) for refusal in found)
        assert expected and re.search(expected, said), said
        assert all(refusal.exit_code == 3 and refusal.path and refusal.hint for refusal in found)
        assert snapshot(form.root) == before
        return
    assert not expected
    if not form.variation.runs:
        return
    original = form.child.ask(form.root, form.variation, probe="point_forecasts")["value"]
    with written(plan):
        patched = form.child.ask(form.root, form.variation, probe="point_forecasts")
    assert patched.get("value", patched)["why not"] == [], patched
    assert original["values"].keys() == patched["value"]["values"].keys()
    for case, values in original["values"].items():
        scale = max(map(abs, values))
        for one, other in zip(values, patched["value"]["values"][case], strict=True):
            assert abs(one - other) <= 1e-5 * scale, case
    assert snapshot(form.root) == before


# The forms of two profiles are tried on the newest release alone; the ladders of both run on all.
@pytest.mark.parametrize("form", forms("patched", newest=True), indirect=True)
def test_the_profile_full_graph_keeps_the_forecasts_or_says_why_not(form: Form) -> None:
    require_full_graph(form)


@pytest.mark.parametrize("refused_form", forms("refused", newest=True), indirect=True)
def test_the_profile_full_graph_of_a_form_that_graph_breaks_refuses(refused_form: Form) -> None:
    require_full_graph(refused_form)


def require_eager(form: Form) -> None:
    """The profile eager, and each of its patches alone, patch this form so that its forecasts stay, or say why not.

    Forecasts are made with all that can be applied together: the patches edit different methods, and each alone is put
    through the ladder on the releases as they are.
    """
    before = form.original
    planned: list[tuple[tuple[str, ...], Plan]] = []
    for ids in (("last-patch-head",), ("shared-prefill",), ("last-patch-head", "shared-prefill")):
        expected = [
            REFUSED_EAGER[name, form.variation.name] for name in ids if (name, form.variation.name) in REFUSED_EAGER
        ]
        try:
            plan = plan_selection(Checkout.open(form.root), series.load().select(ids=ids), pristine={})
        except RefusedError as error:
            found = refusals(error)
            said = " ".join(str(refusal) for refusal in found)
            assert expected and all(re.search(each, said) for each in expected), said
            assert all(refusal.exit_code == 3 and refusal.path and refusal.hint for refusal in found)
            continue
        assert not expected
        planned.append((ids, plan))
    if planned and form.variation.runs:
        ids, plan = max(planned, key=lambda each: len(each[0]))
        original = form.child.ask(form.root, form.variation, probe="eager_forecasts")
        with written(plan):
            patched = form.child.ask(form.root, form.variation, probe="eager_forecasts")
        assert "value" in patched, patched
        assert original["value"].keys() == patched["value"].keys()
        for case, values in original["value"].items():
            scale = max(map(abs, values))
            for one, other in zip(values, patched["value"][case], strict=True):
                assert abs(one - other) <= 1e-5 * scale, (ids, case)
    assert snapshot(form.root) == before


@pytest.mark.parametrize("form", forms("patched", newest=True), indirect=True)
def test_the_profile_eager_keeps_the_forecasts_or_says_why_not(form: Form) -> None:
    require_eager(form)


@pytest.mark.parametrize("refused_form", forms("refused", newest=True), indirect=True)
def test_the_profile_eager_of_a_form_that_graph_breaks_refuses(refused_form: Form) -> None:
    require_eager(refused_form)


def test_a_tree_that_is_not_understood_is_refused_with_the_reason(refused_form: Form) -> None:
    before = refused_form.original
    with pytest.raises(RefusedError) as caught:
        plan_of(refused_form.root)
    found = refusals(caught.value)
    said = " ".join(str(refusal) for refusal in found)
    assert re.search(refused_form.variation.says, said), said
    assert all(refusal.exit_code == 3 and refusal.path and refusal.hint for refusal in found)
    assert snapshot(refused_form.root) == before


def refusals(error: RefusedError) -> tuple[RefusedError, ...]:
    return error.refusals if isinstance(error, RefusedGroup) else (error,)


def said_of(root: Path, **selected: Any) -> str:
    """What a refusal says; empty where there is none."""
    try:
        plan_selection(Checkout.open(root), series.load().select(**selected), pristine={})
    except RefusedError as error:
        assert all(refusal.path and refusal.hint for refusal in refusals(error))
        return " ".join(str(refusal) for refusal in refusals(error))
    return ""


def test_an_older_release_in_the_forms_of_real_trees_is_patched_or_refused_in_every_profile(
    make_form: Callable[[str, str], Form],
) -> None:
    names = [name for name, variation in REGISTRY.items() if variation.apply.__module__ in PLANNED_WHERE_OLD]
    for name in names:
        form = make_form("0.1.3", name)  # 0.1.4 has a log line more
        expected = {
            "graph-breaks": form.variation.says,
            "full-graph": form.variation.full_graph,
            "eager": REFUSED_EAGER.get(("shared-prefill", name), ""),
        }
        for profile, says in expected.items():
            said = said_of(form.root, profile=profile)
            assert bool(said) == bool(says) and re.search(says, said), (name, profile, said)
        shutil.rmtree(form.root)


@pytest.mark.parametrize("kept", CLASSES)
@pytest.mark.parametrize("version", RELEASES)
def test_a_half_patched_tree_without_a_record_is_refused(
    make_form: Callable[[str, str], Form], version: str, kept: str
) -> None:
    form = make_form(version, "nothing_changed")
    original = form.original
    with form.patched() as root:
        half = Checkout.open(root).definitions(kept)[0].path
        (root / half).write_bytes(original[half])
        with pytest.raises(RefusedError) as caught:
            plan_of(root)
    (left,) = (patch for name, patch in zip(CLASSES, GRAPH_BREAKS, strict=True) if name != kept)
    assert [refusal.message for refusal in refusals(caught.value)] == [
        f"the file was changed by toto-patch ({left}), but there is no record of its original"
    ]
    assert caught.value.line == 6


@pytest.mark.parametrize("name", ["optimized_module_hands_the_cache_on", "optimized_module_defines_the_cache"])
def test_util_optimized_offers_the_compile_friendly_cache_too(make_form: Callable[[str, str], Form], name: str) -> None:
    form = make_form("0.2.0", name)
    with form.patched() as root:
        answer = form.child.ask(root, form.variation, probe="caches_by_module")
    assert answer == {"value": {"model.util": ["KVCache", True], "model.util_optimized": ["KVCache", True]}}


def test_a_local_method_that_reads_the_whole_index_keeps_working(make_form: Callable[[str, str], Form]) -> None:
    form = make_form("0.2.0", "helper_reads_the_index")
    with form.patched() as root:
        assert form.child.ask(root, form.variation, probe="local_lengths") == {"value": [[0, 0, 0], [0, 2, 0]]}


@pytest.fixture(scope="module")
def published(make_form: Callable[[str, str], Form]) -> Form:
    """The newest release as published."""
    return make_form("0.2.0", "nothing_changed")


@pytest.mark.parametrize("probe", PROBES)
def test_other_uses_give_the_same_before_and_after(published: Form, probe: str) -> None:
    before = published.child.ask(published.root, published.variation, probe=probe)
    with published.patched() as root:
        after = published.child.ask(root, published.variation, probe=probe)
    assert "value" in before, before
    assert after == before
