"""The child process of test_kernels: runs kernels on CPU tensors and compares them with the plain code.

    TRITON_INTERPRET=1 python -m tests.equivalence.kernels.compare FOLDER=KERNEL[,KERNEL ...] ...

Each folder holds a copy of the package ``static_decoder``; kernels are ``linear``, ``context``, ``step`` and
``digest``. The last line on stdout is JSON: folder -> case -> the kernel's error over that of the plain code in
float32, both against float64; far above 1 is wrong, and ``null`` is no number.
"""

from __future__ import annotations

import importlib
import json
import math
import sys
from collections.abc import Iterator
from itertools import product
from typing import Any

import torch

HEADS, WIDTH, SERIES = 2, 16, 2
UNREAD = float("nan")
"""Lies wherever nothing may be read: a result with it in is not a number."""

Tensors = tuple[torch.Tensor, ...]


def _ratio(found: Tensors, plain: Tensors, exact: Tensors) -> float:
    """The worst of several tensors."""
    ratios = []
    for ours, theirs, right in zip(found, plain, exact, strict=True):
        size = right.abs().max() * torch.finfo(torch.float32).eps
        allowed = torch.maximum((theirs.double() - right).abs().max(), size)
        ratios.append(((ours.double() - right).abs().max() / allowed).item())
    return max(ratios, key=lambda ratio: math.inf if math.isnan(ratio) else ratio)


def _double(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.double()
    made = map(_double, values)
    return type(values)(*made) if hasattr(values, "_fields") else tuple(made)


def _products(package: Package) -> Iterator[tuple[str, float]]:
    for rows, (dim, outputs), apart in product((1, 6, 40), ((64, 192), (192, 64), (1536, 128)), (False, True)):
        values = torch.randn(rows, 3, dim)[:, 2] if apart else torch.randn(rows, dim)
        weight, bias = torch.randn(outputs, dim), torch.randn(outputs, 2)[:, 0]
        assert package.products.usable(values, weight)
        exact = package.layers.linear(*_double((values, weight, bias)))
        plain = package.layers.linear(values, weight, bias)
        name = f"linear {rows}x{dim}x{outputs}{' apart' * apart}"
        yield name, _ratio((package.products.linear(values, weight, bias).sum(0),), (plain,), (exact,))
        if outputs % 3 == 0:
            plain = package.layers.project(values, weight, bias, HEADS)
            exact = package.layers.project(*_double((values, weight, bias)), HEADS)
            found = package.products.project(values, weight, bias, HEADS).sum(0)
            yield name.replace("linear", "linear by heads"), _ratio((found,), (plain,), (exact,))


def _rotary(package: Package, rows: int) -> Any:
    return package.rotary.Rotary(*torch.randn(4, rows, WIDTH))


def _in_parts(qkv: torch.Tensor, parts: int) -> torch.Tensor:
    if parts == 1:
        return qkv
    rest = torch.randn(parts - 1, *qkv.shape)
    return torch.cat((rest, (qkv - rest.sum(0)).unsqueeze(0)))


def _context(package: Package) -> Iterator[tuple[str, float]]:
    for tokens, parts in product((1, 5, 70), (1, 3)):
        qkv = _in_parts(torch.randn(SERIES * tokens, 3, HEADS, WIDTH), parts)
        whole, rotary = qkv if parts == 1 else qkv.sum(0), _rotary(package, tokens)
        exact = package.layers.attend_context(*_double((whole, rotary)), SERIES)
        plain = package.layers.attend_context(whole, rotary, SERIES)
        yield f"context {tokens} in {parts}", _ratio(package.kernels.attend_context(qkv, rotary, SERIES), plain, exact)


def _step(package: Package) -> Iterator[tuple[str, float]]:
    for samples, (tokens, length), slot, parts in product((3, 17), ((6, 5), (70, 66)), (0, 3), (1, 3)):
        qkv = _in_parts(torch.randn(samples * SERIES, 3, HEADS, WIDTH), parts)
        whole, rotary = qkv if parts == 1 else qkv.sum(0), _rotary(package, slot + 2)
        context = tuple(torch.randn(2, SERIES, HEADS, tokens, WIDTH))
        past = tuple(torch.randn(2, slot + 2, samples, SERIES, HEADS, WIDTH))
        where, at = torch.tensor([length]), torch.tensor([slot])
        runs = []
        for made in ((whole, rotary, context, past), _double((whole, rotary, context, past))):
            row, tables, far, near = made
            near = tuple(each.clone() for each in near)
            attended = package.layers.attend_step(row, tables, far, where, near, at)
            runs.append((attended, *(each[: slot + 1] for each in near)))
        plain, exact = runs
        for buffer in (*context, *past):
            (buffer[:, :, length:] if buffer.ndim == 4 else buffer[slot:]).fill_(UNREAD)
        attended = package.kernels.attend_step(qkv, rotary, context, where, past, at)
        found = (attended, *(each[: slot + 1] for each in past))
        yield f"step {samples} of {length} at {slot} in {parts}", _ratio(found, plain, exact)


def _digests(package: Package) -> Iterator[tuple[str, float]]:
    """A digest has no error to speak of: it tells a change, or it does not."""
    bits = {8: torch.int64, 4: torch.int32, 2: torch.int16}
    for dtype, count in product((torch.float64, torch.float32, torch.bfloat16), (1, 3, 8192, 20001)):
        tensors = [torch.randn(count).to(dtype), torch.randn(7).to(dtype)]
        known = package.digests.digests(tensors)
        where = f"of {count} {dtype}".replace("torch.", "")
        yield (
            f"digest {where}, the same",
            _told(torch.equal(known, package.digests.digests([*map(torch.clone, tensors)]))),
        )
        for what, at in (("first", 0), ("last", -1)):
            other = tensors[0].clone()
            other.view(bits[other.element_size()])[at] ^= 1
            changed = package.digests.digests([other, tensors[1]])
            yield f"digest {where}, {what} changed", _told(not torch.equal(known, changed))
        if count > 1:
            other = tensors[0].clone()
            other[[0, 2]] = other[[2, 0]]
            changed = package.digests.digests([other, tensors[1]])
            yield f"digest {where}, two change places", _told(not torch.equal(known, changed))


def _told(right: bool) -> float:
    return 0.0 if right else math.inf


class Package:
    """One copy of ``static_decoder``."""

    def __init__(self, folder: str) -> None:
        for name in [name for name in sys.modules if name.split(".")[0] == "static_decoder"]:
            del sys.modules[name]
        sys.path.insert(0, folder)
        names = ("digests", "kernels", "layers", "products", "rotary")
        self.digests, self.kernels, self.layers, self.products, self.rotary = (
            importlib.import_module(f"static_decoder.{name}") for name in names
        )
        sys.path.remove(folder)


KERNELS = {"linear": _products, "context": _context, "step": _step, "digest": _digests}


def main(asked: list[str]) -> None:
    """Runs the cases of the kernels that are asked for on every copy."""
    torch.set_num_threads(1)
    found = {}
    for folder, names in (each.split("=") for each in asked):
        torch.manual_seed(0)
        package = Package(folder)
        ratios = {name: ratio for kernel in names.split(",") for name, ratio in KERNELS[kernel](package)}
        found[folder] = {name: None if math.isnan(ratio) else ratio for name, ratio in ratios.items()}
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
