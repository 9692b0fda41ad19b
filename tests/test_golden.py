"""What each patch does to the pinned release, compared with the diff in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.golden import NAME, RELEASE, golden, plan_in
from toto_patcher.patching import series
from toto_patcher.patching.patch import Patch

PATCHES = series.load().patches
every_patch = pytest.mark.parametrize("patch", PATCHES, ids=[patch.id for patch in PATCHES])


@every_patch
def test_a_patch_does_to_the_pinned_release_what_its_golden_diff_says(
    toto_release: Callable[[str], Path], patch: Patch
) -> None:
    expected = (patch.folder / NAME).read_text(encoding="utf-8")
    assert golden(patch, plan_in(toto_release(RELEASE), patch)) == expected


@every_patch
def test_a_golden_diff_shows_inserted_lines_only(patch: Patch) -> None:
    hunks = (patch.folder / NAME).read_text(encoding="utf-8").split("\n@@ ")[1:]
    assert hunks
    for hunk in hunks:
        body = hunk.split("\n")[1:]
        removed = [line for line in body if line.startswith("-") and not line.startswith("---")]
        assert all(line.startswith("-sha256 ") for line in removed)
        assert not removed or all(line.startswith("+sha256 ") for line in body if line.startswith("+"))
