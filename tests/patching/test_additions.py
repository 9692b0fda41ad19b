"""A package that a patch puts beside a file: planned from the patch's folder, refused where something is in the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path, PurePosixPath

import pytest

from toto_patcher.errors import RefusedError, RefusedGroup
from toto_patcher.patching.change import FileChange, Plan
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.patch import Patch
from toto_patcher.patching.plan import plan_selection

HEADER = b"# Added by toto-patch (my-patch).\n# `toto-patch revert` removes this file.\n"


@pytest.fixture
def patch(tmp_path: Path) -> Patch:
    folder = tmp_path / "patches" / "my_patch"
    (folder / "extra").mkdir(parents=True)
    (folder / "extra" / "__init__.py").write_bytes(b"ONE = 1\n")
    (folder / "extra" / "more.py").write_bytes(b"TWO = 2\r\n")
    (folder / "extra" / "notes.txt").write_bytes(b"not written\n")
    (folder / "extra" / "__pycache__").mkdir()
    return Patch("title", "why", {}, ("p",), adds={"Target": "extra"}, folder=folder)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    package = tmp_path / "root" / "toto"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "core.py").write_text("class Target: ...\n")
    return tmp_path / "root"


def plan(root: Path, *patches: Patch, pristine: dict[PurePosixPath, bytes | None] | None = None) -> Plan:
    return plan_selection(Checkout.open(root), patches, pristine=pristine or {})


def write(planned: Plan) -> dict[PurePosixPath, bytes | None]:
    for change in planned.pending:
        assert change.after is not None
        (planned.root / change.path).parent.mkdir(exist_ok=True)
        (planned.root / change.path).write_bytes(change.after)
    return {change.path: change.pristine for change in planned.changes}


def test_the_python_files_are_added_below_a_header(root: Path, patch: Patch) -> None:
    assert plan(root, patch).changes == (
        FileChange(PurePosixPath("toto/extra/__init__.py"), None, None, HEADER + b"ONE = 1\n", ("my-patch",)),
        FileChange(PurePosixPath("toto/extra/more.py"), None, None, HEADER + b"TWO = 2\r\n", ("my-patch",)),
    )


def test_planned_again_nothing_is_pending_and_without_the_patch_they_go(root: Path, patch: Patch) -> None:
    pristine = write(plan(root, patch))
    assert plan(root, patch, pristine=pristine).pending == ()
    back = plan(root, pristine=pristine)
    assert [(change.pristine, change.after) for change in back.pending] == [(None, None)] * 2


def test_what_was_added_is_no_part_of_the_original(root: Path, patch: Patch) -> None:
    (patch.folder / "extra" / "more.py").write_text("class Target: ...\n")
    pristine = write(plan(root, patch))
    planned = plan(root, patch, pristine=pristine)
    assert planned.pending == () and len(planned.changes) == 2


def test_a_file_of_an_older_version_of_the_patch_goes(root: Path, patch: Patch) -> None:
    pristine = write(plan(root, patch))
    (patch.folder / "extra" / "more.py").rename(patch.folder / "extra" / "other.py")
    planned = plan(root, patch, pristine=pristine)
    kinds = {change.path.name: (change.before is None, change.after is None) for change in planned.pending}
    assert kinds == {"more.py": (False, True), "other.py": (True, False)}


def test_every_file_that_defines_the_class_gets_the_package_beside_it_once(root: Path, patch: Patch) -> None:
    (root / "toto" / "second.py").write_text("class Target: ...\n")
    (root / "toto" / "deep").mkdir()
    (root / "toto" / "deep" / "third.py").write_text("from ..core import x\n\n\nclass Target: ...\n")
    planned = plan(root, patch)
    assert [(str(change.path.parent), change.patches) for change in planned.changes] == [
        *[("toto/deep/extra", ("my-patch",))] * 2,
        *[("toto/extra", ("my-patch",))] * 2,
    ]


def refusals(root: Path, patch: Patch) -> list[str]:
    with pytest.raises(RefusedError) as caught:
        plan(root, patch)
    error = caught.value
    found = error.refusals if isinstance(error, RefusedGroup) else (error,)
    assert all(refusal.hint for refusal in found)
    return [str(refusal) for refusal in found]


def test_a_module_of_no_package_is_refused(root: Path, patch: Patch) -> None:
    (root / "top.py").write_text("import os\n\n\nclass Target: ...\n")
    (said,) = refusals(root, patch)
    assert said.startswith("top.py:4: my-patch: the file belongs to no package")


@pytest.mark.parametrize(
    ("obstacle", "says"),
    [
        (lambda place: place.with_suffix(".py").write_text(""), "toto/extra.py:1: my-patch: the module has the name"),
        (lambda place: (place.mkdir(), (place / "a.txt").touch()), "toto/extra: exists already, with a.txt in it"),
        (
            lambda place: (place.mkdir(), (place / "__init__.py").write_bytes(HEADER)),
            "toto/extra: holds __init__.py, which was added by toto-patch, but there is no record",
        ),
    ],
)
def test_what_is_in_the_way_is_named(root: Path, patch: Patch, obstacle: Callable[[Path], object], says: str) -> None:
    obstacle(root / "toto" / "extra")
    assert refusals(root, patch)[0].startswith(says)


def test_bytecode_and_an_empty_folder_are_in_nobodys_way(root: Path, patch: Patch) -> None:
    (root / "toto" / "extra" / "__pycache__").mkdir(parents=True)
    assert len(plan(root, patch).pending) == 2


def test_two_patches_add_to_different_folders(root: Path, patch: Patch, tmp_path: Path) -> None:
    folder = tmp_path / "patches" / "other_patch"
    (folder / "more").mkdir(parents=True)
    (folder / "more" / "__init__.py").touch()
    other = replace(patch, folder=folder, adds={"Target": "more"})
    assert [str(change.path) for change in plan(root, patch, other).changes] == [
        "toto/extra/__init__.py",
        "toto/extra/more.py",
        "toto/more/__init__.py",
    ]
