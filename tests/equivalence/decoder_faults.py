"""The planted faults in the decoder: what could go wrong in the code that the patch static-decoder adds.

A fault that cannot change any forecast does not belong here.
"""

from __future__ import annotations

from tests.equivalence.mutations import Edit, Fault

POINT, DECODED, SEEDED, FAST = "point-forecasts", "decoded", "same-seed", "fast-sampler"
COMPILED, RECOMPILED = "compiled", "recompilations"


def _in(file: str, where: str, name: str, old: str, new: str, caught_by: str = POINT, compiled: bool = False) -> Fault:
    """A fault in ``Class.method`` or ``function`` of a file."""
    owner, _, method = where.rpartition(".")
    return Fault(name, owner, method, (Edit(old, new),), caught_by, compiled, f"{file}.py")


UNIFORM = "torch.rand((3, *shape), device=mixture.df.device, dtype=mixture.df.dtype)"
RADIUS = "(df * torch.expm1(-2.0 / df * torch.log1p(-uniform[1]))).sqrt()"
DRAWN = "loc + scale * radius * torch.cos(2.0 * math.pi * uniform[2])"
FUTURE = "self._future.values[: given.shape[0], :, -self._shape.known :].copy_(given)"
SAMPLES = "bucket(-(-request.samples // rounds))"
STEPS = "rotary.of_steps(embedding, tokens, self.capacity, compute)"
CONTEXT = "rotary.of_context(embedding, tokens, compute)"
CALL = "project(A, B, C, D)"
NEAR = "torch.arange(near.shape[-1], device=near.device) > slot"
FAR = "torch.arange(tokens, device=far.device) >= length"
KEPT_KEY = "own_keys.index_copy_(0, slot, rotated(key, row.k_cos, row.k_sin).unsqueeze(0))"
KEPT_VALUE = "own_values.index_copy_(0, slot, value.unsqueeze(0))"
OWN_MASK = "self._mask.unflatten(0, (self._shape.samples, -1)).copy_(mask)"
MERGED = "running.squares + squares_added + distance**2 * running.points * added / count"
SPREAD = "torch.minimum(torch.maximum(scale, low), high)"

_DECODER = (
    _in("decoder", "bucket", "bucket-one-too-small", "size >= count", "size >= count - 1"),
    _in("decoder", "StaticDecoder._session", "capacity-not-grown", "session.capacity < needed", "False"),
    _in("decoder", "StaticDecoder._session", "capacity-one-short", "request.patches - 1", "request.patches - 2"),
    _in("decoder", "StaticDecoder._session", "real-groups-cut", "request.groups.is_floating_point()", "False"),
    _in("decoder", "StaticDecoder._session", "labels-unknown", "A is not None", "False"),
    _in("decoder", "StaticDecoder._session", "future-unknown", "request.future.shape[1]", "0"),
    _in(
        "decoder", "StaticDecoder._samples_at_once", "seed-exact-draws-all-at-once",
        "return request.samples_per_batch", "return request.samples", SEEDED,
    ),
    _in(
        "decoder", "StaticDecoder._session", "seed-exact-is-forgotten", "request.exact and request.samples is not None",
        "False", SEEDED,
    ),
    _in("decoder", "StaticDecoder._renew_copies", "weights-read-once", "not self._unchanged(self._folded)", "False"),
    _in("decoder", "StaticDecoder._decoded", "never-healthy",
        "Answer(values, whole, finite)", "Answer(values, not whole, finite)", DECODED),
    _in(
        "weights", "Head.fold", "head-folded-once", "inner, inner_bias = self._inner",
        "if self.folded is not None:\n    return\ninner, inner_bias = self._inner",
    ),
    _in("weights", "Head.fold", "bias-of-the-head-dropped", "outer @ part_bias.double() + outer_bias", "outer_bias"),
    _in("calls", "Call.request", "groups-dropped", "_batched(inputs.id_mask)", "_batched(inputs.id_mask) * 0"),
    _in(
        "calls", "Call.request", "padding-mask-dropped", "_batched(inputs.padding_mask)",
        "_batched(inputs.padding_mask) | True",
    ),
    _in("calls", "Call.request", "all-labels-are-targets", "int(A)", "0"),
    _in(
        "decoding", "Decoding.forecast", "the-end-of-the-last-patch-is-given",
        "answer.values[:, :, :call.horizon]", "answer.values[:, :, -call.horizon:]",
    ),
    _in(
        "decoding", "Decoding._decode_by", "forecasts-left-to-upstream",
        "return place.decoder.forecast(request, backbone)", "raise UnsupportedError('no reason')", DECODED,
    ),
)  # fmt: skip

_SESSION = (
    _in("session", "Session.load", "padded-at-the-right", "-points % patch", "0"),
    _in("session", "Session.load", "padding-ignored", "self._valid[here].copy_(request.valid)",
        "self._valid[here].fill_(True)"),
    _in(
        "session", "Session.load", "no-group-for-the-padding", "self._ids[..., :start].copy_(request.groups[..., :1])",
        "self._ids[..., :start].fill_(-1)", DECODED,
    ),
    _in("session", "Session.load", "future-shifted-by-a-patch",
        FUTURE, FUTURE.replace("(given)", "(given.roll(1, 0))")),
    Fault(
        "future-of-the-first-kept", "Session", "load",
        (Edit("self._future.values.zero_()", "pass"), Edit(FUTURE, f"if not self._future.values.any():\n    {FUTURE}")),
        POINT, False, "session.py",
    ),
    _in("session", "Session.load", "label-not-normalised",
        "torch.nn.functional.normalize(label, p=2, dim=-1)", "label"),
    _in("session", "Session.load", "tables-of-the-first-length", "points != self._points", "self._points < 0"),
    _in(
        "session", "Session.__init__", "known-variates-are-the-first", "A >= variates - shape.known",
        "A < shape.known",
    ),
    _in("session", "Session._set_points", "last-token-one-early", "tokens - 1", "max(tokens - 2, 0)"),
    _in(
        "session", "Session._set_points", "last-token-of-the-bucket", "tokens - 1",
        "self._shape.context + self._shape.labels - 1",
    ),
    _in("session", "Session._set_points", "length-one-less",
        "self._length.fill_(tokens)", "self._length.fill_(tokens - 1)"),
    _in("session", "Session._set_points", "length-one-more",
        "self._length.fill_(tokens)", "self._length.fill_(tokens + 1)"),
    _in(
        "session", "Session._set_points", "length-of-the-bucket", "self._length.fill_(tokens)",
        "self._length.fill_(self._shape.context + self._shape.labels)",
    ),
    _in("session", "Session._set_points", "length-without-label", "A + self._shape.labels", "A"),
    _in("session", "Session._set_points", "longer-context-left-over", "buffer.zero_()", "pass"),
    _in("session", "Session._set_points", "step-positions-one-less", STEPS, STEPS.replace("tokens", "tokens - 1")),
    _in("session", "Session._set_points", "step-positions-one-more", STEPS, STEPS.replace("tokens", "tokens + 1")),
    _in(
        "session", "Session._set_points", "positions-of-the-bucket", CONTEXT,
        CONTEXT.replace("tokens", "self._shape.context + self._shape.labels"),
    ),
    _in("session", "Session.run", "result-not-copied", "drawn.clone()", "drawn"),
    _in("session", "Session.run", "second-round-not-drawn", 'self._programs.run("begin", self._begin)', "pass", FAST),
    _in(
        "session", "Session.run", "last-round-too-long", "min(self._shape.samples, wanted - start)",
        "self._shape.samples", FAST,
    ),
    _in("session", "Session._start", "groups-dropped-after-the-context", OWN_MASK, "self._mask.fill_(True)"),
    _in("session", "Session._begin", "slot-left-over", "self._slot.zero_()", "pass"),
    _in("session", "Session._begin", "state-left-over", "self._keep(values, running)",
        "self._state or self._keep(values, running)"),
    _in(
        "session", "Session._step", "patch-written-one-early",
        "self._out.index_copy_(0, self._slot + 1, values.unsqueeze(0))",
        "self._out.index_copy_(0, self._slot, values.unsqueeze(0))",
    ),
    _in("session", "Session._step", "slot-not-advanced", "self._slot.copy_(A)", "pass"),
    _in("session", "Session._keep", "statistics-not-kept", "buffer.copy_(new)", "pass"),
    _in("session", "Session._keep", "patch-not-kept", "self._state[0].copy_(values)", "pass"),
    _in(
        "session", "Session._keep", "samples-mixed-up-between-patches", "self._state[0].copy_(values)",
        "self._state[0].copy_(values if self._shape.exact else values.roll(1, 0))", FAST,
    ),
    _in(
        "session", "Session._keep", "samples-of-two-series-swapped", "self._state[0].copy_(values)",
        "self._state[0].copy_(values if self._shape.exact or self._shape.mean else values.flip(1))", FAST,
    ),
)  # fmt: skip

_STEPS = (
    _in("steps", "embed_context", "label-behind-the-context", "(label.to(tokens.dtype), tokens)",
        "(tokens, label.to(tokens.dtype))"),
    _in("steps", "embed_step", "patch-not-centred", "patch - mean.unsqueeze(-1)", "patch"),
    _in("steps", "next_patch", "loc-without-scale", "values * scale.unsqueeze(-1) + loc.unsqueeze(-1)",
        "values + loc.unsqueeze(-1)"),
    _in("steps", "next_patch", "mean-in-place-of-samples", "mixture.draw(parameters, draws)",
        "mixture.mean(parameters).expand(draws, *raw.shape[:-1], -1)", FAST),
    _in("steps", "next_patch", "extremes-kept", "mixture.replace_extreme(A)", "A", FAST),
    _in("exact", "draw", "extremes-kept-seed-exact", "replace_extreme(A)", "A", SEEDED),
    _in("exact", "draw", "seed-exact-takes-the-first-patch", "A[:, :, -patch:]", "A[:, :, :patch]", SEEDED),
    _in("exact", "_copied", "seed-exact-copies-in-another-order", "values.repeat(A, *B)",
        "values.repeat_interleave(A, 0)", SEEDED),
    _in("steps", "groups", "every-variate-sees-every-other", "A == B", "(A == B) | True"),
    _in("steps", "encode", "statistics-of-the-next-patch", "last - (0 if label is None else 1)", "last.clone()"),
    _in("steps", "encode", "norms-swapped", "layer.norm1", "layer.norm2"),
    _in("steps", "_over_variates", "groups-dropped-in-the-context", "A.unsqueeze(-1) == A.unsqueeze(-2)",
        "(A.unsqueeze(-1) == A.unsqueeze(-2)) | True"),
    _in("steps", "_over_variates", "variates-and-tokens-swapped", "qkv.unflatten(0, (batch, variates, tokens))",
        "qkv.unflatten(0, (batch, tokens, variates)).transpose(1, 2)"),
    _in("steps", "step", "future-one-patch-late", "slot + 1", "slot"),
    _in("steps", "step", "mean-after-the-first-patch", "1 if sample else None", "None", FAST),
    _in("steps", "step", "scale-of-the-context", "parts.next_patch(raw, mean, scale, A, B, C)",
        "parts.next_patch(raw, context.loc.expand_as(mean), context.scale.expand_as(scale), A, B, C)"),
)  # fmt: skip

_LAYERS = (
    _in("layers", "project", "heads-outermost", "A.transpose(-1, -2).contiguous()",
        "A.contiguous().view(*A.shape[:-2], heads_count, -1)"),
    _in("layers", "gated", "gate-and-inner-swapped", "F.silu(gate) * inner", "F.silu(inner) * gate"),
    _in("layers", "attend_context", "not-causal", "F.scaled_dot_product_attention(query, key, value, is_causal=True)",
        "F.scaled_dot_product_attention(query, key, value)"),
    _in("layers", "attend_context", "keys-and-values-swapped",
        "return attended.transpose(1, 2).flatten(2).flatten(0, 1), A, B",
        "return attended.transpose(1, 2).flatten(2).flatten(0, 1), B, A"),
    _in("layers", "attend_context", "keys-not-rotated", "rotated(key, rotary.k_cos, rotary.k_sin)", "key"),
    _in("layers", "attend_variates", "groups-dropped-among-few", "scores.masked_fill(~mask, A)", "scores"),
    _in("layers", "attend_variates", "groups-dropped-among-many",
        "F.scaled_dot_product_attention(query, key, value, attn_mask=mask)",
        "F.scaled_dot_product_attention(query, key, value)"),
    _in("layers", "attend_step", "own-token-not-seen", NEAR, NEAR.replace("> slot", ">= slot")),
    _in("layers", "attend_step", "one-slot-too-many", NEAR, NEAR.replace("> slot", "> slot + 1")),
    _in("layers", "attend_step", "one-token-of-context-too-many", FAR, FAR.replace(">= length", "> length")),
    _in("layers", "attend_step", "values-written-as-keys",
        KEPT_KEY, "own_keys.index_copy_(0, slot, value.unsqueeze(0))"),
    _in("layers", "attend_step", "values-not-written", KEPT_VALUE, "pass"),
    _in("layers", "attend_step", "context-of-another-series", "query.permute(1, 2, 0, 3)",
        "query.roll(1, 1).permute(1, 2, 0, 3)"),
    _in("layers", "attend_step", "past-of-another-sample", "recent.sum(0)", "recent.sum(0).roll(1, 0)", SEEDED),
    _in("layers", "attend_step", "table-row-of-the-first-step", "table.index_select(0, slot)",
        "table.index_select(0, slot * 0)"),
    _in("layers", "attend_step", "keys-not-scaled", "width**-0.5", "(width + 1) ** -0.5"),
    _in("rotary", "_table", "keys-scaled-like-queries", "cos * inverse", "cos * scale"),
    _in("rotary", "rotated", "rotated-the-other-way", "(-second, first)", "(second, -first)"),
)  # fmt: skip

_STATISTICS = (
    _in("statistics", "of_context", "hidden-points-counted", "valid.double()", "valid.double() * 0 + 1"),
    _in("statistics", "of_context", "squares-between-patches-dropped", "squares + between", "squares"),
    _in("statistics", "of_context", "no-points-yet", "total / count.clamp_min(1.0)", "total / count", DECODED),
    _in("statistics", "after_patch", "count-not-advanced", "running.points + added", "running.points + 0"),
    _in("statistics", "after_patch", "mean-merged-by-the-old-count", "distance * added / count",
        "distance * added / running.points"),
    _in("statistics", "after_patch", "squares-merged-without-the-distance", MERGED, "running.squares + squares_added"),
    _in("statistics", "after_patch", "squares-merged-without-the-count",
        MERGED, MERGED.replace("running.points * ", "")),
    _in("statistics", "_scale", "minimum-not-added",
        "squares / denominator + scaling.minimum", "squares / denominator"),
    _in("statistics", "_scale", "bessel-dropped", "(denominator - 1.0).clamp_min(1.0)", "denominator"),
    _in("statistics", "_scale", "no-least-scale", SPREAD, "torch.minimum(scale, high)"),
    _in("statistics", "_scale", "no-greatest-scale", SPREAD, "torch.maximum(scale, low)"),
    _in("statistics", "_bounds", "bound-of-another-power",
        "whole * 10.0**scaling.exponent", "whole * 2.0**scaling.exponent"),
)  # fmt: skip

_MIXTURE = (
    _in("mixture", "of_head", "one-degree-of-freedom-less", "2.0 + A", "1.0 + A", FAST),
    _in("mixture", "of_head", "weights-do-not-sum-to-one", "logits.softmax(-1)", "logits.sigmoid()"),
    _in("mixture", "of_head", "log-of-the-scale", "F.softplus(scale)", "scale.exp()", FAST),
    _in("mixture", "draw", "component-one-off", "edges[..., :-1]", "edges[..., 1:]", FAST),
    _in("mixture", "draw", "components-alike",
        "mixture.weights.cumsum(-1)", "torch.ones_like(mixture.weights).cumsum(-1)",
        FAST),
    _in("mixture", "draw", "radius-of-half-the-power", "-2.0 / df", "-1.0 / df", FAST),
    _in("mixture", "draw", "no-heavy-tails", RADIUS, "(-2.0 * torch.log1p(-uniform[1])).sqrt()", FAST),
    _in("mixture", "draw", "a-tenth-too-wide", DRAWN, DRAWN.replace("scale * ", "1.1 * scale * "), FAST),
    _in("mixture", "draw", "scale-dropped", DRAWN, DRAWN.replace("scale * ", ""), FAST),
    _in("mixture", "draw", "one-side-only", DRAWN, DRAWN.replace("torch.cos(", "torch.cos(0.25 * "), FAST),
    _in("mixture", "draw", "radius-and-angle-share-numbers", "uniform[2]", "uniform[1]", FAST),
    _in("mixture", "draw", "component-and-radius-share-numbers", "uniform[0]", "uniform[1]", FAST),
    _in("mixture", "draw", "two-samples-share-numbers", UNIFORM, f"{UNIFORM}[:, torch.arange(draws) // 2]", FAST),
    _in("mixture", "draw", "samples-share-numbers", UNIFORM, f"{UNIFORM}[:, :, :1].expand(3, *shape)", FAST),
    _in("mixture", "draw", "variates-share-numbers", UNIFORM, f"{UNIFORM}[..., :1, :].expand(3, *shape)", FAST),
    _in("mixture", "draw", "points-share-numbers", UNIFORM, f"{UNIFORM}[..., :1].expand(3, *shape)", FAST),
    _in("mixture", "draw", "neighbours-share-a-radius", UNIFORM,
        f"(lambda u: torch.stack((u[0], u[1][..., torch.arange(shape[-1]) // 2], u[2])))({UNIFORM})", FAST),
    _in("mixture", "draw", "every-patch-draws-the-same-numbers", "shape = A", "shape = A\ntorch.manual_seed(3)", FAST),
    _in("mixture", "replace_extreme", "range-of-extremes-halved", "A.max / 2", "A.max / 8", FAST),
)  # fmt: skip

_COMPILED = (
    _in("decoder", "StaticDecoder._session", "a-session-for-every-horizon", "session.capacity < needed",
        "session.capacity != needed", RECOMPILED, True),
    _in("decoder", "StaticDecoder._session", "a-session-for-every-context", "bucket(-(-length // model.patch))",
        "-(-length // model.patch)", RECOMPILED, True),
    _in("decoder", "StaticDecoder._samples_at_once", "a-session-for-every-count", SAMPLES,
        "-(-request.samples // rounds)", RECOMPILED, True),
    _in("layers", "attend_step", "graph-breaks-in-the-step", "table.index_select(0, slot)",
        "(torch._dynamo.graph_break() or table).index_select(0, slot)", COMPILED, True),
    _in("layers", "attend_step", "length-off-by-one-when-compiled", FAR,
        f"{FAR} - int(torch.compiler.is_compiling())", COMPILED, True),
    _in("mixture", "draw", "sampler-too-wide-when-compiled", DRAWN,
        DRAWN.replace("scale * ", "(1 + 0.1 * torch.compiler.is_compiling()) * scale * "), "compiled-sampler", True),
)  # fmt: skip

DECODER_FAULTS: tuple[Fault, ...] = (
    *_DECODER, *_SESSION, *_STEPS, *_LAYERS, *_STATISTICS, *_MIXTURE, *_COMPILED
)  # fmt: skip
