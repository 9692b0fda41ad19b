"""Matrix products for few tokens on a GPU, where streaming the weights is all the work there is.

Up to some hundred rows, libraries leave most of the memory's bandwidth unused: too few of their tiles fit on the matrix
to keep every processor busy. Here long sums are split over programs, and whoever reads the result adds up the parts, in
a fixed order.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl

from .kernels import precision

MOST_ROWS = 256


@triton.jit
def _kernel(
    values, weight, bias, out, rows, stride,
    DIM: tl.constexpr, OUT: tl.constexpr, SPAN: tl.constexpr, HEADS: tl.constexpr, ROWS: tl.constexpr,
    COLUMNS: tl.constexpr, BLOCK: tl.constexpr, STAGES: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    part = tl.program_id(1)
    row = tl.program_id(2) * ROWS + tl.arange(0, ROWS)
    real = (row < rows)[:, None]
    # With HEADS, outputs are ordered (3, heads, width), while the matrix holds them as (3, width, heads).
    third: tl.constexpr = OUT // 3
    width: tl.constexpr = third // HEADS
    inside = column % third
    source = column if HEADS == 1 else column // third * third + inside % width * HEADS + inside // width
    summed = tl.zeros((ROWS, COLUMNS), tl.float32)
    for start in tl.range(0, SPAN, BLOCK, num_stages=STAGES):
        inner = part * SPAN + start + tl.arange(0, BLOCK)
        left = tl.load(values + row[:, None] * stride + inner[None, :], mask=real, other=0.0)
        matrix = tl.load(weight + source[:, None] * DIM + inner[None, :])
        summed = tl.dot(left, tl.trans(matrix), summed, input_precision=PRECISION)
    if part == 0:
        summed += tl.load(bias + source)[None, :].to(tl.float32)
    place = out + (part * rows + row)[:, None] * OUT + column[None, :]
    tl.store(place, summed.to(out.dtype.element_ty), mask=real)


def _shape(rows: int, outputs: int, dim: int) -> tuple[int, int, int, int, int]:
    """(rows, columns, block, parts, warps) of a program's tile: the fastest of a sweep on an H200."""
    if rows <= 32:
        columns, parts = (16, 1) if outputs >= 4096 else (32, 3) if dim < 2048 else (16, 3)
        return (16 if rows <= 16 else 32), columns, 128, parts, 2
    return (128, 64, 32, 3, 8) if outputs >= 2048 else (64, 64, 64, 3, 4)


def linear(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, heads_count: int = 1) -> torch.Tensor:
    """As ``layers.linear``, in parts: (parts, rows, outputs)."""
    rows, dim = values.shape
    outputs = weight.shape[0]
    if values.stride(1) != 1:  # rows may lie apart, as where they are the values of one variate's attention
        values = values.contiguous()
    tall, columns, block, parts, warps = _shape(rows, outputs, dim)
    block = min(block, 64 if dim % 128 else 128)
    while dim % (parts * block):
        parts -= 1
    out = torch.empty(parts, rows, outputs, device=values.device, dtype=values.dtype)
    _kernel[(outputs // columns, parts, triton.cdiv(rows, tall))](
        values, weight, bias.contiguous(), out, rows, values.stride(0),
        dim, outputs, dim // parts, heads_count, tall, columns, block, 4, precision(), num_warps=warps,
    )  # fmt: skip
    return out


def project(values: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor, heads_count: int) -> torch.Tensor:
    """As ``layers.project``, in parts: (parts, rows, 3, heads, head_dim)."""
    return linear(values, weight, bias, heads_count).unflatten(-1, (3, heads_count, -1))


def usable(values: torch.Tensor, weight: torch.Tensor) -> bool:
    """Whether this is faster than the library, and can be computed: few rows of float32, whole tiles, whole weights."""
    rows, wide = values.shape[0], weight.shape[0] >= 4096 and weight.shape[1] < 2048
    return (
        rows <= (32 if wide else MOST_ROWS)
        and values.dtype == weight.dtype == torch.float32
        and values.shape[1] % 64 == 0
        and weight.shape[0] % 64 == 0
        and weight.is_contiguous()
        and not torch.is_autocast_enabled(values.device.type)
    )
