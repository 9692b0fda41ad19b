"""Why graphs break, why CUDA graphs are skipped, and what cures it; the first match wins."""

from __future__ import annotations

from toto_patcher.evidence.cause import CACHE_SOURCE, Cause

_BOTH = ("kv-cache-tensor-index", "positional-embedding-break")

BREAK_CAUSES: tuple[Cause, ...] = (
    # -- graph breaks -----------------------------------------------------------------------------------------------
    Cause(
        "break-on-purpose",
        "The profile graph-breaks leaves the graph here on purpose, so that the cache is read and written outside "
        "compiled code.",
        "Nothing. The profile full-graph decodes without graph breaks.",
        ("break",),
        r"torch\.compiler\.disable|marked as skipped|_dynamo\.(?:skip|disable)",
        context=r"function KVCache\.|_forward_with_cache",
        expected=True,
    ),
    Cause(
        "cache-read",
        "The cache's index is read from a tensor on the host, in the middle of a graph: the graph breaks and the "
        "process waits for the GPU, in every layer.",
        "Patch the cache and the attention: the lengths live on the host, and one break per layer is left.",
        ("break",),
        context=CACHE_SOURCE,
        patches=_BOTH,
        profile="graph-breaks",
    ),
    Cause(
        "flag-from-length",
        "Whether attention is causal is computed from a length that torch holds as a variable, which the operator does "
        "not take.",
        "Patch the attention: what depends on the length of the cache runs outside compiled code.",
        ("break",),
        context=r"is_causal.*SymBool",
        patches=("positional-embedding-break",),
        profile="graph-breaks",
    ),
    Cause(
        "host-read",
        "A tensor's value is read on the host (.item(), int(), .tolist()) in the middle of a graph.",
        "Read it outside compiled code, or keep it a tensor. With the setting torch captures .item() and goes on.",
        ("break",),
        r"Tensor\.item|\.item\(\)|\.tolist\(\)|_local_scalar_dense|[Dd]ata.dependent operator|capture_scalar_outputs",
        setting="TORCHDYNAMO_CAPTURE_SCALAR_OUTPUTS=1",
    ),
    Cause(
        "data-dependent-branch",
        "Python decides by a tensor's value (if, while, assert): the graph ends there and the host waits for it.",
        "Decide outside compiled code, or without a branch (torch.where).",
        ("break",),
        r"[Dd]ata-dependent|generic_jump|Assertion failed on symbolic|Data-dependent assertion",
    ),
    Cause(
        "dynamic-shape-operator",
        "The size of an operator's result depends on values (nonzero, masking by a bool tensor, unique).",
        "Do this step outside compiled code, or at a fixed size.",
        ("break",),
        r"[Dd]ynamic (?:shape operator|slicing)|nonzero|capture_dynamic_output_shape_ops",
    ),
    Cause(
        "break-by-hand",
        "The code asks for it: torch._dynamo.graph_break() or a function excluded with torch.compiler.disable.",
        "Remove the request, if it is yours and no longer needed.",
        ("break",),
        r"torch\._dynamo\.graph_break|torch\.compiler\.disable",
        expected=True,
    ),
    Cause(
        "untraceable-call",
        "A call that torch does not trace: print, logging, or a function written in C.",
        "Move it out of the forward pass.",
        ("break",),
        r"marked as skipped|builtin operator|builtin .*print|\bprint\b|logging|C/C\+\+|not traceable|"
        r"Unsupported (?:builtin|function call)|SkipFunctionVariable|skip_?file",
    ),
    # -- CUDA graphs ------------------------------------------------------------------------------------------------
    Cause(
        "cache-written-in-graph",
        "A graph writes into the cache, whose memory is not the graph's own, so it cannot be replayed as a CUDA graph.",
        "Patch the cache: graph-breaks writes it outside compiled code; full-graph keeps it at fixed addresses.",
        ("skip",),
        r"mutat",
        context=CACHE_SOURCE,
        patches=_BOTH,
        profile="graph-breaks",
    ),
    Cause(
        "mutated-inputs",
        "A graph writes into one of its inputs. CUDA graphs allow that for parameters, buffers and tensors of a fixed "
        "address only. In unpatched Toto it is the cache; torch does not name the line here.",
        "If the tree is unpatched: the profile graph-breaks. If the write is yours: do it outside compiled code, or "
        "hold the tensor as a buffer.",
        ("skip",),
        r"mutat",
    ),
    Cause(
        "cpu-in-graph",
        "A tensor on the CPU takes part in a graph on the GPU.",
        "Move it to the GPU before the forecast; torch names the tensor.",
        ("skip",),
        r"cpu device|multiple devices|non-cuda|device.*cpu",
    ),
    Cause(
        "many-sizes",
        "A CUDA graph is recorded for every distinct size, and there are many.",
        "Keep to few sizes: one context length, one samples_per_batch. The profile full-graph decodes at fixed sizes.",
        ("skip", "sizes"),
        r"dynamic shape|distinct (?:input )?size|symint",
    ),
    Cause(
        "moving-address",
        "A tensor that CUDA graphs take to be fixed (a weight, a buffer) has moved, so that graphs are recorded again.",
        "Keep one model in place: move and convert it before it is compiled, and do not load weights afterwards.",
        ("skip",),
        r"data pointer changed|re-?record",
    ),
    Cause(
        "incompatible-operator",
        "A graph holds an operator that CUDA graphs cannot hold.",
        "torch names it where it can; do that step outside compiled code.",
        ("skip",),
        r"incompatible op|disabled cudagraphs|unsupported op|complex|nccl|collective",
    ),
)
