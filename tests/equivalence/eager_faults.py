"""The planted faults of the profile eager: what could go wrong in what its two patches write or change."""

from __future__ import annotations

from tests.equivalence.mutations import Edit, Fault

BACKBONE, FORECASTER = "TotoBackbone", "TotoForecaster"
TEACHER, SAMPLES = "teacher-forced", "same-seed"
LAST = "hidden[:, :, -1:]"
WHOLE = "kv_cache is None or self.every_patch or not self._heads_are_upstreams()"
FIRST_STEP = 'steps == arguments["scaling_prefix_length"]'
REPEATED = "part.repeat(copies, *[1] * (part.dim() - 1))"
APPENDED = "cache.append(layer_idx, (self._repeated(keys, copies), self._repeated(values, copies)))"
SHAPE = "repeated._batch_shape = torch.Size((copies * part.batch_shape[0], *part.batch_shape[1:]))"
OWN = 'own = {name: arguments[name][:series] for name in ("inputs", "input_padding_mask", "id_mask")}'


def _head(name: str, method: str, old: str, new: str, caught_by: str = TEACHER) -> Fault:
    return Fault(name, BACKBONE, method, (Edit(old, new),), caught_by)


def _prefill(name: str, method: str, old: str, new: str, caught_by: str = SAMPLES) -> Fault:
    return Fault(name, FORECASTER, method, (Edit(old, new),), caught_by)


EAGER_FAULTS = (
    _head("first-patch-kept", "_to_unembed", LAST, "hidden[:, :, :1]"),
    _head("last-patch-but-one-kept", "_to_unembed", LAST, "hidden[:, :, -2:-1]"),
    _head("last-two-patches-kept", "_to_unembed", LAST, "hidden[:, :, -2:]"),
    _head("last-variate-kept", "_to_unembed", LAST, "hidden[:, -1:]"),
    _head("last-series-kept", "_to_unembed", LAST, "hidden[-1:, :, -1:]"),
    _head("last-patch-without-a-cache-too", "_to_unembed", WHOLE, "self.every_patch"),
    _head("switch-not-asked", "_to_unembed", WHOLE, "kv_cache is None"),
    _head("switch-turned-around", "_to_unembed", WHOLE, "kv_cache is None or not self.every_patch"),
    _head("cache-not-handed-on", "backbone", "self._to_unembed(A, kv_cache)", "self._to_unembed(A, None)"),
    _head("every-patch-by-default", "every_patch", 'getattr(self, "_every_patch", False)', "True"),
    Fault(
        "loc-cut-too",
        BACKBONE,
        "backbone",
        (Edit("return A, B, C", "return A, B[:, :, -A.shape[2] :], C[:, :, -A.shape[2] :]"),),
        "cache-methods",
    ),
    _prefill("prefill-of-the-first-series-only", "_prefill", OWN, OWN.replace(":series", ":1")),
    _prefill("prefill-of-all-copies", "_prefill", OWN, OWN.replace(":series", ":")),
    _prefill("prefill-with-another-mask", "_prefill", OWN, OWN + '\nown["id_mask"] = own["id_mask"] * 0'),
    _prefill(
        "prefill-ignores-padding",
        "_prefill",
        OWN,
        OWN + '\nown["input_padding_mask"] = torch.ones_like(own["input_padding_mask"])',
    ),
    _prefill("labels-without-a-place", "_prefill", "labels * self.model.patch_embed.stride", "0"),
    _prefill("every-step-is-the-first", "_step", FIRST_STEP, "True"),
    _prefill("first-step-known-by-the-cache-alone", "_step", FIRST_STEP, "not prefill"),
    _prefill("filled-at-every-step", "_step", "not cache.current_len(0)", "True"),
    _prefill("never-filled", "_step", "not cache.current_len(0)", "False"),
    _prefill(
        "filled-for-the-first-batch-only",
        "_step",
        "not cache.current_len(0)",
        "len(prefill) == 2 and not prefill.append(None)",
    ),
    _prefill("without-a-cache-too", "_step", "cache is None", "False"),
    _prefill("keys-and-values-swapped", "_fill", "keys, values = own[layer_idx]", "values, keys = own[layer_idx]"),
    _prefill("filled-from-layer-zero", "_fill", "keys, values = own[layer_idx]", "keys, values = own[0]"),
    _prefill("filled-into-layer-zero", "_fill", APPENDED, APPENDED.replace("(layer_idx", "(0")),
    _prefill("filled-without-a-layer", "_fill", 'layer.attention_axis.name == "TIME"', "0 < layer_idx < 3"),
    _prefill("filled-from-space-wise-layers", "_fill", 'layer.attention_axis.name == "TIME"', "True"),
    _prefill("copies-interleaved", "_repeated", REPEATED, "part.repeat_interleave(copies, 0)"),
    _prefill("one-copy-only", "_repeated", REPEATED, "part"),
    _prefill("series-in-reverse", "_repeated", REPEATED, REPEATED.replace("part.repeat", "part.flip(0).repeat")),
    _prefill("shape-of-one-copy", "_repeated", SHAPE, "pass"),
)
