"""Why functions are compiled anew, and what cures it; the first match wins."""

from __future__ import annotations

from toto_patcher.evidence.cause import CACHE, GUARDS, Cause

GUARD_CAUSES: tuple[Cause, ...] = (
    # -- guards: Toto's own ---------------------------------------------------------------------------------------
    Cause(
        "cache-length",
        "The cache keeps its lengths and its layer map where compiled code reads them as Python numbers. A graph then "
        "holds for one value only, and every layer, step or horizon with another one is compiled anew.",
        "Patch the cache: its position becomes a tensor, and it is written outside compiled code.",
        GUARDS,
        context=CACHE,
        patches=("kv-cache-tensor-index",),
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
)
