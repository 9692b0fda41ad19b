"""Trees that only look like Toto, or are broken: refused with the reason, and nothing is written."""

from __future__ import annotations

from pathlib import Path

from .base import variation
from .edit import ATTENTION, CACHE, defining, in_class, in_method, prepend, rewrite_text, statements

GROWING_CACHE = '''
class KVCache:
    """Keeps one growing pair of tensors for each layer."""

    def __init__(self, num_layers, max_len=None):
        self.max_len = max_len
        self.keys = [None] * num_layers
        self.values = [None] * num_layers

    def __getitem__(self, layer_idx):
        return self.keys[layer_idx], self.values[layer_idx]

    def seq_len(self, layer_idx=0):
        return 0 if self.keys[layer_idx] is None else self.keys[layer_idx].shape[-2]

    def append(self, layer_idx, kv):
        key, value = kv
        if self.keys[layer_idx] is not None:
            key = torch.cat([self.keys[layer_idx], key], dim=-2)
            value = torch.cat([self.values[layer_idx], value], dim=-2)
        self.keys[layer_idx], self.values[layer_idx] = key, value
        return key, value

    def reset(self):
        self.keys = [None] * len(self.keys)
        self.values = [None] * len(self.values)
'''

BUFFER_CACHE = '''
class KVCache(nn.Module):
    """One buffer pair for a layer, written at given positions."""

    def __init__(self, batch, length, heads, width):
        super().__init__()
        self.register_buffer("k_cache", torch.zeros(batch, heads, length, width))
        self.register_buffer("v_cache", torch.zeros(batch, heads, length, width))

    def update(self, positions, k, v):
        self.k_cache[:, :, positions] = k
        self.v_cache[:, :, positions] = v
        return self.k_cache, self.v_cache
'''

OTHER_ATTENTION = '''
class BaseMultiheadAttention(nn.Module):
    """Attention with separate projections and a cache passed as a tuple."""

    def __init__(self, config, layer_idx=None):
        super().__init__()
        self.config, self.layer_idx = config, layer_idx
        self.q_proj = nn.Linear(config.width, config.width)
        self.k_proj = nn.Linear(config.width, config.width)
        self.v_proj = nn.Linear(config.width, config.width)
        self.o_proj = nn.Linear(config.width, config.width)

    def forward(self, hidden_states, position_embeddings, attention_mask=None, past_key_values=None, **kwargs):
        q, k, v = self.q_proj(hidden_states), self.k_proj(hidden_states), self.v_proj(hidden_states)
        if past_key_values is not None:
            k, v = past_key_values.update(k, v, self.layer_idx)
        return self.o_proj(torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=attention_mask)), None
'''

IMPORTS = "import torch\nfrom torch import nn\n\n"


def _only(root: Path, files: dict[str, str]) -> None:
    for path in sorted(root.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


@variation("refused", says="KVCache", runs=False, full_graph="defines class TotoForecaster")
def toto_2(root: Path) -> None:
    """Another generation of the model: one module, its own cache, no BaseMultiheadAttention."""
    attention = OTHER_ATTENTION.replace("BaseMultiheadAttention", "SelfAttention")
    _only(root, {"toto/__init__.py": "", "toto/model.py": IMPORTS + GROWING_CACHE + attention})


@variation("refused", says="KVCache|BaseMultiheadAttention", runs=False, full_graph="defines class TotoForecaster")
def other_project_with_both_names(root: Path) -> None:
    files = {"lm/__init__.py": "", "lm/cache.py": IMPORTS + BUFFER_CACHE, "lm/attention.py": IMPORTS + OTHER_ATTENTION}
    _only(root, files)


@variation("refused", says="KVCache", runs=False, full_graph="KVCache.append is not the one")
def growing_cache_in_a_real_tree(root: Path) -> None:
    """The same four methods, but nothing is preallocated."""
    new = statements(GROWING_CACHE)[0]
    in_class(defining(root, CACHE), CACHE, lambda node: new)  # type: ignore[arg-type, return-value]


@variation(
    "refused", says="BaseMultiheadAttention", runs=False, full_graph="BaseMultiheadAttention has no method get_qkv"
)
def other_attention_in_a_real_tree(root: Path) -> None:
    path = defining(root, ATTENTION)
    new = statements(OTHER_ATTENTION)[0]
    in_class(path, ATTENTION, lambda node: new)  # type: ignore[arg-type, return-value]


@variation("refused", says="BaseMultiheadAttention", runs=False, full_graph="defines class BaseMultiheadAttention")
def attention_missing(root: Path) -> None:
    defining(root, ATTENTION).unlink()


@variation("refused", says="KVCache", runs=False, full_graph="defines class KVCache")
def cache_missing(root: Path) -> None:
    defining(root, CACHE).unlink()


@variation("refused", says="KVCache", runs=False, full_graph="defines class TotoForecaster")
def no_python_at_all(root: Path) -> None:
    _only(root, {"README": "nothing here"})


@variation("refused", says="KVCache", runs=False, full_graph="defines class TotoForecaster")
def names_in_strings_only(root: Path) -> None:
    """The words stand in a docstring; no class is defined."""
    _only(root, {"toto/__init__.py": '"""\nclass KVCache:\n\nclass BaseMultiheadAttention:\n"""\n'})


@variation("refused", says="(?i)syntax|parse", runs=False, full_graph="syntax error")
def syntax_error(root: Path) -> None:
    rewrite_text(defining(root, CACHE), lambda text: text + "\ndef broken(:\n")


@variation("refused", says="(?i)syntax|parse", runs=False, full_graph="syntax error")
def merge_conflict_markers(root: Path) -> None:
    path = defining(root, ATTENTION)
    rewrite_text(path, lambda text: text.replace("class Base", "<<<<<<< ours\nclass Base", 1) + ">>>>>>> theirs\n")


@variation("refused", says="(?i)decod|encod|utf|parse", runs=False)
def undecodable_bytes(root: Path) -> None:
    path = defining(root, CACHE)
    path.write_bytes(b"# caf\xe9 without a coding cookie\n" + path.read_bytes())


@variation(
    "refused", says="no file under the root defines class KVCache", runs=False, full_graph="defines class KVCache"
)
def utf_16(root: Path) -> None:
    path = defining(root, CACHE)
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))


@variation("refused", says="(?i)graph_break|dynamo|append|already", full_graph="KVCache.append is not the one")
def graph_breaks_by_hand(root: Path) -> None:
    """Somebody's own mending of the cache."""
    path = defining(root, CACHE)
    in_method(path, CACHE, "append", lambda f: prepend(f, "torch._dynamo.graph_break()\n"))


@variation("refused", says="(?i)disable|decorat|already|position", same_as_release=True)
def position_method_exists(root: Path) -> None:
    """A local method already has the name that the patch wants to add."""
    from .edit import add_methods

    add_methods(defining(root, CACHE), CACHE, "def position(self, layer_idx):\n    return 41\n")
