"""The error model on its own: what it lets through and what it does not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from toto_patcher.equivalence import scoring
from toto_patcher.equivalence.cases import BY_NAME, Case

CASE = BY_NAME["teacher-single"]
HALF = BY_NAME["teacher-bfloat16"]
RANDOM = np.random.default_rng(0)
REFERENCE = RANDOM.standard_normal((2, 3, 50))


def off_by(amount: float, seed: int = 1) -> np.ndarray:
    return REFERENCE + amount * np.random.default_rng(seed).uniform(-1, 1, REFERENCE.shape)


@pytest.mark.parametrize(("case", "usual"), [(CASE, 1e-4), (HALF, 0.2)])
def test_the_score_is_the_multiple_of_the_originals_error(case: Case, usual: float) -> None:
    score = scoring.scored(case, "loc", REFERENCE, off_by(usual), off_by(5 * usual))
    assert score.value == pytest.approx(5, rel=0.05)


def test_a_tiny_error_of_the_original_is_raised_to_the_floor() -> None:
    exact_original = scoring.scored(CASE, "loc", REFERENCE, REFERENCE, off_by(1e-7))
    assert 0 < exact_original.value < 1
    assert scoring.scored(CASE, "loc", REFERENCE, REFERENCE, off_by(1e-4)).value > scoring.FACTOR[False]


def test_one_wrong_value_is_enough() -> None:
    patched = REFERENCE.copy()
    patched[1, 2, 49] += 1e-3
    assert scoring.scored(CASE, "loc", REFERENCE, off_by(1e-7), patched).value > scoring.FACTOR[False]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_fail(value: float) -> None:
    patched = REFERENCE.copy()
    patched[0, 0, 0] = value
    for compare in (scoring.direct, scoring.seeded):
        assert compare(CASE, "x", REFERENCE, patched).value == math.inf
    assert scoring.scored(CASE, "x", REFERENCE, REFERENCE, patched).value == math.inf


def test_other_shapes_fail() -> None:
    cut = REFERENCE[..., 1:]
    assert scoring.scored(CASE, "x", REFERENCE, REFERENCE, cut).value == math.inf
    for compare in (scoring.direct, scoring.seeded, scoring.exact):
        assert compare(CASE, "x", REFERENCE, cut).value == math.inf


def test_exact_compares_numbers_and_texts() -> None:
    assert scoring.exact(CASE, "x", np.array([1, 2]), np.array([1, 2])).value == 0
    assert scoring.exact(CASE, "x", np.array([1, 2]), np.array([1, 3])).value == math.inf
    assert scoring.exact(CASE, "x", np.array("AssertionError"), np.array("RuntimeError")).value == math.inf


def test_sixteen_bit_samples_may_differ_in_draws_but_not_in_distribution() -> None:
    case = BY_NAME["samples-bfloat16"]
    drawn = [np.random.default_rng(seed).standard_normal((1, 1, 19, 64)) for seed in (1, 2)]
    assert 0 < scoring.seeded(case, "x", *drawn).value <= 1
    assert scoring.seeded(case, "x", drawn[0], drawn[1] + 2).value > 1
    single = dataclasses.replace(case, precision="float32")
    assert scoring.seeded(single, "x", *drawn).value > 1


def test_a_check_over_nothing_fails() -> None:
    assert not scoring.worst("x", 2, [], 1.0, "unit", {}).passed


def test_a_case_that_raised_fails_the_check_and_is_named() -> None:
    good = scoring.Score("teacher-single", "x", 0.0, "")
    check = scoring.worst("x", 2, [good], 1.0, "unit", {"teacher-labels": "Traceback\nIndexError: 3"})
    assert not check.passed
    assert "teacher-labels" in check.detail and "IndexError: 3" in check.detail


def test_the_worst_case_is_named() -> None:
    scores = [scoring.Score("teacher-single", "a", 0.5, "a"), scoring.Score("teacher-labels", "b", 3.0, "b")]
    check = scoring.worst("x", 2, scores, 2.0, "unit", {})
    assert (check.worst_case, check.worst_error, check.passed, check.cases) == ("teacher-labels", 3.0, False, 2)
