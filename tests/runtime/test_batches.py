"""Which series are forecast together."""

from __future__ import annotations

import numpy as np

from toto_patcher.runtime.batches import NUMBERS, Batch, divide
from toto_patcher.runtime.contexts import Context, read


def contexts(*lengths: int) -> list[Context]:
    return read([np.ones(length) for length in lengths], 1)


def test_only_equal_lengths_go_together_in_the_order_given() -> None:
    found = divide(contexts(5, 7, 5, 7, 9), 4, None, width=None, fixed=False)
    assert [batch.members for batch in found] == [(0, 2), (1, 3), (4,)]
    assert all(batch.slots == len(batch) for batch in found)


def test_compiled_there_are_few_shapes() -> None:
    several = divide(contexts(*[5] * 70), 64, None, width=None, fixed=True)
    assert [(len(batch), batch.slots) for batch in several] == [(32, 32), (32, 32), (6, 32)]
    assert [batch.slots for batch in divide(contexts(5, 5, 5), 64, None, width=None, fixed=True)] == [4]


def test_upstreams_largest_tensor_is_bounded_where_nobody_says_how_many() -> None:
    width, steps = 768, 4096
    (batch,) = divide(contexts(steps), 256, None, width=width, fixed=False)
    assert 1 <= batch.samples * steps * width <= NUMBERS
    assert divide(contexts(steps), 256, 200, width=width, fixed=False) == [Batch((0,), 1, 200)]
    (decoded,) = divide(contexts(steps), 256, None, width=None, fixed=False)
    assert decoded.samples == 256
