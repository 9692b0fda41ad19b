"""Which folder is the checkout."""

from __future__ import annotations

from pathlib import Path

import pytest

from toto_patcher import roots
from toto_patcher.errors import NoCheckoutError, UsageError
from toto_patcher.roots import find_root, table, wanted_root


class TestFindRoot:
    """The order: option, environment, pyproject.toml, vendor/toto at or above, the only tree below."""

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

    def test_a_pyproject_of_a_member_that_says_nothing_is_passed_over(self, project: Path) -> None:
        for text in ("", "[project]\nname = 'api'\n", "[tool.toto-patch.stress]\nrecompilations = 3\n"):
            (project / "deep" / "pyproject.toml").write_text(text)
            assert find_root(None, {}, project / "deep" / "er") == project / "configured"
        limits = ("stress", {"recompilations": 3})
        assert table(limits[0], project / "deep" / "er") == (project / "deep" / "pyproject.toml", limits[1])
        (project / "deep" / "pyproject.toml").write_text("[tool.toto-patch]\nroot = 'er'\n")
        assert find_root(None, {}, project / "deep" / "er") == project / "deep" / "er"
        assert table("stress", project / "deep" / "er") == (None, {})

    def test_a_broken_file_above_matters_only_if_it_names_us(self, project: Path) -> None:
        (project / "deep" / "pyproject.toml").write_text("[project]\nname = 'api'\n")
        (project / "pyproject.toml").write_text("[broken\n")
        assert find_root(None, {}, project / "deep" / "er") == project / "vendor" / "toto"
        (project / "pyproject.toml").write_text("[tool.toto-patch\n")
        with pytest.raises(UsageError, match="not valid TOML"):
            find_root(None, {}, project / "deep" / "er")

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


CACHE, MODEL = "class KVCache:\n", "class TotoBackbone:\n"


def vendored(folder: Path, cache: str = CACHE, model: str = MODEL) -> Path:
    """A folder that holds something of Toto's shape."""
    (folder / "toto" / "model").mkdir(parents=True)
    (folder / "toto" / "model" / "util.py").write_text(cache)
    (folder / "toto" / "model" / "backbone.py").write_text(model)
    return folder


class TestBelow:
    """The last of the order: the only vendored Toto below the current folder."""

    def test_the_only_tree_below_is_found(self, tmp_path: Path) -> None:
        tree = vendored(tmp_path / "services" / "third_party" / "datadog")
        vendored(tmp_path / "look-alike", model="class Other:\n")
        for passed_over in (".hidden", "venv/lib/site-packages", "env", "a/b/c/d/e/f/g"):
            vendored(tmp_path / passed_over)
        (tmp_path / "env" / "pyvenv.cfg").touch()
        (tmp_path / "link").symlink_to(tree)
        assert find_root(None, {}, tmp_path) == tree
        assert find_root(None, {}, tmp_path / "services") == tree
        assert find_root(None, {}, tree) == tree

    def test_of_several_none_is_taken_and_all_are_named(self, tmp_path: Path) -> None:
        vendored(tmp_path / "one")
        vendored(tmp_path / "two")
        with pytest.raises(NoCheckoutError, match="several: one, two"):
            find_root(None, {}, tmp_path)

    def test_the_refusal_names_every_way(self, tmp_path: Path) -> None:
        with pytest.raises(NoCheckoutError) as refusal:
            find_root(None, {}, tmp_path)
        told = f"{refusal.value.message} {refusal.value.hint}"
        for way in ("--root", "TOTO_PATCH_ROOT", "[tool.toto-patch]", "root =", "vendor/toto", "toto-patch vendor"):
            assert way in told

    def test_what_merely_lies_below_is_not_written_over(self, tmp_path: Path) -> None:
        vendored(tmp_path / "third_party")
        assert wanted_root(None, {}, tmp_path) == tmp_path / "vendor" / "toto"

    def test_what_is_run_is_not_searched_for(self, tmp_path: Path) -> None:
        vendored(tmp_path / "downloads")
        with pytest.raises(NoCheckoutError):
            find_root(None, {}, tmp_path, below=False)

    def test_a_whole_disk_is_not_searched(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        vendored(tmp_path / "z")
        for number in range(20):
            (tmp_path / f"a{number}").mkdir()
        monkeypatch.setattr(roots, "_MOST", 20)
        with pytest.raises(NoCheckoutError, match="more folders than are searched"):
            find_root(None, {}, tmp_path)
