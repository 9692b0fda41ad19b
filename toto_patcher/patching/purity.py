"""What normal forms know of libraries: which calls have no effect, what their parameters are called, what is the same.

A list, and no guess: what is not on it is taken to have effects.
"""

from __future__ import annotations

import ast

# Another name of the same object, or of a subclass that computes the same distribution.
SAME = {
    "torch.concat": "torch.cat",
    "torch.concatenate": "torch.cat",
    "torch.distributions.studentT.StudentT": "torch.distributions.StudentT",
    "gluonts.torch.distributions.StudentT": "torch.distributions.StudentT",
    "gluonts.torch.distributions.studentT.StudentT": "torch.distributions.StudentT",
    "torch.distributions.categorical.Categorical": "torch.distributions.Categorical",
    "torch.distributions.mixture_same_family.MixtureSameFamily": "torch.distributions.MixtureSameFamily",
    "gluonts.torch.distributions.affine_transformed.AffineTransformed": "gluonts.torch.distributions.AffineTransformed",
    "typing_extensions.cast": "typing.cast",
}
KNOWN_PARAMETERS: dict[str, tuple[str, ...]] = {
    "@torch.cat": ("tensors", "dim"),
    "@torch.clamp": ("input", "min", "max"),
    "@torch.cumsum": ("input", "dim"),
    "@torch.mean": ("input", "dim", "keepdim"),
    "@torch.ones_like": ("input",),
    "@torch.zeros_like": ("input",),
    "@torch.where": ("condition", "input", "other"),
    "@torch.nn.functional.softmax": ("input", "dim"),
    "@torch.nn.functional.scaled_dot_product_attention": (
        "query",
        "key",
        "value",
        "attn_mask",
        "dropout_p",
        "is_causal",
    ),
    "@torch.distributions.StudentT": ("df", "loc", "scale"),
    "@torch.distributions.Categorical": ("probs", "logits"),
    "@torch.distributions.MixtureSameFamily": ("mixture_distribution", "component_distribution"),
    "@einops.rearrange": ("tensor", "pattern"),
    "@einops.repeat": ("tensor", "pattern"),
    # Functions of Toto's own, which may stand in other files than their callers.
    "compute_causal_statistics": (
        "data",
        "weights",
        "padding_mask",
        "dim",
        "minimum_scale",
        "use_bessel_correction",
        "stabilize_with_global",
        "scale_factor_exponent",
        "prefix_length",
    ),
    "make_batched_block_mask": ("t",),
    "pad_array": ("values", "patch_stride"),
    "pad_id_mask": ("id_mask", "patch_stride"),
    "is_extreme_value": ("t",),
    "replace_extreme_values": ("t", "replacement"),
}
_PURE_PREFIXES = ("@math.", "@einops.", "@numpy.", "@torch.")
_IMPURE_WORDS = (
    "random",
    "rand",
    "seed",
    "bernoulli",
    "normal",
    "multinomial",
    "poisson",
    "backends",
    "compile",
    "set_",
)
_PURE_BUILTINS = frozenset({"int", "float", "bool", "len", "abs", "max", "min", "list", "tuple", "range", "isinstance"})
_PURE_METHODS = frozenset(
    {
        *("abs", "chunk", "clamp", "clamp_min", "contiguous", "dim", "double", "expand", "expand_as", "float", "max"),
        *("mean", "min", "reshape", "size", "squeeze", "sum", "to", "transpose", "type", "unbind", "unfold"),
        *("unsqueeze", "view"),
    }
)
_PLAIN = (
    *(ast.Name, ast.Attribute, ast.Constant, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.JoinedStr),
    *(ast.FormattedValue, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp),
    *(ast.expr_context, ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)


def is_plain(node: ast.AST) -> bool:
    """An expression that only looks: names, attributes, constants, subscripts, arithmetic and text made of them."""
    return all(isinstance(part, _PLAIN) for part in ast.walk(node))


def is_pure(node: ast.AST) -> bool:
    """As ``is_plain``, but calls that are known to have no effect may stand in it."""
    return all(
        _is_pure_call(part.func) if isinstance(part, ast.Call) else isinstance(part, (*_PLAIN, ast.keyword, ast.IfExp))
        for part in ast.walk(node)
    )


def _is_pure_call(func: ast.expr) -> bool:
    if isinstance(func, ast.Name):
        name = func.id
        if name in _PURE_BUILTINS or name.startswith("#"):
            return True
        known = name.startswith(_PURE_PREFIXES) and not name.endswith("_")
        return known and not any(word in name for word in _IMPURE_WORDS)
    return isinstance(func, ast.Attribute) and func.attr in _PURE_METHODS
