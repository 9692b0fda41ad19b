"""The planted faults in the kernels, each with the beginning of the name of a case that must tell."""

from __future__ import annotations

from tests.equivalence.mutations import Edit, Fault


def _in(file: str, function: str, name: str, old: str, new: str, caught_by: str) -> Fault:
    return Fault(name, "", function, (Edit(old, new),), caught_by, False, f"{file}.py")


LEFT = "values + row[:, None] * stride + inner[None, :]"
SOURCE = "column // third * third + inside % width * HEADS + inside // width"
BEFORE = "other[None, :] <= own[:, None]"
ALONG = "tl.range(0, SPAN, BLOCK, num_stages=A)"
KEPT = "tl.store(own_values + slot * each + past, value, mask=real)"
TURNED = "tl.where(feature % 2 == 0, -1.0, 1.0)"
HIDDEN = "tl.where((other < length)[None, :], scores, float('-inf'))"

KERNEL_FAULTS = (
    _in(
        "digests", "_kernel", "places-not-told-apart", "(2 * inside + 1)", "1", "digest of 3 float32, two change places"
    ),
    _in(
        "digests",
        "_kernel",
        "last-word-left-out",
        "place < count",
        "place < count - 1",
        "digest of 3 float32, last changed",
    ),
    _in("products", "_kernel", "rows-taken-for-whole", LEFT, LEFT.replace("stride", "DIM"), "linear 6x64x192 apart"),
    _in("products", "linear", "bias-taken-for-whole", "bias.contiguous()", "bias", "linear 6x64x192"),
    _in("products", "_kernel", "bias-in-every-part", "part == 0", "part >= 0", "linear 6x192x64"),
    _in("products", "_kernel", "heads-stay-innermost", SOURCE, "column", "linear by heads 6x64x192"),
    _in("products", "_kernel", "part-stops-short", ALONG, ALONG.replace("SPAN", "SPAN - BLOCK"), "linear 40x1536x128"),
    _in(
        "kernels",
        "_summed",
        "a-part-left-out",
        "tl.static_range(1, PARTS)",
        "tl.static_range(2, PARTS)",
        "context 5 in 3",
    ),
    _in("kernels", "_rotated", "turned-the-other-way", TURNED, TURNED.replace("== 0", "== 1"), "context 5 in 1"),
    _in("kernels", "_context_kernel", "sees-the-future", BEFORE, BEFORE.replace("<=", "!="), "context 5 in 1"),
    _in(
        "kernels",
        "_context_kernel",
        "one-tile-alone",
        "range(1 if SINGLE else tile + 1)",
        "range(1)",
        "context 70 in 1",
    ),
    _in("kernels", "_context_kernel", "keeps-the-first-tile", "start == tile", "start == 0", "context 70 in 1"),
    _in("kernels", "_step_kernel", "step-before-forgotten", "range(slot)", "range(slot - 1)", "step 3 of 5 at 3"),
    _in("kernels", "_step_kernel", "past-the-context", HIDDEN, "scores", "step 3 of 5 at 0"),
    _in("kernels", "_step_kernel", "value-not-kept", KEPT, "", "step 3 of 5 at 0"),
    _in("kernels", "_step_kernel", "key-of-the-value", "offset + dim", "offset + 2 * dim", "step 17 of 5 at 3"),
)
