"""list, show and the generated docs/patches.md."""

from __future__ import annotations

from pathlib import Path

from cli_driver import REPOSITORY, UTIL, Run, document

from toto_patcher.patching import series


def test_list_names_every_patch_and_profile(toto_patch: Run) -> None:
    loaded = series.load()
    text = toto_patch("list").stdout
    found = document(toto_patch("list", "--json"))
    assert [patch["id"] for patch in found["patches"]] == [patch.id for patch in loaded.patches]
    assert found["profiles"] == {name: [p.id for p in patches] for name, patches in loaded.profiles().items()}
    for patch in loaded.patches:
        assert patch.id in text and patch.title in text


def test_show_says_why_and_where(toto: Path, toto_patch: Run) -> None:
    done = toto_patch("show", "kv-cache-tensor-index", "--root", toto)
    line = (toto / UTIL).read_text().splitlines().index("class KVCache:") + 1
    assert "Problem." in done.stdout and "KVCache" in done.stdout
    assert f"{UTIL}:{line}" in done.stdout


def test_show_needs_no_checkout_and_takes_underscores(toto_patch: Run) -> None:
    done = toto_patch("show", "kv_cache_tensor_index")
    assert done.returncode == 0 and done.stdout.startswith("kv-cache-tensor-index\n")


def test_the_committed_documentation_of_the_patches_is_up_to_date(toto_patch: Run) -> None:
    committed = (REPOSITORY / "docs" / "patches.md").read_text(encoding="utf-8")
    assert toto_patch("list", "--markdown").stdout == committed, "run: toto-patch list --markdown > docs/patches.md"
