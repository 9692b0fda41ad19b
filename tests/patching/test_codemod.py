"""The libcst building blocks that patches share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libcst as cst
import pytest

from toto_patcher.errors import UnknownSourceError
from toto_patcher.patching import codemod, nodes, series
from toto_patcher.patching.assumptions import is_released
from toto_patcher.patching.checkout import Checkout
from toto_patcher.patching.notice import NOTICE_MARK
from toto_patcher.patching.vendoring.releases import pinned_releases


@pytest.mark.parametrize(
    "source",
    [b"x = 1\n", b"x = 1\r\ny = 2\r\n", b"\xef\xbb\xbfx = 1\n", b"# coding: latin-1\nx = '\xe9'\n", b"x = 1", b"\n\n"],
)
def test_parse_gives_back_every_byte(source: bytes) -> None:
    assert codemod.parse(source).bytes == source


def test_parse_refuses_what_libcst_would_change() -> None:
    with pytest.raises(UnknownSourceError, match="to the byte") as refusal:
        codemod.parse(b"x = 1\n\x0cy = 2\n")
    assert refusal.value.line == 2


def test_libcst_gives_back_every_released_file_that_patches_edit(toto_release: Callable[[str], Path]) -> None:
    """A plan does not write the files of a pinned release out once more to see it: here it is seen."""
    for version in pinned_releases():
        tree = Checkout.open(toto_release(version))
        names = {name for patch in series.load().patches for name in patch.transforms}
        paths = {place.path for name in names for place in tree.definitions(name)}
        assert len(paths) > 3
        for path in sorted(paths):
            assert is_released(tree.read(path))
            assert codemod.parse(tree.read(path)).bytes == tree.read(path)


def test_walk_meets_every_name_in_source_order() -> None:
    module = cst.parse_module("@d\ndef f(a=b, *c):  # no\n    return a[e].g(h, k=i) if j else [l for l in m]\n")
    names = [node.value for node in nodes.walk(module) if isinstance(node, cst.Name)]
    assert names.count("l") == 2
    assert {"f", "a", "b", "c", "d", "e", "g", "h", "i", "j", "k", "m"} <= set(names)


def test_line_of_counts_from_one() -> None:
    module = cst.parse_module("x = 1\n\ndef f(): ...\n")
    assert codemod.line_of(module, module.body[1]) == 3


@pytest.mark.parametrize("text", ["import torch as th\n", "from torch import nn\n", "def f():\n    import torch\n", ""])
def test_require_import_refuses_other_spellings(text: str) -> None:
    with pytest.raises(UnknownSourceError, match="import torch"):
        codemod.require_import(cst.parse_module(text), "torch")


@pytest.mark.parametrize("text", ["import torch\n", "import os, torch\n", "import os; import torch\n"])
def test_require_import_accepts_a_plain_import(text: str) -> None:
    codemod.require_import(cst.parse_module(text), "torch")


def test_require_methods_names_the_missing_method_and_its_line() -> None:
    module = cst.parse_module("import torch\n\nclass C:\n    def a(self, x): ...\n")
    node = codemod.find_class(module, "C")
    with pytest.raises(UnknownSourceError, match="class C has no method b") as refusal:
        codemod.require_methods(module, node, {"a": ("x",), "b": ()})
    assert refusal.value.line == 3
    with pytest.raises(UnknownSourceError, match=r"C\.a takes \(x\), expected \(y\)"):
        codemod.require_methods(module, node, {"a": ("y",)})


def test_inserted_methods_keep_only_annotations_that_mean_the_same_everywhere(tmp_path: Path) -> None:
    source = tmp_path / "inserted.py"
    source.write_text(
        "from typing import Any\nimport torch\n\nclass New:\n"
        "    def f(self, a: torch.Tensor, b: Any, *, c: tuple[int], d: Any = 0, **e: Any) -> Any:\n        return a\n"
    )
    (method,) = codemod.insertion(source, "New", cst.parse_module(""))
    assert codemod.code(method) == "def f(self, a: torch.Tensor, b, *, c: tuple[int], d = 0, **e): return a"


class TestNotice:
    """The comment that every changed file carries (Apache-2.0 section 4b)."""

    def test_stands_after_shebang_cookie_and_licence(self) -> None:
        source = "#!/usr/bin/env python\n# -*- coding: utf-8 -*-\n# Licence\n\nimport x\n"
        lines = codemod.with_notice(cst.parse_module(source), ["one", "two"]).code.splitlines()
        assert lines[:4] == ["#!/usr/bin/env python", "# -*- coding: utf-8 -*-", "# Licence", ""]
        assert lines[4] == "# Changed by toto-patch (one, two)."
        assert "toto-patch revert" in lines[5]
        assert lines[6:] == ["", "import x"]

    def test_leads_a_file_without_comments_and_keeps_its_docstring(self) -> None:
        module = cst.parse_module('"""Doc."""\n')
        changed = codemod.with_notice(module, ["one"])
        assert changed.code.startswith(NOTICE_MARK)
        assert changed.get_docstring() == "Doc."

    def test_uses_the_line_endings_of_the_file(self) -> None:
        changed = codemod.with_notice(cst.parse_module(b"x = 1\r\n"), ["one"]).bytes
        assert changed.count(b"\n") == changed.count(b"\r\n") == 3
