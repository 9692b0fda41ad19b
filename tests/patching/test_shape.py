"""A method's shape is what it computes, free of how it is written down."""

from __future__ import annotations

import pytest

from toto_patcher.patching.shape import function_shapes

ORIGINAL = '''
    def area(self, width: int, height: int) -> int:
        """Doc."""
        assert width > 0, "message"
        total = width * height
        return self.scale(total, total, total)
'''


def digests(source: str) -> list[str]:
    return [digest for _, digest in function_shapes(source)]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('        """Doc."""\n', ""),
        (": int, height: int) -> int", ", height)"),
        (', "message"', ""),
        ("total", "result"),
        ("width", "w"),
        ("width * height", "(width\n            * height)  # comment"),
        ("total = ", "total: int = "),
        ("    def", "  def"),
    ],
)
def test_the_way_it_is_written_does_not_matter(old: str, new: str) -> None:
    changed = ORIGINAL.replace(old, new)
    assert changed != ORIGINAL
    if old == "    def":
        changed = changed.replace("\n        ", "\n      ")
    assert digests(changed) == digests(ORIGINAL)


@pytest.mark.parametrize(
    ("old", "new", "statement"),
    [
        ("width > 0", "width >= 0", 0),
        ("width * height", "height * width", 1),
        ("width * height", "width + height", 1),
        ("width * height", "width * 2", 1),
        ("(total, total, total)", "(total, total, width)", 2),
        ("self.scale", "self.shift", 2),
    ],
)
def test_what_it_computes_does(old: str, new: str, statement: int) -> None:
    changed, original = digests(ORIGINAL.replace(old, new)), digests(ORIGINAL)
    assert [number for number in range(3) if changed[number] != original[number]] == [statement]


def test_lines_count_from_the_first_of_the_function() -> None:
    assert [line for line, _ in function_shapes(ORIGINAL)] == [3, 4, 5]


def test_swapping_two_locals_changes_the_shape() -> None:
    assert digests("def f(a, b):\n    return a - b\n") != digests("def f(a, b):\n    return b - a\n")
