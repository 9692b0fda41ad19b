"""What is said about outputs is said of them: a shift, another spread, another seed."""

from typing import Any

import torch

from toto_patcher.evidence.benchmark_outputs import compare, quantile_distance


def draws(seed: int, *, shift: float = 0.0, scale: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(1, 2, 5, 256, generator=generator) * scale + shift


def outputs(*samples: torch.Tensor, point: float = 0.0) -> dict[str, Any]:
    return {"point": torch.full((1, 2, 5), point), "samples": list(samples)}


def test_another_seed_is_as_far_away_as_two_seeds_of_the_reference_are() -> None:
    found = compare(outputs(draws(0), draws(1), draws(2)), outputs(draws(9)), decodes=True)
    assert len(found["quantiles_null"]) == 3
    assert 0.5 < found["quantiles"] / max(found["quantiles_null"]) < 1.5


def test_a_shift_and_another_spread_stand_out_from_the_null() -> None:
    null = quantile_distance(draws(0), draws(1))
    for wrong in (draws(9, shift=0.5), draws(9, scale=1.6)):
        assert quantile_distance(draws(0), wrong) > 3 * null


def test_the_same_random_numbers_are_compared_sample_by_sample() -> None:
    same = compare(outputs(draws(0)), outputs(draws(0)), decodes=False)
    assert (same["samples"], same["samples_close"], same["point"]) == (0.0, 1.0, 0.0)
    moved = draws(0)
    moved[..., 0] += 1.0
    other = compare(outputs(draws(0)), outputs(moved, point=0.25), decodes=False)
    assert other["samples"] > 0.9 and other["samples_close"] == 255 / 256 and 0.2 < other["point"] < 0.3
    assert "quantiles" not in other
