"""Plans are pure, complete, and say every refusal at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest

from toto_patcher.errors import RefusedGroup, UnknownSourceError
from toto_patcher.patching import plan, series
from toto_patcher.patching.change import Plan
from toto_patcher.patching.checkout import Checkout

UTIL, ATTENTION = PurePosixPath("toto/model/util.py"), PurePosixPath("toto/model/attention.py")
VERSIONS = ("0.1.3", "0.1.4", "0.2.0")
Fresh = Callable[[str, Path], Path]


def plan_for(root: Path, pristine: dict[PurePosixPath, bytes] | None = None, ids: tuple[str, ...] = ()) -> Plan:
    return plan.plan_selection(Checkout.open(root), series.load().select(ids=ids), pristine=pristine or {})


def write(planned: Plan) -> None:
    for change in planned.changes:
        assert change.after is not None
        (planned.root / change.path).write_bytes(change.after)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_profile_changes_the_two_files_that_define_cache_and_attention(
    toto_release: Callable[[str], Path], version: str
) -> None:
    planned = plan_for(toto_release(version))
    assert {change.path: change.patches for change in planned.changes} == {
        ATTENTION: ("positional-embedding-break",),
        UTIL: ("kv-cache-tensor-index",),
    }
    assert all(change.before == change.pristine != change.after for change in planned.changes)


def test_the_same_tree_gives_the_same_bytes(fresh_toto: Fresh, tmp_path: Path) -> None:
    one, two = fresh_toto("0.2.0", tmp_path / "one"), fresh_toto("0.2.0", tmp_path / "two")
    assert plan_for(one).changes == plan_for(two).changes


def test_applying_twice_is_a_no_op(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    first = plan_for(root)
    write(first)
    again = plan_for(root, {change.path: change.pristine or b"" for change in first.changes})
    assert again.pending == ()


def test_another_selection_moves_files_back_and_forth_in_one_plan(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    first = plan_for(root)
    write(first)
    pristine = {change.path: change.pristine or b"" for change in first.changes}
    smaller = plan_for(root, pristine, ids=("kv-cache-tensor-index",))
    (back,) = smaller.pending
    assert (back.path, back.after, back.patches) == (ATTENTION, pristine[ATTENTION], ())


def test_a_patched_file_without_a_record_is_refused(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    write(plan_for(root))
    with pytest.raises(RefusedGroup) as group:
        plan_for(root)
    assert {refusal.path for refusal in group.value.refusals} == {str(UTIL), str(ATTENTION)}
    assert all("no record of its original" in refusal.message for refusal in group.value.refusals)


def test_every_refusal_is_reported_at_once_with_file_and_line(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    for path, old, new in ((UTIL, "def seq_len(", "def sequence_length("), (ATTENTION, "return self.wO(", "return (")):
        text = (root / path).read_text()
        assert old in text
        (root / path).write_text(text.replace(old, new))
    with pytest.raises(RefusedGroup) as group:
        plan_for(root)
    messages = {refusal.path: (refusal.message, refusal.line) for refusal in group.value.refusals}
    assert messages[str(UTIL)][0] == "kv-cache-tensor-index: class KVCache has no method seq_len"
    message, line = messages[str(ATTENTION)]
    assert "BaseMultiheadAttention.forward has a statement here" in message
    assert line is not None
    assert "return (" in (root / ATTENTION).read_text().splitlines()[line - 1]


def test_a_use_of_the_cache_index_in_another_file_is_refused(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    backbone = root / "toto/model/backbone.py"
    lines = backbone.read_text().splitlines()
    backbone.write_text("\n".join([*lines, "", "def peek(cache):", "    return cache._current_idx.max()", ""]))
    with pytest.raises(UnknownSourceError, match="uses _current_idx") as refusal:
        plan_for(root)
    assert refusal.value.where == f"toto/model/backbone.py:{len(lines) + 3}"


def test_a_tree_without_toto_is_refused(tmp_path: Path) -> None:
    (tmp_path / "module.py").write_text("x = 1\n")
    with pytest.raises(RefusedGroup) as group:
        plan_for(tmp_path)
    assert "no file under the root defines class KVCache" in group.value.refusals[0].message


def test_toto_2_is_refused_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "toto2").mkdir()
    (tmp_path / "toto2/model.py").write_text("class KVCache:\n    pass\n\n\nclass Toto2Model:\n    pass\n")
    for profile in ("graph-breaks", "full-graph", "eager"):
        with pytest.raises(UnknownSourceError) as refusal:
            plan.plan_selection(Checkout.open(tmp_path), series.load().select(profile=profile), pristine={})
        assert str(refusal.value) == "toto2/model.py:5: this is Toto 2.0, and the patches are for Toto 1.0"


@pytest.mark.parametrize("profile", ["graph-breaks", "full-graph", "eager"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_root_that_is_the_package_itself_gets_the_same_changes(
    toto_release: Callable[[str], Path], version: str, profile: str
) -> None:
    selection = series.load().select(profile=profile)
    root = toto_release(version)
    outer, inner = (
        plan.plan_selection(Checkout.open(place), selection, pristine={}).changes for place in (root, root / "toto")
    )
    assert [(f"toto/{change.path}", change.after) for change in inner] == [
        (str(change.path), change.after) for change in outer
    ]


def test_a_patch_that_has_nothing_to_change_does_not_keep_the_others_back(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    (root / "toto/model/toto.py").unlink()
    planned = plan.plan_selection(Checkout.open(root), series.load().select(profile="full-graph"), pristine={})
    assert planned.pending
    assert [note.partition(":")[0] for note in planned.notes] == ["effective-compile"]
    with pytest.raises(UnknownSourceError, match="defines class Toto"):
        plan_for(root, ids=("effective-compile",))


def test_planning_writes_nothing(fresh_toto: Fresh, tmp_path: Path) -> None:
    root = fresh_toto("0.2.0", tmp_path)
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    plan.unified_diff(plan_for(root))
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("ending", ["lf", "crlf", "no-final-newline"])
def test_git_apply_accepts_the_diff_and_makes_the_planned_bytes(
    fresh_toto: Fresh, tmp_path: Path, version: str, ending: str
) -> None:
    root = fresh_toto(version, tmp_path)
    for path in (UTIL, ATTENTION):
        data = (root / path).read_bytes()
        data = data.replace(b"\n", b"\r\n") if ending == "crlf" else data
        (root / path).write_bytes(data.rstrip(b"\n") if ending == "no-final-newline" else data)
    planned = plan_for(root)
    diff = plan.unified_diff(planned).encode("utf-8", errors="surrogateescape")
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "apply", "--whitespace=nowarn", "-"], input=diff, check=True)
    assert {change.path: (root / change.path).read_bytes() for change in planned.changes} == {
        change.path: change.after for change in planned.changes
    }
