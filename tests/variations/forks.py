"""Forks as people make them: several habits at once, and rewrites that change the numbers by rounding or on purpose."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import libcst as cst

from .annotations import annotations_dropped
from .base import variation
from .edit import (
    ATTENTION,
    BACKBONE_FILE,
    CACHE,
    FORECASTER,
    add_import,
    add_methods,
    before_return,
    defining,
    in_method,
    prepend,
    rewrite_text,
    sources,
)
from .layout import package_renamed, rms_norm_of_torch, xformers_removed

NOT = "is not the one that the patch relies on"
EINSUM = '''

def attend(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False):
    """Attention without torch's kernels."""
    scores = torch.einsum("bhqd,bhkd->bhqk", query, key) * query.shape[-1] ** -0.5
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=query.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, float("-inf"))
    elif attn_mask is not None:
        scores = scores + attn_mask
    return torch.einsum("bhqk,bhkd->bhqd", scores.softmax(-1), value)
'''
CONFIG = '''

@_dataclasses.dataclass(frozen=True)
class BackboneConfig:
    """What a backbone is made of."""

    embed_dim: int = 64
    num_layers: int = 4
'''
FROM_CONFIG = """
@classmethod
def from_config(cls, config, **more):
    return cls(**{**_dataclasses.asdict(config), **more})
"""


def _append(path: Path, text: str) -> None:
    path.write_text(path.read_text(encoding="utf-8") + text, encoding="utf-8")


@variation(package="vendored_toto")
def renamed_with_a_config_class_and_without_types(root: Path) -> None:
    path = defining(root, BACKBONE_FILE)
    add_import(path, "import dataclasses as _dataclasses\n")
    add_methods(path, BACKBONE_FILE, FROM_CONFIG)
    _append(path, CONFIG)
    annotations_dropped(root)
    package_renamed(root)


@variation()
def written_anew_by_a_tool(root: Path) -> None:
    """Parsed and printed again: no comment is left, and no line is as it was."""
    for path in sources(root / "toto/model") + sources(root / "toto/inference"):
        path.write_text(ast.unparse(ast.parse(path.read_text(encoding="utf-8"))) + "\n", encoding="utf-8")


@variation(same_as_release=False)
def torch_alone(root: Path) -> None:
    """No xformers, and the norm of torch."""
    xformers_removed(root)
    rms_norm_of_torch(root)


@variation(full_graph=rf"attention.py:\d+: static-decoder: {ATTENTION}.run_attention {NOT}", same_as_release=False)
def attention_by_einsum(root: Path) -> None:
    path = defining(root, ATTENTION)
    rewrite_text(path, lambda text: text.replace("return scaled_dot_product_attention(", "return attend("))
    _append(path, EINSUM)


@variation(full_graph="TotoForecaster.generate_samples is not the one")
def progress_shown_while_sampling(root: Path) -> None:
    path = defining(root, FORECASTER)
    add_import(path, "def shown(steps):\n    return steps\n")
    rewrite_text(path, lambda text: text.replace("in range(num_batches):", "in shown(range(num_batches)):"))


@variation(full_graph=r"forecaster.py:\d+: static-decoder: TotoForecaster.forecast is not the one")
def forecast_takes_any_keyword(root: Path) -> None:
    """So that callers of other models can hand on what this one does not know."""

    def change(node: cst.FunctionDef) -> cst.FunctionDef:
        more = cst.Param(cst.Name("unused"))
        return node.with_changes(params=node.params.with_changes(star_kwarg=more))

    in_method(defining(root, FORECASTER), FORECASTER, "forecast", change)


@variation(full_graph="Transformer.forward is not the one", same_as_release=False)
def one_more_norm_at_the_end(root: Path) -> None:
    in_method(
        defining(root, "Transformer"),
        "Transformer",
        "forward",
        lambda f: before_return(f, "inputs = torch.nn.functional.normalize(inputs, dim=-1)\n"),
    )


@variation(full_graph="MixtureOfStudentTsOutput.forward is not the one", same_as_release=False)
def scale_with_a_floor(root: Path) -> None:
    path = defining(root, "MixtureOfStudentTsOutput")
    rewrite_text(path, lambda text: text.replace("= StudentT(df, loc, scale)", "= StudentT(df, loc, scale + 0.1)"))


@variation(full_graph="SwiGLU.forward is not the one", same_as_release=False)
def gate_of_another_kind(root: Path) -> None:
    path = defining(root, "SwiGLU")
    rewrite_text(path, lambda text: text.replace("F.silu(gate)", "F.gelu(gate)"))


@variation(full_graph="is not the one")
def returns_early(root: Path) -> None:
    """``if`` and two returns, in place of one return with a condition in it."""

    class Early(ast.NodeTransformer):
        def visit_Return(self, node: ast.Return) -> ast.Return | list[ast.stmt]:
            if not isinstance(node.value, ast.IfExp):
                return node
            return [ast.If(node.value.test, [ast.Return(node.value.body)], []), ast.Return(node.value.orelse)]

    for name in (CACHE, ATTENTION, "RMSNorm", FORECASTER):
        path = defining(root, name)
        made = Early().visit(ast.parse(path.read_text(encoding="utf-8")))
        path.write_text(ast.unparse(ast.fix_missing_locations(made)) + "\n", encoding="utf-8")


@variation()
def torch_by_single_names(root: Path) -> None:
    """``from torch import cat`` in place of ``torch.cat``."""
    for name in (BACKBONE_FILE, FORECASTER):
        path = defining(root, name)
        rewrite_text(path, lambda text: re.sub(r"\btorch\.(cat|ones_like|zeros_like)\(", r"\1(", text))
        add_import(path, "from torch import cat, ones_like, zeros_like\n")


@variation(full_graph="TransformerLayer.forward is not the one")
def layers_that_log(root: Path) -> None:
    path = defining(root, "TransformerLayer")
    add_import(path, "import logging\n")
    in_method(
        path,
        "TransformerLayer",
        "forward",
        lambda f: prepend(f, "logging.getLogger(__name__).debug('layer %s', layer_idx)\n"),
    )
