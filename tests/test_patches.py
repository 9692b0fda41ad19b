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
CLASSES = ("KVCache", "BaseMultiheadAttention")


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
        assert self.plan.pending
        for change in self.plan.pending:
            assert change.after is not None
            (self.root / change.path).write_bytes(change.after)
        try:
            yield self.root
        finally:
            for change in self.plan.pending:
                assert change.before is not None
                (self.root / change.path).write_bytes(change.before)


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


def forms(outcome: str) -> list[Any]:
    """(release, name) of every form with that outcome, releases outermost."""
    names = [name for name, variation in REGISTRY.items() if variation.outcome == outcome]
    return [pytest.param((version, name), id=f"{version}-{name}") for version in RELEASES for name in names]


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
    assert {change.path for change in form.plan.pending} == defining


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
    assert [refusal.message for refusal in refusals(caught.value)] == [
        "the file was changed by toto-patch, but there is no record of its original"
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
