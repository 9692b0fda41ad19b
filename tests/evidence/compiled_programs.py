"""A child process: small functions, each compiled anew for one known reason, with ``backend="eager"``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

LIMIT = 4

SWITCH = True


def list_item(x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
    return x + lengths[0]


def int_argument(x: torch.Tensor, n: int) -> torch.Tensor:
    return x * n


def size(x: torch.Tensor) -> torch.Tensor:
    return x.sin()


def dtype(x: torch.Tensor) -> torch.Tensor:
    return x.cos()


def rank(x: torch.Tensor) -> torch.Tensor:
    return x.tan()


def grad_mode(x: torch.Tensor) -> torch.Tensor:
    return x + 2


def inference(x: torch.Tensor) -> torch.Tensor:
    return x + 3


def switch(x: torch.Tensor) -> torch.Tensor:
    return x + 1 if SWITCH else x - 1


def optional(x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    return x + 4 if mask is None else x * mask


def kind(x: torch.Tensor, values: Any) -> torch.Tensor:
    return x + len(values)


def called(x: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    return function(x)


def same(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return x * y


def reads(x: torch.Tensor) -> torch.Tensor:
    total = x.sum().item()
    return x + total


def decides(x: torch.Tensor) -> torch.Tensor:
    if x.sum() > 0:
        return x + 1
    return x - 1


def prints(x: torch.Tensor) -> torch.Tensor:
    print("in the middle of a graph")
    return x * 3


def asks(x: torch.Tensor) -> torch.Tensor:
    torch._dynamo.graph_break()
    return x * 5


def main() -> None:
    """Calls them."""
    global SWITCH
    torch.set_num_threads(1)
    torch._dynamo.config.recompile_limit = LIMIT

    def call(function: Any, *calls: tuple[Any, ...], **options: Any) -> Any:
        compiled = torch.compile(function, backend="eager", **options)
        for arguments in calls:
            compiled(*arguments)
        return compiled

    x, y = torch.ones(2), torch.zeros(2)
    call(list_item, *[(x, [i]) for i in range(LIMIT + 3)], dynamic=False)
    call(int_argument, (x, 3), (x, 4), (x, 5))
    call(size, (torch.ones(2, 3),), (torch.ones(5, 3),))
    call(dtype, (x,), (x.double(),))
    call(rank, (x,), (x[None],))
    again = call(grad_mode, (x,))
    with torch.no_grad():
        again(x)
    again = call(inference, (x,))
    with torch.inference_mode():
        fresh = torch.ones(2)
    again(fresh)
    again = call(switch, (x,))
    SWITCH = False
    again(x)
    call(optional, (x, None), (x, y))
    call(kind, (x, [1]), (x, (1,)), (x, (1, 2)))
    call(called, (x, torch.sin), (x, torch.cos))
    call(same, (x, y), (x, x))
    for function in (reads, decides, prints, asks):
        call(function, (x,))


if __name__ == "__main__":
    main()
