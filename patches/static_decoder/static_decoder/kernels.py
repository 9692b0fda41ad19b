"""Attention kernels for GPUs: each does in one launch what ``layers`` says in a dozen."""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .rotary import Rotary

MOST_BYTES = 16384
"""Of a tile of keys or values: several of them must fit into shared memory, of which some GPUs have 64 KiB."""


@triton.jit
def _summed(base, offset, mask, PARTS: tl.constexpr, stride):
    """Adds up what a split product left in parts."""
    total = tl.load(base + offset, mask=mask, other=0.0).to(tl.float32)
    for part in tl.static_range(1, PARTS):
        total += tl.load(base + part * stride + offset, mask=mask, other=0.0).to(tl.float32)
    return total


@triton.jit
def _rotated(base, offset, mask, cos, sin, feature, PARTS: tl.constexpr, stride):
    """Loads features and their neighbours, and rotates the pairs in float32."""
    straight = _summed(base, offset + feature[None, :], mask, PARTS, stride)
    turned = _summed(base, offset + (feature ^ 1)[None, :], mask, PARTS, stride)
    return straight * cos + turned * tl.where(feature % 2 == 0, -1.0, 1.0)[None, :] * sin


@triton.jit
def _context_kernel(
    qkv, q_cos, q_sin, k_cos, k_sin, out, keys, values, tokens, stride,
    PARTS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, SINGLE: tl.constexpr,
    SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    series, head, tile = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS, tl.program_id(1)
    feature = tl.arange(0, WIDTH)
    kind = out.dtype.element_ty
    dim = HEADS * WIDTH
    own = tile * BLOCK + tl.arange(0, BLOCK)
    real = (own < tokens)[:, None]
    table = own[:, None] * WIDTH + feature[None, :]
    offset = (series * tokens + own)[:, None].to(tl.int64) * (3 * dim) + head * WIDTH
    cos, sin = tl.load(q_cos + table, real, 0.0), tl.load(q_sin + table, real, 0.0)
    query = _rotated(qkv, offset, real, cos, sin, feature, PARTS, stride).to(kind)
    best = tl.full((BLOCK,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    summed = tl.zeros((BLOCK, WIDTH), tl.float32)
    for start in range(1 if SINGLE else tile + 1):
        other = start * BLOCK + tl.arange(0, BLOCK)
        there = (other < tokens)[:, None]
        place = other[:, None] * WIDTH + feature[None, :]
        offset = (series * tokens + other)[:, None].to(tl.int64) * (3 * dim) + head * WIDTH
        cos, sin = tl.load(k_cos + place, there, 0.0), tl.load(k_sin + place, there, 0.0)
        key = _rotated(qkv, offset + dim, there, cos, sin, feature, PARTS, stride).to(kind)
        value = _summed(qkv, offset + 2 * dim + feature[None, :], there, PARTS, stride).to(kind)
        if start == tile:
            kept = ((series * HEADS + head) * tokens + other)[:, None].to(tl.int64) * WIDTH + feature[None, :]
            tl.store(keys + kept, key, mask=there)
            tl.store(values + kept, value, mask=there)
        scores = tl.dot(query, tl.trans(key), input_precision=PRECISION) * SCALE
        scores = tl.where((other[None, :] <= own[:, None]) & (other < tokens)[None, :], scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        weight, shrink = tl.exp(scores - higher[:, None]), tl.exp(best - higher)
        total = total * shrink + tl.sum(weight, 1)
        summed = summed * shrink[:, None] + tl.dot(weight.to(kind), value, input_precision=PRECISION)
        best = higher
    place = out + (series * tokens + own)[:, None].to(tl.int64) * dim + head * WIDTH + feature[None, :]
    tl.store(place, (summed / total[:, None]).to(kind), mask=real)


def attend_context(qkv: torch.Tensor, rotary: Rotary, series: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """As ``layers.attend_context``; queries, keys and values may come in parts."""
    qkv = _parts(qkv)
    parts, rows, _, heads, width = qkv.shape
    tokens = rows // series
    out = torch.empty(rows, heads * width, device=qkv.device, dtype=qkv.dtype)
    keys = torch.empty(series, heads, tokens, width, device=qkv.device, dtype=qkv.dtype)
    values = torch.empty_like(keys)
    block = _block(tokens, width, qkv.dtype)
    _context_kernel[(series * heads, triton.cdiv(tokens, block))](
        qkv, *rotary, out, keys, values, tokens, qkv.stride(0),
        parts, heads, width, block, tokens <= block, width**-0.5, precision(),
        num_warps=4, num_stages=1,  # more would keep tiles of every part in shared memory
    )  # fmt: skip
    return out, keys, values


def _parts(qkv: torch.Tensor) -> torch.Tensor:
    """Contiguous (parts, rows, 3, heads, head_dim)."""
    return (qkv if qkv.ndim == 5 else qkv.unsqueeze(0)).contiguous()


@triton.jit
def _step_kernel(
    qkv, q_cos, q_sin, k_cos, k_sin, keys, values, length_at, own_keys, own_values, slot_at, out,
    samples, series_count, tokens, stride,
    PARTS: tl.constexpr, HEADS: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    SCALE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    series, head = tl.program_id(0) // HEADS, tl.program_id(0) % HEADS
    sample = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    feature = tl.arange(0, WIDTH)
    kind = own_keys.dtype.element_ty
    dim = HEADS * WIDTH
    real = (sample < samples)[:, None]
    slot, length = tl.load(slot_at), tl.load(length_at)
    row = sample.to(tl.int64) * series_count + series
    offset = row[:, None] * (3 * dim) + head * WIDTH
    table = slot * WIDTH + feature[None, :]
    cos, sin = tl.load(q_cos + table), tl.load(q_sin + table)
    query = _rotated(qkv, offset, real, cos, sin, feature, PARTS, stride).to(kind)
    cos, sin = tl.load(k_cos + table), tl.load(k_sin + table)
    key = _rotated(qkv, offset + dim, real, cos, sin, feature, PARTS, stride).to(kind)
    value = _summed(qkv, offset + 2 * dim + feature[None, :], real, PARTS, stride).to(kind)
    past = (row[:, None] * HEADS + head) * WIDTH + feature[None, :]
    each = tl.cast(samples, tl.int64) * series_count * dim
    tl.store(own_keys + slot * each + past, key, mask=real)
    tl.store(own_values + slot * each + past, value, mask=real)
    wide = query.to(tl.float32)
    best = tl.sum(wide * key.to(tl.float32), 1) * SCALE
    total = tl.full((ROWS,), 1.0, tl.float32)
    summed = value.to(tl.float32)
    for step in range(slot):
        old = tl.load(own_keys + step * each + past, mask=real, other=0.0).to(tl.float32)
        score = tl.sum(wide * old, 1) * SCALE
        higher = tl.maximum(best, score)
        weight, shrink = tl.exp(score - higher), tl.exp(best - higher)
        kept = tl.load(own_values + step * each + past, mask=real, other=0.0).to(tl.float32)
        total = total * shrink + weight
        summed = summed * shrink[:, None] + weight[:, None] * kept
        best = higher
    context = (series * HEADS + head) * tl.cast(tokens, tl.int64) * WIDTH
    for start in range(0, length, BLOCK):
        other = start + tl.arange(0, BLOCK)
        there = (other < length)[:, None]
        place = context + other[:, None] * WIDTH + feature[None, :]
        scores = tl.dot(query, tl.trans(tl.load(keys + place, there, 0.0)), input_precision=PRECISION) * SCALE
        scores = tl.where((other < length)[None, :], scores, float("-inf"))
        higher = tl.maximum(best, tl.max(scores, 1))
        weight, shrink = tl.exp(scores - higher[:, None]), tl.exp(best - higher)
        total = total * shrink + tl.sum(weight, 1)
        found = tl.dot(weight.to(kind), tl.load(values + place, there, 0.0), input_precision=PRECISION)
        summed = summed * shrink[:, None] + found
        best = higher
    tl.store(out + row[:, None] * dim + head * WIDTH + feature[None, :], (summed / total[:, None]).to(kind), mask=real)


def attend_step(
    qkv: torch.Tensor,
    rotary: Rotary,
    context: tuple[torch.Tensor, torch.Tensor],
    length: torch.Tensor,
    past: tuple[torch.Tensor, torch.Tensor],
    slot: torch.Tensor,
) -> torch.Tensor:
    """As ``layers.attend_step``; queries, keys and values may come in parts."""
    qkv = _parts(qkv)
    parts, rows, _, heads, width = qkv.shape
    series, tokens, samples = context[0].shape[0], context[0].shape[2], past[0].shape[1]
    out = torch.empty(rows, heads * width, device=qkv.device, dtype=past[0].dtype)
    tall, block = 16, _block(tokens, width, out.dtype)
    _step_kernel[(series * heads, triton.cdiv(samples, tall))](
        qkv, *rotary, *context, length, *past, slot, out, samples, series, tokens, qkv.stride(0),
        parts, heads, width, tall, block, width**-0.5, precision(), num_warps=2,
    )  # fmt: skip
    return out


def _block(tokens: int, width: int, dtype: torch.dtype) -> int:
    """Tokens of a tile: no more than there are, and few enough for the shared memory of any GPU."""
    return max(16, min(64, triton.next_power_of_2(tokens), MOST_BYTES // (width * dtype.itemsize)))


def precision() -> str:
    """How products of float32 are computed: as torch's own are."""
    matmul = torch.backends.cuda.matmul
    if hasattr(matmul, "fp32_precision"):  # from torch 2.9; where this was set, reading the older setting is an error
        return "tf32" if matmul.fp32_precision == "tf32" else "ieee"
    return "tf32" if matmul.allow_tf32 else "ieee"


def usable(dtype: torch.dtype, width: int) -> bool:
    """Whether these kernels can run: tensor cores take heads whose width is a power of two, and no float64."""
    fits = 16 * width * dtype.itemsize <= MOST_BYTES
    return dtype != torch.float64 and width >= 16 and width & (width - 1) == 0 and fits
