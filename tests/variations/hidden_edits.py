"""Local changes that would be lost, or would mean something else, without a sign: each must be refused."""

from __future__ import annotations

from pathlib import Path

from .base import Apply, variation
from .edit import ATTENTION, CACHE, add_methods, defining, in_method, prepend, rewrite_text

TIME_WISE = "TimeWiseMultiheadAttention"
# What the profile full-graph says, by the first word of the name. It asks the cache for nothing.
FULL_GRAPH = {
    "returns": "KVCache.__post_init__ is not the one",
    "attention": "BaseMultiheadAttention.run_attention is not the one",
    "overridden": "overrides BaseMultiheadAttention|a method of BaseMultiheadAttention is assigned",
}


def _cache_method(name: str, code: str, says: str) -> None:
    def apply(root: Path) -> None:
        add_methods(defining(root, CACHE), CACHE, code)

    _register(name, apply, says)


def _appended(name: str, code: str, says: str) -> None:
    def apply(root: Path) -> None:
        rewrite_text(defining(root, ATTENTION), lambda text: text + "\n\n" + code)

    _register(name, apply, says)


def _prepended(name: str, class_name: str, method: str, code: str, says: str) -> None:
    def apply(root: Path) -> None:
        in_method(defining(root, class_name), class_name, method, lambda function: prepend(function, code))

    _register(name, apply, says)


def _register(name: str, apply: Apply, says: str) -> None:
    apply.__name__ = name
    changes_outputs = name.endswith("_in_place") and name.startswith("attention_")
    runs = name != "overridden_from_outside"
    full_graph = FULL_GRAPH.get(name.split("_")[0], "")
    variation("refused", says=says, full_graph=full_graph, same_as_release=not changes_outputs, runs=runs)(apply)


_cache_method(
    "rewinds_each_view", "def rewind(self, n):\n    for i in self._current_idx:\n        i -= n\n", "unknown way"
)
_cache_method(
    "rewinds_zipped_views",
    "def rewind(self, ns):\n    for i, n in zip(self._current_idx, ns):\n        i -= n\n",
    "unknown way",
)
_cache_method("shifts_all_in_place", "def rewind(self, n):\n    self._current_idx[:] -= n\n", "is sliced")
_cache_method("doubles_all_in_place", "def double(self):\n    self._current_idx[:] *= 2\n", "is sliced")
_cache_method(
    "writes_through_a_name", "def rewind(self, c, n):\n    at = self._current_idx[c]\n    at -= n\n", "through a name"
)
_cache_method(
    "writes_through_a_function",
    "def rewind(self, c, n):\n    torch.sub(self._current_idx[c], n, out=self._current_idx[c])\n",
    "handed to a function",
)
_cache_method(
    "writes_through_a_helper",
    "def rewind(self, c, n):\n    self._shift(self._current_idx[c], n)\n\n\ndef _shift(self, at, n):\n    at -= n\n",
    "handed to a function",
)
_cache_method(
    "reads_a_view_after_the_write",
    "def rewind(self, c):\n    at = self._current_idx[c]\n    self._current_idx[c] = 0\n    return at\n",
    "after it was written",
)
_cache_method("stores_a_parameter", "def load(self, c, n):\n    self._current_idx[c] = n\n", "might be a tensor")
_cache_method(
    "stores_tensors", "def load(self, ns):\n    self._current_idx = torch.tensor(ns)\n", "neither torch.zeros"
)
_cache_method(
    "asks_for_the_type",
    "def kind(self):\n    return isinstance(self._current_idx, torch.Tensor)\n",
    "unknown way",
)
_cache_method("sees_by_reflection", "def snapshot(self):\n    return dict(vars(self))\n", "reflection")
_cache_method("sees_by_string", 'def longest(self):\n    return getattr(self, "_current_idx").max()\n', "as a string")
_cache_method(
    "names_itself_otherwise", "def rewind(this):\n    this._current_idx = None\n", "outside of the methods' self"
)
_cache_method("keeps_a_position_of_its_own", "def mark(self):\n    self._position = 1\n", "already has _position")
_prepended(
    "returns_early_while_creating", CACHE, "__post_init__", "if self.num_layers == 0:\n    return\n", "may return"
)
_prepended("attention_scales_keys_in_place", ATTENTION, "run_attention", "k *= 0.5\n", "may write to the cache")
_prepended("attention_clamps_keys_in_place", ATTENTION, "run_attention", "k.clamp_(-1, 1)\n", "may write to the cache")
_prepended("attention_views_keys", ATTENTION, "run_attention", "k = k.view(k.shape)\n", "may write to the cache")
_appended(
    "overridden_through_an_alias",
    f"_Alias = {TIME_WISE}\n\n\nclass Local(_Alias):\n    def positional_embedding(self, *a):\n        return a\n",
    r"overrides BaseMultiheadAttention\.positional_embedding",
)
_appended(
    "overridden_by_a_mixin",
    f"class _Mixin:\n    positional_embedding = None\n\n\nclass Local(_Mixin, {TIME_WISE}):\n    pass\n",
    r"overrides BaseMultiheadAttention\.positional_embedding",
)
_appended(
    "overridden_under_a_condition",
    f"class Local({TIME_WISE}):\n    if True:\n\n        def forward(self, *args):\n            return args\n",
    r"overrides BaseMultiheadAttention\.forward",
)
_appended("overridden_from_outside", f"{TIME_WISE}.positional_embedding = lambda self, *args: args\n", "is assigned")


@variation("refused", says="is decorated", full_graph="BaseMultiheadAttention is decorated")
def attention_class_is_decorated(root: Path) -> None:
    def decorated(text: str) -> str:
        marked = text.replace(f"class {ATTENTION}(", f"@(lambda cls: cls)\nclass {ATTENTION}(")
        assert marked != text
        return marked

    rewrite_text(defining(root, ATTENTION), decorated)


@variation("refused", says="slots", runs=False)
def cache_has_slots(root: Path) -> None:
    def slotted(text: str) -> str:
        marked = text.replace(f"@dataclass\nclass {CACHE}", f"@dataclass(slots=True)\nclass {CACHE}")
        assert marked != text
        return marked

    rewrite_text(defining(root, CACHE), slotted)
