"""The planted faults of the check surgery: what each profile could fail to see of a change between forecasts."""

from __future__ import annotations

from tests.equivalence.mutations import Edit, Fault

SURGERY = "surgery"


def _in(name: str, owner: str, method: str, old: str, new: str, file: str = "") -> Fault:
    return Fault(name, owner, method, (Edit(old, new),), SURGERY, False, file)


_ATTENTION, _FORECASTER, _BACKBONE = "BaseMultiheadAttention", "TotoForecaster", "TotoBackbone"
_PROOF, _COPIES = "proof.py", "copies.py"

SURGERY_FAULTS = {
    "graph-breaks": (
        _in("replaced-code-not-looked-for", _ATTENTION, "_forward_with_cache", "not self._is_upstreams()", "False"),
        _in("methods-of-instances-not-seen", _ATTENTION, "_is_upstreams", "name in vars(owner)", "False"),
        Fault(
            "origin-of-code-not-looked-at", _ATTENTION, "_is_upstreams",
            (Edit("code.co_name != name", "False"), Edit("not code.co_filename.startswith(package)", "False")), SURGERY,
        ),
    ),
    "eager": (
        _in("noise-shared-by-the-copies", _FORECASTER, "_shares_prefill", "any(hooked)", "False"),
        _in(
            "overlapping-patches-cut", _BACKBONE, "_heads_are_upstreams",
            "self.patch_embed.stride == getattr(self.patch_embed, 'patch_size', None)", "True",
        ),
    ),
    "full-graph": (
        _in("hooks-not-looked-at", "Proof", "holds", "not any(self._hooks)", "True", _PROOF),
        _in(
            "parameters-and-buffers-not-compared", "Proof", "holds", "all(map(is_, entries, self._entries_then))",
            "True", _PROOF,
        ),
        _in(
            "classes-not-compared", "Proof", "holds", "all(map(is_, map(type, self._owners), self._classes))", "True",
            _PROOF,
        ),
        _in(
            "settings-not-compared", "Proof", "holds", "self._attributes == self._attributes_then", "True", _PROOF,
        ),
        _in(
            "code-not-compared", "Origin", "holds",
            "self._spaces == spaces and self._shared() == shared and self._read() == read", "True", "origin.py",
        ),
        _in("versions-alone-compared", "Copies", "same", "(sums(self._sources) == self._sums).all()",
            "torch.tensor(True)", _COPIES),
    ),
}  # fmt: skip
