"""The series over every form in which people vendor Toto: each is patched correctly, or refused with the reason."""

from __future__ import annotations

import ast
import codecs
import difflib
import io
import re
import tokenize
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

import pytest

from tests.variations import REGISTRY, Variation
from tests.variations.bench import Child, make_tree
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
class Made:
    """One release in one form: its forecasts, its plan, and (once ``patched`` is read) its patched forecasts."""

    root: Path
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

    @cached_property
    def outputs_after(self) -> dict[str, str]:
        assert self.outputs_before
        for change in self.plan.pending:
            assert change.after is not None
            (self.root / change.path).write_bytes(change.after)
        return self.child.outputs(self.root, self.variation)


@pytest.fixture(scope="session")
def child() -> Iterator[Child]:
    process = Child()
    yield process
    process.close()


@pytest.fixture(scope="session")
def made(
    toto_release: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory, child: Child
) -> Callable[[str, str], Made]:
    """``made(version, name)``: that release in that form, made once."""
    known: dict[tuple[str, str], Made] = {}

    def make(version: str, name: str) -> Made:
        if (version, name) not in known:
            root = tmp_path_factory.mktemp(f"{name}-{version}")
            make_tree(toto_release(version) / "toto", root, REGISTRY[name])
            known[version, name] = Made(root, REGISTRY[name], child)
        return known[version, name]

    return make


def names(outcome: str) -> list[str]:
    return [name for name, variation in REGISTRY.items() if variation.outcome == outcome]


every_release = pytest.mark.parametrize("version", RELEASES)
every_patchable_form = pytest.mark.parametrize("name", names("patched"))
every_refused_form = pytest.mark.parametrize("name", names("refused"))
every_runnable_form = pytest.mark.parametrize("name", [name for name in REGISTRY if REGISTRY[name].runs])


@every_release
@every_runnable_form
def test_the_form_itself_forecasts_as_its_release_does(
    made: Callable[[str, str], Made], version: str, name: str
) -> None:
    release, form = made(version, "nothing_changed").outputs_before, made(version, name).outputs_before
    assert form.keys() >= {"one step", "decoding", "no cache"}
    same = all(form[case] == release[case] for case in form)
    assert same == REGISTRY[name].same_as_release


@every_release
@every_patchable_form
def test_a_patched_tree_forecasts_what_it_forecast_before(
    made: Callable[[str, str], Made], version: str, name: str
) -> None:
    form = made(version, name)
    assert form.outputs_after == form.outputs_before


@every_release
@every_patchable_form
def test_applying_twice_changes_nothing(made: Callable[[str, str], Made], version: str, name: str) -> None:
    form = made(version, name)
    first = form.plan
    assert first.pending
    pristine = {change.path: change.pristine for change in first.changes if change.pristine is not None}
    checkout = Checkout.open(form.root).with_sources(
        {change.path: change.after for change in first.changes if change.after is not None}
    )
    again = plan_selection(checkout, series.load().select(profile="graph-breaks"), pristine=pristine)
    assert {change.path: change.after for change in again.changes} == {c.path: c.after for c in first.changes}


@every_release
@every_patchable_form
def test_encoding_and_line_ends_stay(made: Callable[[str, str], Made], version: str, name: str) -> None:
    for change in made(version, name).plan.pending:
        assert change.before is not None
        assert change.after is not None
        assert change.after.startswith(codecs.BOM_UTF8) == change.before.startswith(codecs.BOM_UTF8)
        assert _encoding(change.after) == _encoding(change.before)
        assert _line_ends(change.after) <= _line_ends(change.before)
        assert re.search(rb"[\r\n]\Z", change.after) is not None or not re.search(rb"[\r\n]\Z", change.before)


def _encoding(data: bytes) -> str:
    return tokenize.detect_encoding(io.BytesIO(data).readline)[0]


def _line_ends(data: bytes) -> set[bytes]:
    return set(re.findall(rb"\r\n|\r|\n", data))


@every_release
@every_patchable_form
def test_only_the_two_classes_and_the_notice_change(made: Callable[[str, str], Made], version: str, name: str) -> None:
    for change in made(version, name).plan.pending:
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


@every_release
@every_patchable_form
def test_every_definition_of_the_cache_is_patched(made: Callable[[str, str], Made], version: str, name: str) -> None:
    form = made(version, name)
    defining = {place.path for class_name in CLASSES for place in Checkout.open(form.root).definitions(class_name)}
    assert {change.path for change in form.plan.pending} == defining


@every_release
@every_refused_form
def test_a_tree_that_is_not_understood_is_refused_with_the_reason(
    made: Callable[[str, str], Made], version: str, name: str
) -> None:
    form = made(version, name)
    before = form.original
    with pytest.raises(RefusedError) as caught:
        plan_of(form.root)
    found = caught.value.refusals if isinstance(caught.value, RefusedGroup) else (caught.value,)
    assert re.search(REGISTRY[name].says, " ".join(str(refusal) for refusal in found)), [str(r) for r in found]
    assert all(refusal.exit_code == 3 and refusal.path and refusal.hint for refusal in found)
    assert snapshot(form.root) == before
