"""The same code in other files, folders and packages."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import libcst as cst
import libcst.matchers as m

from .base import variation
from .edit import (
    ATTENTION,
    CACHE,
    defining,
    in_class,
    is_import,
    names_of,
    rewrite,
    rewrite_text,
    sources,
    statements,
    visit,
)


def _imports_renamed(root: Path, old: str, new: str) -> None:
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        text = re.sub(rf"(?m)^(\s*(?:from|import) ){old}(?=[. ])", rf"\g<1>{new}", text)
        path.write_text(text, encoding="utf-8")


@variation(package="", sys_path="toto")
def first_public_revision(root: Path) -> None:
    """Absolute ``from model.x import`` with the package's own folder on the path, as the first revision had it."""
    for path in sources(root):
        text = path.read_text(encoding="utf-8")
        text = re.sub(r"(?m)^(\s*from )\.\.(?=\w)", r"\1", text)
        text = re.sub(r"(?m)^(\s*from )\.(?=\w)", rf"\g<1>{path.parent.name}.", text)
        text = re.sub(r"(?m)^(\s*from )toto\.", r"\1", text)
        path.write_text(text, encoding="utf-8")


@variation(package="vendored_toto")
def package_renamed(root: Path) -> None:
    _imports_renamed(root, "toto", "vendored_toto")
    (root / "toto").rename(root / "vendored_toto")


@variation(package="_internal.backbone.forecasting")
def package_nested(root: Path) -> None:
    _imports_renamed(root, "toto", "_internal.backbone.forecasting")
    (root / "_internal" / "backbone").mkdir(parents=True)
    (root / "_internal" / "__init__.py").touch()
    (root / "_internal" / "backbone" / "__init__.py").touch()
    (root / "toto").rename(root / "_internal" / "backbone" / "forecasting")


@variation(sys_path="src")
def src_layout(root: Path) -> None:
    (root / "src").mkdir()
    (root / "toto").rename(root / "src" / "toto")


@variation()
def only_what_inference_needs(root: Path) -> None:
    for name in ("test", "evaluation", "scripts", "data/datasets", "data/datamodule"):
        shutil.rmtree(root / "toto" / name, ignore_errors=True)


@variation()
def virtual_environment_beside_it(root: Path) -> None:
    """A .venv and a build folder with their own copies must neither be patched nor counted as second definitions."""
    for folder in (".venv/lib/python3.11/site-packages", "build/lib"):
        shutil.copytree(root / "toto", root / folder / "toto")


def _is_class(node: cst.CSTNode, name: str) -> bool:
    return m.matches(node, m.ClassDef(name=m.Name(name)))


@variation()
def cache_in_its_own_file(root: Path) -> None:
    """``kvcache.py`` defines the cache, ``util.py`` hands it on."""
    util = defining(root, CACHE)

    def split(module: cst.Module) -> cst.Module:
        cache = [node for node in module.body if _is_class(node, CACHE)]
        wanted = names_of(cache)
        aliases = [
            node
            for node in module.body
            if m.matches(node, m.SimpleStatementLine(body=[m.AnnAssign()])) and names_of([node]) & (wanted | {"K", "V"})
        ]
        imports = [node for node in module.body if is_import(node)]
        moved = module.with_changes(body=[*imports, *aliases, *cache])
        (util.parent / "kvcache.py").write_bytes(moved.bytes)
        body = [node for node in module.body if node not in cache]
        at = next(i for i, node in enumerate(body) if is_import(node))
        return module.with_changes(body=[*body[:at], *statements("from .kvcache import KVCache\n"), *body[at:]])

    rewrite(util, split)


@variation()
def attention_base_in_its_own_file(root: Path) -> None:
    attention = defining(root, ATTENTION)

    def split(module: cst.Module) -> cst.Module:
        end = next(i for i, node in enumerate(module.body) if _is_class(node, ATTENTION)) + 1
        (attention.parent / "attention_base.py").write_bytes(module.with_changes(body=module.body[:end]).bytes)
        names = "AttentionAxis, BaseMultiheadAttention, XFORMERS_AVAILABLE"
        header = statements(f"from .attention_base import {names}\n")
        return module.with_changes(body=[*header, *module.body[end:]])

    rewrite(attention, split)


@variation()
def everything_in_one_file(root: Path) -> None:
    """Attention and cache share a module; ``util`` and ``attention`` hand the names on."""
    attention, util = defining(root, ATTENTION), defining(root, CACHE)
    head = attention.read_text(encoding="utf-8")
    tail = util.read_text(encoding="utf-8")
    tail = re.sub(r"(?m)^from \.\.model\.attention import .*\n", "", tail)
    (attention.parent / "core.py").write_text(head + "\n\n" + tail, encoding="utf-8")
    attention.write_text("from .core import *\nfrom .core import XFORMERS_AVAILABLE\n", encoding="utf-8")
    util.write_text("from .core import *\n", encoding="utf-8")


@variation()
def rms_norm_moved(root: Path) -> None:
    util = defining(root, CACHE)

    def split(module: cst.Module) -> cst.Module:
        at = next(i for i, node in enumerate(module.body) if _is_class(node, "RMSNorm"))
        kept = [node for node in module.body[:at] if is_import(node) and "attention" not in names_of([node])]
        blocks = [node for node in module.body[:at] if isinstance(node, cst.Try)]
        (util.parent / "norm.py").write_bytes(module.with_changes(body=[*kept, *blocks, module.body[at]]).bytes)
        body = [node for node in module.body if node not in blocks and node is not module.body[at]]
        return module.with_changes(body=[*statements("from .norm import RMSNorm\n"), *body])

    rewrite(util, split)


@variation(same_as_release=False)
def rms_norm_of_torch(root: Path) -> None:
    """torch's own RMSNorm replaces the shipped one; it rounds a little differently."""

    def change(node: cst.ClassDef) -> cst.ClassDef:
        code = """
def __init__(self, dim, include_weight=True, eps=1e-8):
    super().__init__()
    self.eps = eps
    self.scale = torch.nn.Parameter(torch.ones(dim)) if include_weight else None

def forward(self, x):
    return torch.nn.functional.rms_norm(x, x.shape[-1:], self.scale, self.eps)
"""
        return node.with_changes(body=node.body.with_changes(body=statements(code)))

    in_class(defining(root, CACHE), "RMSNorm", change)


class _WithoutXformers(cst.CSTTransformer):
    """Drops ``try: from xformers... except ImportError: ...`` and leaves what its last lines defined."""

    def leave_Try(self, original_node: cst.Try, updated_node: cst.Try) -> Any:  # noqa: N802
        if "xformers" not in names_of([original_node.body]):
            return updated_node
        handler = updated_node.handlers[0].body.body
        kept = [node for node in handler if "warnings" not in names_of([node])]
        return cst.FlattenSentinel(kept)  # type: ignore[arg-type]


@variation()
def xformers_removed(root: Path) -> None:
    for path in sorted({defining(root, name) for name in (CACHE, ATTENTION, "TransformerLayer")}):
        visit(path, _WithoutXformers())


@variation()
def optimized_module_hands_the_cache_on(root: Path) -> None:
    (root / "toto/model/util_optimized.py").write_text("from .util import KVCache\n\n__all__ = ['KVCache']\n")


@variation()
def optimized_module_defines_the_cache(root: Path) -> None:
    """``util_optimized.py`` is a copy with its own class; both are to become compile-friendly."""
    shutil.copyfile(root / "toto/model/util.py", root / "toto/model/util_optimized.py")


@variation()
def optimized_module_is_used(root: Path) -> None:
    """The model takes its cache from ``util_optimized.py``."""
    optimized_module_defines_the_cache(root)
    for name in ("TotoBackbone", "TransformerLayer"):
        rewrite_text(
            defining(root, name), lambda text: text.replace("model.util import", "model.util_optimized import")
        )


@variation()
def backup_copies_left_behind(root: Path) -> None:
    """``util.py.orig`` and ``util_old.txt`` are not python files."""
    util = root / "toto/model/util.py"
    shutil.copyfile(util, util.with_name("util.py.orig"))
    shutil.copyfile(util, util.with_name("util_old.txt"))


class _Alias(cst.CSTTransformer):
    """``import torch`` becomes ``import torch as th``, and every ``torch.x`` becomes ``th.x``."""

    def leave_Import(self, original_node: cst.Import, updated_node: cst.Import) -> cst.Import:  # noqa: N802
        if m.matches(original_node, m.Import(names=[m.ImportAlias(name=m.Name("torch"))])):
            return cst.ensure_type(cst.parse_statement("import torch as th\n"), cst.SimpleStatementLine).body[0]  # type: ignore[return-value]
        return updated_node

    def visit_ImportFrom(self, node: cst.ImportFrom) -> bool:  # noqa: N802
        return False

    def visit_Import(self, node: cst.Import) -> bool:  # noqa: N802
        return False

    def leave_Attribute(self, original_node: cst.Attribute, updated_node: cst.Attribute) -> cst.Attribute:  # noqa: N802
        if m.matches(original_node.value, m.Name("torch")):
            return updated_node.with_changes(value=cst.Name("th"))
        return updated_node


@variation("refused", says="import torch")
def torch_imported_as_th(root: Path) -> None:
    for name in (CACHE, ATTENTION):
        visit(defining(root, name), _Alias())


class _Axis(cst.CSTTransformer):
    def leave_Name(self, original_node: cst.Name, updated_node: cst.Name) -> cst.Name:  # noqa: N802
        return updated_node.with_changes(value="Axis") if original_node.value == "AttentionAxis" else updated_node


@variation("refused", says="BaseMultiheadAttention", full_graph="BaseMultiheadAttention.get_qkv is not the one")
def axis_enum_under_another_name(root: Path) -> None:
    """Inserted code must take the enum's name from the class that it changes."""
    attention = defining(root, ATTENTION)
    visit(attention, _Axis())
    rewrite_text(attention, lambda text: text + "\nAttentionAxis = Axis\n")
