"""Which folder is the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from toto_patcher.errors import UsageError
from toto_patcher.roots import find_root


class TestFindRoot:
    """The order: option, environment, pyproject.toml, vendor/toto at or above the current folder."""

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        for name in ("option", "environment", "configured", "vendor/toto", "deep/er"):
            (tmp_path / name).mkdir(parents=True)
        (tmp_path / "pyproject.toml").write_text('[tool.toto-patch]\nroot = "configured"\n')
        return tmp_path

    def test_the_option_wins(self, project: Path) -> None:
        environ = {"TOTO_PATCH_ROOT": str(project / "environment")}
        assert find_root(project / "option", environ, project) == project / "option"

    def test_then_the_environment(self, project: Path) -> None:
        environ = {"TOTO_PATCH_ROOT": str(project / "environment")}
        assert find_root(None, environ, project) == project / "environment"

    def test_then_the_nearest_pyproject(self, project: Path) -> None:
        assert find_root(None, {}, project / "deep" / "er") == project / "configured"

    def test_then_vendor_toto_above(self, project: Path) -> None:
        (project / "pyproject.toml").unlink()
        assert find_root(None, {}, project / "deep" / "er") == project / "vendor" / "toto"

    def test_a_folder_that_does_not_exist_is_named(self, project: Path) -> None:
        with pytest.raises(UsageError, match="TOTO_PATCH_ROOT names a folder that does not exist"):
            find_root(None, {"TOTO_PATCH_ROOT": str(project / "absent")}, project)

    def test_nothing_found_says_what_to_do(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as refusal:
            find_root(None, {}, tmp_path)
        assert "toto-patch vendor" in str(refusal.value.hint)

    def test_a_broken_pyproject_is_named(self, project: Path) -> None:
        (project / "pyproject.toml").write_text("[tool.toto-patch\n")
        with pytest.raises(UsageError, match="not valid TOML"):
            find_root(None, {}, project)
