"""The child process of test_kernels: compiles kernels for a GPU that need not be there, and prints what they ask of it.

    python -m tests.equivalence.kernels.fitting FOLDER

FOLDER holds the package ``static_decoder``. The last line on stdout is JSON: kernel -> bytes of shared memory. Each is
launched by the package's own code, on CPU tensors, with something in its place that compiles it and runs nothing.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

sys.path.insert(0, sys.argv[1])

from static_decoder import kernels  # type: ignore[import-not-found]
from static_decoder.rotary import Rotary  # type: ignore[import-not-found]

HOPPER = GPUTarget("cuda", 90, 32)
POINTERS = {torch.float32: "*fp32", torch.int64: "*i64"}
TOKENS, HEADS, WIDTH = 100, 12, 64  # a context of 6,400 points, of the published model


class Compiled:
    """Stands in for a kernel: ``kernel[grid](...)`` compiles it for the arguments."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.shared = 0

    def __getitem__(self, grid: object) -> Any:
        return self._compile

    def _compile(self, *given: Any, **options: int) -> None:
        signature, constants, aligned = {}, {}, {}
        for place, (parameter, value) in enumerate(zip(self._kernel.params, given, strict=True)):
            if parameter.is_constexpr:
                signature[parameter.name], constants[(place,)] = "constexpr", value
            else:
                signature[parameter.name] = POINTERS[value.dtype] if isinstance(value, torch.Tensor) else "i32"
                if isinstance(value, torch.Tensor) or value % 16 == 0:
                    aligned[(place,)] = [["tt.divisibility", 16]]
        source = ASTSource(self._kernel, signature, constants, aligned)
        self.shared = triton.compile(source, target=HOPPER, options=options).metadata.shared


def main() -> None:
    """A context of more than one tile and a step after it, of products that come in three parts."""
    rows = torch.randn(3, TOKENS, 3, HEADS, WIDTH)
    rotary = Rotary(*torch.randn(4, TOKENS, WIDTH))
    context, past = torch.randn(2, 1, HEADS, TOKENS, WIDTH), torch.randn(2, 4, TOKENS, 1, HEADS, WIDTH)
    found = {}
    for name in ("context", "step"):
        kernel = Compiled(getattr(kernels, f"_{name}_kernel"))
        setattr(kernels, f"_{name}_kernel", kernel)
        if name == "context":
            kernels.attend_context(rows, rotary, 1)
        else:
            kernels.attend_step(rows, rotary, tuple(context), torch.tensor([90]), tuple(past), torch.tensor([1]))
        found[name] = kernel.shared
    print(json.dumps(found))


if __name__ == "__main__":
    main()
