"""The planted faults: what could go wrong in the code that the two patches write or change.

A fault that cannot change any output of the model or of the public methods does not belong here.
"""

from __future__ import annotations

from tests.equivalence.mutations import Edit, Fault

HANDS_OVER = (
    'self.attention_axis == AttentionAxis.TIME and hasattr(kv_cache, "position") and getattr(self, "_hands_over", True)'
)
CACHE, ATTENTION = "KVCache", "BaseMultiheadAttention"
POINT = "seq_pos = (steps.to(exact) + position).to(q.dtype)"
ROTATE = "q, k = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos)"
READ = "k, v = kv_cache[layer_idx]"
APPEND = "kv_cache.append(layer_idx, (k, v))"
OFFSET = "seq_pos_offset = 0 if self.rotary_emb is None else kv_cache.seq_len(layer_idx)"
QKV = "q, k, v = self.get_qkv(self.rearrange_inputs(inputs))"
ATTEND = "self.run_attention(attention_mask, q, k, v, seq_pos_offset, dropout, seq_len, variates)"
# Code that was there before the patch is described, not quoted: a single capital letter stands for anything.
LAYER = "A = self._layer_cache_map[B]"
TAKE = "A = self._current_idx[B]"
LENGTH = "self._current_idx[A] = B"
MAP = "self._layer_cache_map[A] = B"
GROWN = "length = self.seq_len(layer_idx)"
NOTED = "self._position_value[0]"
RESET = "self._current_idx[:] = [0] * len(self._current_idx)"
TEACHER, KEYS, METHODS, LAYERS = "teacher-forced", "cached-keys", "cache-methods", "attention-layer"


def _cache(name: str, method: str, old: str, new: str, caught_by: str = METHODS) -> Fault:
    return Fault(name, CACHE, method, (Edit(old, new),), caught_by)


def _attention(name: str, method: str, old: str, new: str, caught_by: str = TEACHER) -> Fault:
    return Fault(name, ATTENTION, method, (Edit(old, new),), caught_by)


_READING = (
    _cache("read-one-step-less", "__getitem__", TAKE, "A = max(self._current_idx[B] - 1, 0)"),
    _cache("read-one-step-more", "__getitem__", TAKE, "A = self._current_idx[B] + 1"),
    _cache("read-whole-buffer", "__getitem__", TAKE, "A = self.max_seq_len"),
    _cache("read-length-of-first-layer", "__getitem__", TAKE, "A = self._current_idx[0]"),
    _cache("read-keys-as-values", "__getitem__", "self._values[A, B, C, :D, E]", "self._keys[A, B, C, :D, E]"),
    _cache(
        "read-keys-as-values-sequence-first",
        "__getitem__",
        "self._values[A, B, :C, D, E]",
        "self._keys[A, B, :C, D, E]",
    ),
    _cache("read-wrong-axis-sequence-first", "__getitem__", "self._keys[A, B, :C, D, E]", "self._keys[A, B, D, :C, E]"),
    _cache("read-without-first-step", "__getitem__", "self._keys[A, B, C, :D, E]", "self._keys[A, B, C, 1:D, E]"),
    _cache("read-last-layer", "__getitem__", LAYER, "A = -1"),
    _cache("read-unmapped-layer", "__getitem__", LAYER, "A = B"),
    _cache("current-length-of-first-layer", "current_len", "self._current_idx[A]", "self._current_idx[0]"),
    _cache("current-length-one-more", "current_len", "self._current_idx[A]", "self._current_idx[A] + 1"),
    _cache("current-length-of-longest-layer", "current_len", "self._current_idx[A]", "max(self._current_idx)"),
    _cache("length-of-unmapped-layer", "seq_len", LAYER, "A = B"),
    _cache("length-of-first-layer", "seq_len", LAYER, "A = 0"),
)

_WRITING = (
    _cache("write-unmapped-layer", "append", LAYER, "A = B"),
    _cache("write-first-layer", "append", LAYER, "A = 0"),
    _cache("write-one-step-late", "append", TAKE, "A = self._current_idx[B] + 1"),
    _cache("write-over-last-step", "append", TAKE, "A = max(self._current_idx[B] - 1, 0)"),
    _cache("length-not-advanced", "append", LENGTH, ""),
    _cache("length-advanced-twice", "append", LENGTH, "self._current_idx[A] = 2 * B - self._current_idx[A]"),
    _cache("length-advanced-by-one", "append", LENGTH, "self._current_idx[A] = self._current_idx[A] + 1"),
    _cache("only-first-length-advanced", "append", LENGTH, "self._current_idx[0] = B"),
    _cache("all-lengths-advanced", "append", LENGTH, "self._current_idx = [B] * len(self._current_idx)"),
    _cache("write-values-as-keys", "append", "self._keys[A, B, C, D:E, F] = G", "self._keys[A, B, C, D:E, F] = kv[1]"),
    _cache(
        "write-values-as-keys-sequence-first",
        "append",
        "self._keys[A, B, C:D, E, F] = G",
        "self._keys[A, B, C:D, E, F] = kv[1]",
    ),
    _cache("values-not-written", "append", "self._values[A, B, C, D:E, F] = G", "pass"),
    _cache("write-rounded", "append", "A, B = kv", "A, B = kv[0].to(torch.bfloat16), kv[1]"),
    _cache("length-from-heads-axis", "append", "A = B + C.shape[2]", "A = B + C.shape[1]"),
    _cache("overflow-by-one-let-in", "append", "A <= self.max_seq_len", "A <= self.max_seq_len + 1"),
    _cache("last-place-refused", "append", "A <= self.max_seq_len", "A < self.max_seq_len"),
    _cache("overflow-not-refused", "append", "A <= self.max_seq_len", "True"),
    _cache("reset-forgets-lengths", "reset", RESET, ""),
    _cache("reset-first-length-only", "reset", RESET, "self._current_idx[0] = 0"),
    _cache("reset-leaves-one-step", "reset", RESET, "self._current_idx = [1] * len(self._current_idx)"),
    _cache("reset-loses-a-layer", "reset", RESET, "self._current_idx = [0] * (len(self._current_idx) - 1)"),
    _cache("reset-replaces-the-list", "reset", RESET, "self._current_idx = [0] * len(self._current_idx)"),
    _cache("keys-and-values-share-memory", "__post_init__", "self._values = A", "self._values = self._keys"),
    _cache("layer-map-reversed", "__post_init__", MAP, "self._layer_cache_map[A] = len(self._current_idx) - 1 - B"),
    _cache("layer-map-all-first", "__post_init__", MAP, "self._layer_cache_map[A] = 0"),
    _cache("layer-map-wrong-for-one-layer", "__post_init__", MAP, "self._layer_cache_map[A] = 0 if A == 2 else B"),
    _cache(
        "layer-map-keeps-layer-number",
        "__post_init__",
        MAP,
        "self._layer_cache_map[A] = min(A, len(self._current_idx) - 1)",
    ),
    _cache("lengths-shared-by-layers", "__post_init__", "self._current_idx = A", "self._current_idx = [0]"),
)

_POSITION = (
    _cache("position-never-filled", "position", "self._position.fill_(length)", "", KEYS),
    _cache("position-filled-but-not-noted", "position", f"{NOTED} = length", "", KEYS),
    _cache(
        "position-noted-but-one-more",
        "position",
        "self._position.fill_(length)",
        "self._position.fill_(length + 1)",
        KEYS,
    ),
    _cache("position-one-less", "position", "self._position.fill_(length)", "self._position.fill_(length - 1)", KEYS),
    _cache("position-of-first-layer", "position", GROWN, "length = self._current_idx[0]", TEACHER),
    _cache("position-of-longest-layer", "position", GROWN, "length = max(self._current_idx)", TEACHER),
    _cache(
        "position-of-unmapped-layer",
        "position",
        GROWN,
        "length = self._current_idx[layer_idx % len(self._current_idx)]",
        LAYERS,
    ),
    _cache("position-only-grows", "position", f"{NOTED} != length", f"{NOTED} < length", KEYS),
    _cache("position-adds-up", "position", "self._position.fill_(length)", "self._position.add_(length)", KEYS),
    _cache("position-in-eight-bits", "_allocate_position", "torch.int", "torch.uint8", KEYS),
    _cache(
        "position-starts-at-one",
        "_allocate_position",
        "torch.zeros((), dtype=torch.int, device=self._keys.device)",
        "torch.ones((), dtype=torch.int, device=self._keys.device)",
        KEYS,
    ),
)

_PROJECTION = (
    _attention(
        "hands-over-space-layers-too",
        "forward",
        HANDS_OVER,
        "kv_cache is not None",
        TEACHER,
    ),
    _attention(
        "hands-over-without-mask",
        "forward",
        "self._forward_with_cache(layer_idx, inputs, attention_mask, kv_cache)",
        "self._forward_with_cache(layer_idx, inputs, None, kv_cache)",
        LAYERS,
    ),
    _attention("position-of-layer-zero", "_forward_with_cache", "kv_cache.position(layer_idx)", "kv_cache.position(0)"),
    _attention(
        "attends-as-layer-zero",
        "_forward_with_cache",
        "self._attend_over_cache(layer_idx, inputs.shape, q, k, v, attention_mask, kv_cache)",
        "self._attend_over_cache(0, inputs.shape, q, k, v, attention_mask, kv_cache)",
    ),
    _attention(
        "keys-and-values-passed-swapped",
        "_forward_with_cache",
        "self._attend_over_cache(layer_idx, inputs.shape, q, k, v, attention_mask, kv_cache)",
        "self._attend_over_cache(layer_idx, inputs.shape, q, v, k, attention_mask, kv_cache)",
    ),
    _attention("no-rotation", "_project_and_rotate", ROTATE, "pass", KEYS),
    _attention("position-ignored", "_project_and_rotate", POINT, "seq_pos = steps", KEYS),
    _attention(
        "position-subtracted", "_project_and_rotate", POINT, "seq_pos = (steps.to(exact) - position).to(q.dtype)", KEYS
    ),
    _attention(
        "position-counted-twice",
        "_project_and_rotate",
        POINT,
        "seq_pos = (steps.to(exact) + 2 * position).to(q.dtype)",
        KEYS,
    ),
    _attention(
        "position-rounded-to-bfloat16",
        "_project_and_rotate",
        POINT,
        "seq_pos = (steps.to(exact) + position).to(torch.bfloat16).to(q.dtype)",
        KEYS,
    ),
    _attention(
        "position-passed-as-offset-too",
        "_project_and_rotate",
        ROTATE,
        "q, k = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos, seq_pos_offset=1)",
        KEYS,
    ),
    _attention(
        "steps-along-the-wrong-axis", "_project_and_rotate", "q.shape[self.rotary_emb.default_seq_dim]", "q.shape[-1]"
    ),
    _attention(
        "keys-not-rotated",
        "_project_and_rotate",
        ROTATE,
        "q, _ = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos)",
        KEYS,
    ),
    _attention(
        "queries-not-rotated",
        "_project_and_rotate",
        ROTATE,
        "_, k = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos)",
    ),
    _attention(
        "rotation-swaps-queries-and-keys",
        "_project_and_rotate",
        ROTATE,
        "k, q = self.rotary_emb.rotate_queries_and_keys(q, k, seq_pos=seq_pos)",
        KEYS,
    ),
    _attention(
        "values-rotated-too",
        "_project_and_rotate",
        ROTATE,
        f"{ROTATE}\n_, v = self.rotary_emb.rotate_queries_and_keys(q, v, seq_pos=seq_pos)",
        KEYS,
    ),
    _attention(
        "projection-swaps-keys-and-values",
        "_project_and_rotate",
        QKV,
        "q, v, k = self.get_qkv(self.rearrange_inputs(inputs))",
        KEYS,
    ),
    _attention(
        "projection-swaps-queries-and-keys",
        "_project_and_rotate",
        QKV,
        "k, q, v = self.get_qkv(self.rearrange_inputs(inputs))",
        KEYS,
    ),
)

_ATTENDING = (
    Fault("read-before-append", ATTENTION, "_attend_over_cache", (Edit(APPEND, READ), Edit(READ, APPEND)), TEACHER),
    _attention("not-appended", "_attend_over_cache", APPEND, "", KEYS),
    _attention("appended-twice", "_attend_over_cache", APPEND, f"{APPEND}\n{APPEND}"),
    _attention("appended-swapped", "_attend_over_cache", APPEND, "kv_cache.append(layer_idx, (v, k))", KEYS),
    _attention("appended-keys-as-values", "_attend_over_cache", APPEND, "kv_cache.append(layer_idx, (k, k))", KEYS),
    _attention("appended-to-layer-zero", "_attend_over_cache", APPEND, "kv_cache.append(0, (k, v))"),
    _attention("offset-zero", "_attend_over_cache", OFFSET, "seq_pos_offset = 0"),
    _attention("offset-one-more", "_attend_over_cache", OFFSET, "seq_pos_offset = kv_cache.seq_len(layer_idx) + 1"),
    _attention(
        "offset-after-append", "_attend_over_cache", OFFSET, "seq_pos_offset = kv_cache.seq_len(layer_idx) + shape[2]"
    ),
    _attention("offset-of-layer-zero", "_attend_over_cache", OFFSET, "seq_pos_offset = kv_cache.seq_len(0)"),
    _attention(
        "offset-without-rotary-embedding",
        "_attend_over_cache",
        OFFSET,
        "seq_pos_offset = kv_cache.seq_len(layer_idx)",
        LAYERS,
    ),
    _attention(
        "gradients-read-what-is-overwritten",
        "_attend_over_cache",
        "k, v = k.contiguous(), v.contiguous()",
        "pass",
        METHODS,
    ),
    _attention("read-of-layer-zero", "_attend_over_cache", READ, "k, v = kv_cache[0]"),
    _attention("cache-not-read", "_attend_over_cache", READ, "pass"),
    _attention("read-swapped", "_attend_over_cache", READ, "v, k = kv_cache[layer_idx]"),
    _attention(
        "cache-dtype-kept",
        "_attend_over_cache",
        "k, v = k.to(q.dtype), v.to(q.dtype)",
        "pass",
        LAYERS,
    ),
    _attention(
        "dropout-outside-training", "_attend_over_cache", "self.dropout if self.training else 0.0", "self.dropout"
    ),
    _attention("no-dropout-in-training", "_attend_over_cache", "self.dropout if self.training else 0.0", "0.0", LAYERS),
    _attention("mask-dropped", "_attend_over_cache", ATTEND, ATTEND.replace("attention_mask", "None"), LAYERS),
    _attention(
        "mask-of-the-next-row", "_attend_over_cache", ATTEND, ATTEND.replace("seq_pos_offset", "seq_pos_offset + 1")
    ),
    _attention("mask-of-the-first-rows", "_attend_over_cache", ATTEND, ATTEND.replace("seq_pos_offset", "0")),
    _attention(
        "mask-inverted",
        "_attend_over_cache",
        ATTEND,
        ATTEND.replace("attention_mask", "None if attention_mask is None else 1 - attention_mask.float()"),
        LAYERS,
    ),
    _attention(
        "output-batch-and-variates-swapped",
        "_attend_over_cache",
        "self.rearrange_output(output, batch, variates, seq_len)",
        "self.rearrange_output(output, variates, batch, seq_len)",
    ),
    _attention(
        "output-not-projected",
        "_attend_over_cache",
        "self.wO(self.rearrange_output(output, batch, variates, seq_len))",
        "self.rearrange_output(output, batch, variates, seq_len)",
    ),
    _attention(
        "output-scaled",
        "_attend_over_cache",
        "self.wO(self.rearrange_output(output, batch, variates, seq_len))",
        "self.wO(self.rearrange_output(output, batch, variates, seq_len)) * 1.0001",
    ),
)


def _compiled(name: str, class_name: str, method: str, old: str, new: str, caught_by: str) -> Fault:
    return Fault(name, class_name, method, (Edit(old, new),), caught_by, compiled=True)


_COMPILED = (
    _compiled(
        "never-hands-over",
        ATTENTION,
        "forward",
        HANDS_OVER,
        "False",
        "recompilations",
    ),
    _compiled(
        "attends-inside-the-graph", ATTENTION, "_attend_over_cache", "@torch.compiler.disable", "", "recompilations"
    ),
    _compiled(
        "position-off-by-one-when-compiled",
        ATTENTION,
        "_project_and_rotate",
        POINT,
        "seq_pos = (steps.to(exact) + position + int(torch.compiler.is_compiling())).to(q.dtype)",
        "compiled",
    ),
    # Right in every number, but each length is a constant of a graph of its own until the compiler gives up.
    _compiled(
        "position-is-a-constant-of-the-graph",
        ATTENTION,
        "_project_and_rotate",
        POINT,
        "seq_pos = (steps.to(exact) + len([0] * int(position))).to(q.dtype)",
        "limit-hits",
    ),
)

FAULTS: tuple[Fault, ...] = (*_READING, *_WRITING, *_POSITION, *_PROJECTION, *_ATTENDING, *_COMPILED)
