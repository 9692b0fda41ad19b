"""A variant of the model that is right, but not to the bit."""

# Attention that adds up in another order, in steps of the input's precision: as right as upstream's, and noisier.
REORDERED = """

_fused = scaled_dot_product_attention


def scaled_dot_product_attention(q, k, v, attn_mask=None, dropout_p=0.0, is_causal=False):
    if dropout_p > 0:
        return _fused(q, k, v, attn_mask=attn_mask, dropout_p=dropout_p, is_causal=is_causal)
    allowed = attn_mask
    if is_causal:
        allowed = torch.ones(q.shape[-2], k.shape[-2], dtype=torch.bool).tril()
    scores = (q * q.shape[-1] ** -0.5) @ k.flip(-2).transpose(-1, -2)
    if allowed is not None:
        scores = scores.masked_fill(~allowed.flip(-1), float("-inf"))
    return torch.softmax(scores, -1).to(v.dtype) @ v.flip(-2)
"""
