import pytest

from toto_patcher.evidence.spread import speedup, summarize


def test_summary_gives_median_quartiles_and_extremes() -> None:
    spread = summarize([4.0, 1.0, 3.0, 2.0, 10.0])
    assert (spread.count, spread.median, spread.low, spread.high) == (5, 3.0, 2.0, 4.0)
    assert (spread.minimum, spread.maximum, spread.iqr) == (1.0, 10.0, 2.0)


def test_a_single_repetition_has_no_spread() -> None:
    with pytest.raises(ValueError, match="two repetitions"):
        summarize([1.0])
    with pytest.raises(ValueError, match="two repetitions"):
        speedup([1.0], [1.0])


def test_half_the_time_is_twice_as_fast() -> None:
    ratio = speedup([20.0, 20.0, 20.0], [10.0, 10.0, 10.0])
    assert (ratio.low, ratio.value, ratio.high) == (2.0, 2.0, 2.0)
    assert ratio.faster and not ratio.slower


def test_a_slower_run_is_called_slower_only_beyond_the_spread() -> None:
    clearly = speedup([10.0, 10.1, 10.2, 9.9] * 3, [12.0, 12.1, 12.2, 11.9] * 3)
    assert clearly.slower and not clearly.faster
    noisy = speedup([10.0, 14.0, 8.0, 13.0] * 3, [11.0, 9.0, 14.0, 12.0] * 3)
    assert not noisy.slower and noisy.low < noisy.value < noisy.high


def test_the_interval_is_the_same_every_time() -> None:
    before, after = [3.0, 5.0, 4.0, 9.0], [2.0, 4.0, 3.0, 3.5]
    assert speedup(before, after) == speedup(before, after)


def test_turns_are_resampled_in_pairs() -> None:
    """A machine that slows down for one turn slows both: the ratio does not widen."""
    slow_turns = [1.0, 5.0, 1.0, 5.0, 1.0, 5.0]
    ratio = speedup([2 * value for value in slow_turns], slow_turns)
    assert ratio.low == ratio.high == 2.0


def test_runs_of_different_length_were_not_interleaved() -> None:
    with pytest.raises(ValueError, match="not interleaved"):
        speedup([1.0, 2.0, 3.0], [1.0, 2.0])
