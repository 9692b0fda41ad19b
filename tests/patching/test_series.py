"""Order, profiles, requirements and conflicts of patches."""

from __future__ import annotations

from pathlib import Path

import pytest

from toto_patcher.errors import ConflictError, UsageError
from toto_patcher.patching import series
from toto_patcher.patching.declarations import declared_profiles


def declare(folder: Path, name: str, **fields: object) -> None:
    arguments = "".join(f", {key}={value!r}" for key, value in fields.items())
    (folder / name).mkdir(parents=True)
    (folder / name / "patch.py").write_text(
        '"""Why."""\nfrom toto_patcher.patching.patch import Patch\n'
        f"PATCH = Patch(title={name!r}, why=__doc__, transforms={{}}, **dict(profiles=('p',){arguments}))\n"
    )


def ids(selection: tuple[series.Patch, ...]) -> list[str]:
    return [patch.id for patch in selection]


def test_the_projects_own_series_loads_in_order() -> None:
    own = series.load()
    assert ids(own.profiles()["graph-breaks"]) == ["kv-cache-tensor-index", "positional-embedding-break"]
    for patch in own.patches:
        assert "Problem." in patch.why
        assert "Change." in patch.why
        assert (patch.folder / "inserted.py").is_file()


def test_the_profiles_that_are_read_without_libcst_are_those_that_are_declared() -> None:
    loaded = {name: frozenset(ids(patches)) for name, patches in series.load().profiles().items()}
    assert declared_profiles() == loaded


def test_after_and_requires_order_patches_and_names_break_ties(tmp_path: Path) -> None:
    declare(tmp_path, "a_last", after=("c-mid",))
    declare(tmp_path, "b_first")
    declare(tmp_path, "c_mid", requires=("d-base",))
    declare(tmp_path, "d_base")
    assert ids(series.load(tmp_path).patches) == ["b-first", "d-base", "c-mid", "a-last"]


def test_selecting_a_patch_selects_what_it_requires(tmp_path: Path) -> None:
    declare(tmp_path, "top", requires=("middle",))
    declare(tmp_path, "middle", requires=("base",))
    declare(tmp_path, "base")
    declare(tmp_path, "other")
    assert ids(series.load(tmp_path).select(ids=["top"])) == ["base", "middle", "top"]


def test_ids_are_taken_with_dashes_or_underscores(tmp_path: Path) -> None:
    declare(tmp_path, "one_patch")
    loaded = series.load(tmp_path)
    assert ids(loaded.select(ids=["one_patch"])) == ids(loaded.select(ids=["one-patch"])) == ["one-patch"]


def test_a_cycle_is_refused_with_its_names(tmp_path: Path) -> None:
    declare(tmp_path, "one", after=("two",))
    declare(tmp_path, "two", after=("one",))
    with pytest.raises(ConflictError, match=r"one.*two|two.*one"):
        series.load(tmp_path)


def test_an_unknown_id_in_a_declaration_is_refused_with_both_names(tmp_path: Path) -> None:
    declare(tmp_path, "one", conflicts=("ghost",))
    with pytest.raises(ConflictError, match="patch one names ghost"):
        series.load(tmp_path)


def test_conflicting_patches_are_refused_by_name(tmp_path: Path) -> None:
    declare(tmp_path, "one", conflicts=("two",))
    declare(tmp_path, "two")
    with pytest.raises(ConflictError, match="one and two cannot be applied together"):
        series.load(tmp_path).select(ids=["one", "two"])


def test_unknown_names_on_the_command_line_list_what_there_is(tmp_path: Path) -> None:
    declare(tmp_path, "one")
    loaded = series.load(tmp_path)
    with pytest.raises(UsageError, match="no patch ghost") as refusal:
        loaded.select(ids=["ghost"])
    assert "one" in str(refusal.value.hint)
    with pytest.raises(UsageError, match="no profile ghost"):
        loaded.select(profile="ghost")
    with pytest.raises(UsageError, match="exclude each other"):
        loaded.select(profile="p", ids=["one"])
