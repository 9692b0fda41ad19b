"""Pictures can be read: no axis is cut in the middle of a decade, and no two numbers lie on each other."""

from __future__ import annotations

import pytest

pytest.importorskip("matplotlib")


@pytest.mark.parametrize(
    ("values", "shown"),
    [([12.0, 480.0], ["10", "100", "1,000"]), ([0.7, 150.0], ["0.1", "1", "10", "100", "1,000"]), ([5.0], ["1", "10"])],
)
def test_a_logarithmic_axis_goes_over_whole_decades(values: list[float], shown: list[str]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from toto_patcher.evidence.plots import whole_decades

    figure = Figure(figsize=(4, 2))
    canvas = FigureCanvasAgg(figure)
    axis = figure.subplots()
    axis.plot(values, range(len(values)), "o")
    whole_decades(axis, values)
    canvas.draw()
    low, high = axis.get_xlim()
    ticks = [*zip(axis.get_xticks(), axis.get_xticklabels(), strict=True)]
    assert [label.get_text() for place, label in ticks if low * 0.99 <= place <= high * 1.01] == shown
    assert {label.get_text() for label in axis.get_xticklabels(minor=True)} <= {""}
