"""The same code spelled otherwise, as forks and older revisions of Toto spell it: what it computes stays."""

from __future__ import annotations

import re
from pathlib import Path

import libcst as cst
import libcst.matchers as m

from .base import variation
from .edit import ATTENTION, CACHE, FORECASTER, add_import, defining, in_method, prepend, rewrite_text, sources
from .layout import xformers_removed

BACKBONE, SCALER, MIXTURE = "TotoBackbone", "CausalPatchStdMeanScaler", "MixtureOfStudentTsOutput"
ROTARY = "TimeAwareRotaryEmbedding"
FLAG = "self.use_memory_efficient_attention"


def _replace(path: Path, old: str, new: str) -> None:
    rewrite_text(path, lambda text: text.replace(old, new))


@variation()
def old_allocate_kv_cache(root: Path) -> None:
    """Before 0.1.3 the cache was given the layers themselves, and no type was told to the checker."""
    path = defining(root, BACKBONE)
    _replace(path, "list(self.transformer.layers)", "self.transformer.layers")
    rewrite_text(path, lambda text: re.sub(r"cast\(int, (self\.transformer\.layers\[0\]\.num_heads)\)", r"\1", text))


@variation()
def warning_worded_otherwise(root: Path) -> None:
    path = defining(root, SCALER)
    rewrite_text(path, lambda text: re.sub(r"(?s)f\"Float64 is not supported.*?\",\n", '"No float64 here.",\n', text))


@variation()
def returned_without_a_name(root: Path) -> None:
    """``return f(x)`` in place of a variable that is returned."""
    rewrite_text(
        defining(root, FORECASTER),
        lambda text: re.sub(
            r"(?m)^( +)trimmed_predictions = (.*)\n +return trimmed_predictions$", r"\1return \2", text
        ),
    )
    rewrite_text(
        defining(root, ROTARY),
        lambda text: re.sub(
            r"(?m)^( +)scale = (torch\.cat\(\(scale, scale\), dim=-1\))\n+ +return scale$", r"\1return \2", text
        ),
    )


@variation()
def prefix_length_without_default(root: Path) -> None:
    """Callers always give it."""
    path = defining(root, SCALER)
    rewrite_text(
        path,
        lambda text: re.sub(
            r"(weights: [^\n]*\n +prefix_length: )(?:int \| None|Optional\[int\]) = None",
            r"\1int",
            text,
        ),
    )


@variation()
def student_t_of_torch(root: Path) -> None:
    """torch's own distribution, which gluonts' is a subclass of, and without its checks."""
    path = defining(root, MIXTURE)
    _replace(
        path,
        "components = StudentT(df, loc, scale)",
        "components = torch.distributions.StudentT(df, loc, scale, validate_args=False)",
    )


@variation()
def values_cast_for_the_type_checker(root: Path) -> None:
    path = defining(root, BACKBONE)
    _replace(path, "self.unembed(transformed)", "self.unembed(cast(torch.Tensor, transformed))")
    add_import(path, "import typing as _t\n")
    _replace(
        path, "self.output_distribution(flattened)", '_t.cast("torch.Tensor", self.output_distribution(flattened))'
    )


@variation()
def view_for_rearrange(root: Path) -> None:
    """The un-embedded patches are flattened by a view."""

    class View(cst.CSTTransformer):
        def leave_SimpleStatementLine(  # noqa: N802 - libcst's naming
            self, original_node: cst.SimpleStatementLine, updated_node: cst.SimpleStatementLine
        ) -> cst.BaseStatement | cst.FlattenSentinel[cst.BaseStatement]:
            call = m.Call(func=m.Name("rearrange"), args=[m.AtLeastN(n=1)])
            target = m.AnnAssign(target=m.Name("flattened"), value=call) | m.Assign(
                targets=[m.AssignTarget(m.Name("flattened"))], value=call
            )
            if not m.matches(updated_node, m.SimpleStatementLine(body=[target])):
                return updated_node
            value = cst.ensure_type(updated_node.body[0].value, cst.Call).args[0].value  # type: ignore[union-attr]
            code = (
                f"unembedded = {cst.Module([]).code_for_node(value)}\n"
                "batch_size, num_variates, seq_len = unembedded.shape[:3]\n"
                "patch_size = unembedded.shape[-1] // self.embed_dim\n"
                "flattened = unembedded.view(batch_size, num_variates, seq_len * patch_size, self.embed_dim)\n"
            )
            return cst.FlattenSentinel(cst.parse_module(code).body)  # type: ignore[arg-type]

    in_method(
        defining(root, BACKBONE), BACKBONE, "backbone", lambda f: cst.ensure_type(f.visit(View()), cst.FunctionDef)
    )


@variation()
def einops_where_torch_would_do(root: Path) -> None:
    """And torch where einops was: an axis more is an axis more."""
    _replace(defining(root, CACHE), 'rearrange(t, "... d -> ... 1 d")', "t.unsqueeze(-2)")
    _replace(defining(root, ROTARY), 'rearrange(power, "... n -> ... n 1")', "power.unsqueeze(-1)")


class _WithoutKernels(cst.CSTTransformer):
    """Drops the branches that call xformers; what is left still asks for the flag."""

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.BaseStatement | cst.FlattenSentinel:  # type: ignore[type-arg]  # noqa: N802
        names = {name.value for name in m.findall(original_node.test, m.Name())}  # type: ignore[attr-defined]
        called = {name.value for name in m.findall(original_node.body, m.Name())}  # type: ignore[attr-defined]
        kernels = {"XFORMERS_SWIGLU_AVAILABLE", "XFORMERS_RMSNORM_AVAILABLE"}
        if not (names & kernels or "memory_efficient_attention" in called):
            return updated_node
        rest = updated_node.orelse
        if isinstance(rest, cst.If):
            return rest
        return cst.FlattenSentinel(rest.body.body if rest is not None else [])  # type: ignore[arg-type]


def _drop_kernels(root: Path) -> None:
    for name, method in (("RMSNorm", "forward"), ("TransformerLayer", "__init__"), (ATTENTION, "run_attention")):
        in_method(
            defining(root, name),
            name,
            method,
            lambda f: cst.ensure_type(f.visit(_WithoutKernels()), cst.FunctionDef),
        )


@variation()
def xformers_branches_removed(root: Path) -> None:
    xformers_removed(root)
    _drop_kernels(root)


@variation()
def xformers_refused_by_the_constructor(root: Path) -> None:
    """Nothing asks for the flag any more where attention runs, for no attention can be made with it."""
    xformers_removed(root)
    _drop_kernels(root)
    path = defining(root, ATTENTION)

    def forbid(function: cst.FunctionDef) -> cst.FunctionDef:
        body = [*function.body.body, cst.parse_statement(f"assert not {FLAG}, 'there is no xformers here'")]
        return function.with_changes(body=function.body.with_changes(body=body))

    in_method(path, ATTENTION, "__init__", forbid)
    start, end = f" and not {FLAG}:", ":"
    _replace(path, start, end)
    for method in ("get_qkv", "rearrange_output"):
        in_method(
            path,
            ATTENTION,
            method,
            lambda f: cst.ensure_type(f.visit(_WithoutFlag()), cst.FunctionDef),
        )
    in_method(path, ATTENTION, "get_qkv", lambda f: prepend(f, 'pattern: str = ""\n'))
    _replace(path, "        qkv = self.wQKV(", "        assert pattern\n        qkv = self.wQKV(")
    in_method(path, ATTENTION, "run_attention", _raising_at_the_end)


class _WithoutFlag(cst.CSTTransformer):
    """Drops the branches that the flag would take."""

    def leave_If(self, original_node: cst.If, updated_node: cst.If) -> cst.BaseStatement:  # noqa: N802
        flagged = m.findall(original_node.test, m.Attribute(attr=m.Name("use_memory_efficient_attention")))
        if flagged and isinstance(updated_node.orelse, cst.If):
            return updated_node.orelse
        return updated_node


def _raising_at_the_end(function: cst.FunctionDef) -> cst.FunctionDef:
    """``else: raise`` after the last of the cases."""
    fault = cst.Else(cst.IndentedBlock([cst.parse_statement("raise ValueError('unknown axis')")]))  # type: ignore[list-item]

    def extend(node: cst.If) -> cst.If:
        return node.with_changes(orelse=extend(node.orelse) if isinstance(node.orelse, cst.If) else fault)

    body = [extend(node) if isinstance(node, cst.If) else node for node in function.body.body]
    return function.with_changes(body=function.body.with_changes(body=body))


@variation()
def unused_arguments_with_defaults(root: Path) -> None:
    path = defining(root, ROTARY)
    extra = [cst.Param(cst.Name(name), default=cst.Name("None")) for name in ("seq_len", "offset")]
    in_method(
        path,
        ROTARY,
        "get_scale",
        lambda f: f.with_changes(params=f.params.with_changes(params=[*f.params.params, *extra])),
    )


@variation()
def arguments_by_name(root: Path) -> None:
    path = defining(root, ATTENTION)
    _replace(path, "self.get_qkv(rearranged_inputs)", "self.get_qkv(inputs=rearranged_inputs)")
    _replace(
        path, "self.rearrange_output(output, batch_size, variate, seq_len)",
        "self.rearrange_output(output, seq_len=seq_len, variate=variate, batch=batch_size)",
    )  # fmt: skip
    _replace(defining(root, MIXTURE), "StudentT(df, loc, scale)", "StudentT(df=df, loc=loc, scale=scale)")


@variation()
def functions_imported_otherwise(root: Path) -> None:
    """``math.ceil`` for ``ceil``, ``torch.nn.functional`` for ``F``, and einops as a module."""
    path = defining(root, BACKBONE)
    _replace(path, "ceil(max_time_steps", "math.ceil(max_time_steps")
    _replace(path, "from math import ceil", "import math")
    _replace(path, "model.util import KVCache", "model.util import KVCache as Cache")
    rewrite_text(path, lambda text: re.sub(r"\bKVCache\b(?! as)", "Cache", text))
    for path in sources(root / "toto/model"):
        text = path.read_text(encoding="utf-8")
        if "import torch.nn.functional as F" in text and "F." in text:
            text = re.sub(r"\bF\.(?=[a-z])", "torch.nn.functional.", text)
            path.write_text(text, encoding="utf-8")
    rewrite_text(
        defining(root, SCALER),
        lambda text: re.sub(r"(?m)^from einops import .*$", "import einops\nfrom einops import reduce", text),
    )
    _replace(defining(root, SCALER), " repeat(", " einops.repeat(")
