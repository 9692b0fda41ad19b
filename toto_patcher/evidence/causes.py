"""Why torch.compile did what it reports, in plain words, and what cures it: a table, first match wins.

A cause names a patch or a profile only where the patch removes it. What matches nothing is said to be unknown.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from toto_patcher.evidence.compile_messages import Event, Kind

GUARDS: tuple[Kind, ...] = ("recompilation", "limit")

# What only Toto's own cache has, in a guard, in the line of source behind it, or in the frame where a graph broke.
_CACHE = r"_current_idx|_layer_cache_map|self\._(?:keys|values)\b|\bself\.max_seq_len\b"
_CACHE_SOURCE = rf"{_CACHE}|\bKVCache\b|\bkv_cache\.(?:seq_len|current_len|append|reset)\b"


@dataclass(frozen=True)
class Cause:
    """One row of the table.

    Attributes:
        id: a short name, the same in JSON.
        meaning: the cause in plain words.
        cure: what to do, in words.
        kinds: the events it explains.
        pattern: of the guard or reason.
        context: of what torch says besides (source, innermost frame).
        function: of the function's name. What is given must all be found.
        patches: those that remove it.
        profile: the smallest profile that holds these.
        setting: a setting that bears on it.
        expected: it is there on purpose, or happens once per process, so that a warm-up takes it.
    """

    id: str
    meaning: str
    cure: str
    kinds: tuple[Kind, ...]
    pattern: str = ""
    context: str = ""
    function: str = ""
    patches: tuple[str, ...] = ()
    profile: str | None = None
    setting: str | None = None
    expected: bool = False

    def explains(self, event: Event) -> bool:
        """Whether this is the cause of an event."""
        asked = (
            (self.pattern, event.text),
            (self.context, f"{event.text}\n{event.context}"),
            (self.function, event.function or ""),
        )
        return event.kind in self.kinds and all(re.search(pattern, text) for pattern, text in asked if pattern)

    @property
    def command(self) -> str | None:
        """The command line that applies the cure."""
        return f"toto-patch apply --profile {self.profile}" if self.profile else None


_INDEX = ("kv-cache-tensor-index",)
_BOTH = ("kv-cache-tensor-index", "positional-embedding-break")

CAUSES: tuple[Cause, ...] = (
    # -- guards: Toto's own ---------------------------------------------------------------------------------------
    Cause(
        "cache-length",
        "The cache keeps its lengths and its layer map where compiled code reads them as Python numbers. A graph then "
        "holds for one value only, and every layer, step or horizon with another one is compiled anew.",
        "Patch the cache: its position becomes a tensor, and it is written outside compiled code.",
        GUARDS,
        context=_CACHE,
        patches=_INDEX,
        profile="graph-breaks",
    ),
    Cause(
        "attention-over-cache",
        "The attention over the cache is compiled, and the cached keys are one step longer at every decoding step.",
        "Patch the attention: what depends on the length of the cache runs outside compiled code.",
        GUARDS,
        function=r"\b(?:run_attention|positional_embedding)|in_(?:run_attention|positional_embedding)_at",
        pattern=r"size mismatch|stride mismatch|\.size\(\)|\bseq_len\b",
        patches=("positional-embedding-break",),
        profile="graph-breaks",
    ),
    Cause(
        "layer-number",
        "A layer's number is an argument of compiled code. torch compiles it in for the first layer and makes it a "
        "variable when it meets the second: once per process.",
        "Nothing after a warm-up. The profile full-graph compiles the decoder without it.",
        GUARDS,
        r"\blayer_idx\b",
        expected=True,
    ),
    # -- guards: tensors ------------------------------------------------------------------------------------------
    Cause(
        "none-or-tensor",
        "An argument is None in some calls and a tensor in others, as Toto's mask is: time-wise layers have none, "
        "space-wise ones do. Each form is compiled once.",
        "Nothing after a warm-up that has seen both forms.",
        GUARDS,
        r" is (?:not )?None\b|<class 'NoneType'>|NoneType",
        expected=True,
    ),
    Cause(
        "shape",
        "A tensor came with another size: another context length, number of variates or samples per batch, a last "
        "batch that is smaller, or the first decoding step after the prompt. torch compiles once more with that size "
        "as a variable.",
        "Warm up with the sizes that production has, over a horizon of more than one patch; keep context length and "
        "samples_per_batch, with num_samples a multiple of it. The profile full-graph decodes at fixed sizes.",
        GUARDS,
        r"(?:size|stride) mismatch at index|\.size\(\)|\.stride\(\)|\bEq\(|\bNe\(|storage_offset|"
        r"dynamic (?:dim|shape)|Mod\(|\d+ <= \w+",
    ),
    Cause(
        "rank",
        "A tensor came with another number of dimensions.",
        "Give every forecast its context with the same dimensions: (variates, time).",
        GUARDS,
        r"rank mismatch",
    ),
    Cause(
        "dtype",
        "A tensor came in another precision than the one that was compiled for.",
        "Convert the series to one dtype, the model's, before every forecast.",
        GUARDS,
        r"dtype mismatch",
    ),
    Cause(
        "device",
        "A tensor came from another device than the one that was compiled for.",
        "Keep the model and every series on one device; one forecaster per device.",
        GUARDS,
        r"device (?:index )?mismatch|CUDA, BackendSelect.*actual .*\(CPU|\(CPU, BackendSelect.*actual .*CUDA",
    ),
    Cause(
        "grad-of-tensor",
        "A tensor was made under another gradient mode: inside torch.inference_mode in one call and outside in "
        "another, or with requires_grad in only one of them.",
        "Make the inputs and call the forecaster under the same mode every time.",
        GUARDS,
        r"requires_grad mismatch|dispatch key set mismatch",
    ),
    Cause(
        "aliasing",
        "Two arguments were the same tensor, or shared memory, in one call only.",
        "Pass separate tensors every time: .clone() where one is used twice.",
        GUARDS,
        r"[Dd]uplicate tensors? found|check_overlapping|check_no_aliasing",
    ),
    # -- guards: the surroundings -----------------------------------------------------------------------------------
    Cause(
        "global-state",
        "A global switch of torch changed between calls: gradient mode, autocast, deterministic algorithms, number of "
        "threads, default dtype or the like (torch names which).",
        "Call the forecaster under the same switches every time, in the warm-up too: for example always inside "
        "torch.inference_mode(), and set threads and determinism once at the start.",
        GUARDS,
        r"GLOBAL_STATE|___check_global_state|torch_function_mode|CURRENT_DEVICE|grad_mode|deterministic",
    ),
    Cause(
        "backend",
        "The same function was compiled with two backends or two sets of options.",
        "Compile the model once and keep the compiled object.",
        GUARDS,
        r"BACKEND_MATCH|___check_current_backend|___compare_backend",
    ),
    Cause(
        "object",
        "Compiled code holds for one object (a module, a function, a cache), and another one came, or the first was "
        "freed.",
        "Keep one forecaster for the life of the process; make no model, cache or function per call.",
        GUARDS,
        r"___check_obj_id|got deallocated|\bid\(|WEAKREF|___is_grad|___check_module",
    ),
    Cause(
        "type",
        "An argument came as another Python type.",
        "Pass the same types every time; above all always tensors, or always numbers.",
        GUARDS,
        r"___check_type_id|expected type of|type\(",
    ),
    Cause(
        "container",
        "A list, tuple or dict came with another length or other keys; compiled code holds for one form of it.",
        "Keep its length and keys, or pass one tensor.",
        GUARDS,
        r"\blen\(|___dict_contains|___dict_version|dict length|\bkeys\b|hasattr\(|___key_to_id|'[^']*' (?:not )?in ",
    ),
    Cause(
        "global-value",
        "A global variable that compiled code reads has another value.",
        "Set it before the first forecast and leave it.",
        GUARDS,
        r"^G\[",
    ),
    Cause(
        "value",
        "A Python number, flag or string that compiled code has as a constant came with another value. torch makes an "
        "int a variable at its second value; 0 and 1, flags, strings, ints held by a module, and everything under "
        "dynamic=False stay constants.",
        "Keep the value, or hand it over as a tensor.",
        GUARDS,
        r"^\S.* (?:==|is|!=) (?:-?[\d.]+(?:e[-+]?\d+)?|True|False|'.*'|\".*\")$|^not \w",
    ),
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
        context=_CACHE_SOURCE,
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
        context=_CACHE_SOURCE,
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

UNKNOWN = Cause(
    "unknown",
    "Not in this program's table of causes.",
    "The guard or reason is torch's own; TORCH_TRACE with tlparse shows the code around it.",
    (*GUARDS, "skip", "sizes", "break"),
)


def cause_of(event: Event) -> Cause:
    """The first cause in the table that explains an event, or ``UNKNOWN``."""
    if not event.text and event.kind in GUARDS:
        return UNKNOWN
    return next((cause for cause in CAUSES if cause.explains(event)), UNKNOWN)
