import pytest

from toto_patcher.evidence.benchmark_settings import Settings, pace
from toto_patcher.evidence.spread import paired


def test_without_a_budget_every_row_takes_the_same_turns_and_repetitions() -> None:
    found = pace(Settings(turns=4, timed=3, untimed=1), [16_000.0, 2.0, None], [False] * 3)
    assert found.turns == 4 and found.repetitions == ((1, 3), (1, 3), (1, 3))


def test_a_slow_row_makes_one_repetition_a_turn_and_all_rows_take_fewer_turns() -> None:
    found = pace(Settings(turns=5, timed=3, untimed=1, budget=60), [16_000.0, 100.0], [False, False])
    assert found.turns == 3 and found.repetitions == ((0, 1), (1, 3))


def test_a_row_that_exceeds_the_budget_at_once_still_gets_a_spread() -> None:
    assert pace(Settings(turns=5, budget=60), [90_000.0], [False]).turns == 2


def test_a_row_within_the_budget_keeps_its_repetitions() -> None:
    found = pace(Settings(turns=5, timed=3, untimed=1, budget=60), [2_900.0], [False])
    assert found.turns == 5 and found.repetitions == ((1, 3),)


def test_rows_of_an_ablation_make_one_timed_forecast_a_turn() -> None:
    assert pace(Settings(turns=4, timed=3), [5.0, 5.0], [False, True]).repetitions == ((1, 3), (1, 1))


def test_rows_with_other_repetitions_are_compared_turn_by_turn() -> None:
    """Three turns; the third is disturbed for both, and the ratio is the same in each."""
    slow, fast = [10.0, 20.0, 60.0], [1.0, 1.0, 1.0, 2.0, 2.0, 9.0, 6.0, 6.0, 6.0]
    ratio = paired(slow, 1, fast, 3)
    assert ratio is not None and (ratio.low, ratio.value, ratio.high) == (10.0, 10.0, 10.0)


@pytest.mark.parametrize("fast", [[1.0] * 6, [1.0]])
def test_rows_that_took_other_turns_are_not_compared(fast: list[float]) -> None:
    assert paired([10.0, 20.0, 60.0], 1, fast, 3) is None
