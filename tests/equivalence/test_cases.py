"""The cases cover what the design lists, and the made models are such that faults would show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.equivalence.test_worker import run
from toto_patcher.equivalence import cases, inputs, models
from toto_patcher.equivalence.cases import ALL, CASES, Case, Length, Turn


def test_names_are_unique() -> None:
    assert len(cases.BY_NAME) == len(ALL)


RISKS: dict[str, Callable[[Case], bool]] = {
    "horizon below a patch": lambda case: any(h.patches == 0 for h in case.horizons),
    "horizon of a patch": lambda case: Length(1) in case.horizons,
    "horizon above a patch": lambda case: Length(1, 3) in case.horizons,
    "many patches": lambda case: any(h.patches > 4 for h in case.horizons),
    "a batch": lambda case: case.batch == 3,
    "one variate": lambda case: case.variates == 1,
    "three variates": lambda case: case.variates == 3,
    "seven variates": lambda case: case.variates == 7,
    "left padding": lambda case: case.context.points != 0,
    "gaps": lambda case: case.gaps,
    "groups": lambda case: case.groups,
    "exogenous": lambda case: case.exogenous > 0 and case.kind == "point",
    "labels": lambda case: case.labels,
    "no cache": lambda case: not case.use_cache,
    "several sample batches": lambda case: case.kind == "samples" and case.samples > case.samples_per_batch,
    "bfloat16": lambda case: case.precision == "bfloat16",
    "autocast": lambda case: case.precision == "autocast",
    "sequence first": lambda case: case.layout == "sequence-first",
    "after reset": lambda case: case.reuse,
    "two horizons": lambda case: len(case.horizons) > 1,
    "cache methods": lambda case: case.kind == "cache",
    "single layer": lambda case: case.kind == "attention",
    "beyond 256 patches in bfloat16": lambda case: case.precision == "bfloat16" and case.context.patches > 256,
    "compiled": lambda case: case.compiled,
}


DECODER_RISKS: dict[str, Callable[[Case], bool]] = {
    "context that is no bucket": lambda case: any(t.context in (Length(7), Length(9, 3)) for t in case.turns),
    "context below a patch": lambda case: any(t.context == Length(0, 3) for t in case.turns),
    "longer horizon after a shorter one": lambda case: case.turns[:1] == (Turn(Length(0, 5)),),
    "batch changes": lambda case: any(t.batch for t in case.turns),
    "variates change": lambda case: any(t.variates > 8 for t in case.turns),
    "another series": lambda case: any(t.salt for t in case.turns),
    "number of samples changes": lambda case: len({t.samples for t in case.turns}) > 1 and case.kind == "samples",
    "weights change": lambda case: any(t.reweighted for t in case.turns),
    "hidden beginning": lambda case: case.blank.patches > 0,
    "steep": lambda case: case.steep,
    "bound on the scale": lambda case: case.scale_exponent > 0,
    "values beyond the range": lambda case: case.level > 1e30,
    "known future": lambda case: case.exogenous > 0 and case.kind == "point",
    "labels": lambda case: case.labels,
    "bfloat16": lambda case: case.precision == "bfloat16",
    "autocast": lambda case: case.precision == "autocast",
    "draws of several series": lambda case: case.kind == "draws" and case.batch > 1 and case.groups,
    "draws in several rounds": lambda case: 0 < case.rows < case.samples * case.batch * case.variates,
    "draws with a known future": lambda case: case.kind == "draws" and case.exogenous > 0,
    "compiled": lambda case: case.compiled,
}


@pytest.mark.parametrize("risk", DECODER_RISKS)
def test_the_quick_run_of_a_decoder_has_a_case_for_every_risk(risk: str) -> None:
    own = [case for case in cases.select(quick=True, decoder=True) if case.decoder]
    assert any(DECODER_RISKS[risk](case) for case in own)


def test_cases_of_a_decoder_are_left_out_where_there_is_none() -> None:
    assert not any(case.decoder for case in cases.select())
    assert {case.name for case in cases.select(decoder=True)} == set(cases.BY_NAME)


@pytest.mark.parametrize("risk", RISKS)
def test_the_quick_run_has_a_case_for_every_risk(risk: str) -> None:
    assert any(RISKS[risk](case) for case in cases.select(quick=True))


def test_selection_leaves_out_what_a_tree_cannot_do() -> None:
    assert {case.name for case in CASES if case.needs} == {c.name for c in CASES} - {
        c.name for c in cases.select(able=())
    }


def test_gaps_leave_the_fed_part_and_every_variate_visible() -> None:
    made = inputs.make(cases.BY_NAME["teacher-batch-gaps"], 100, 64)
    assert made.padding_mask[..., 64:].all()
    assert not made.padding_mask[..., :64].all()
    assert made.padding_mask.any(-1).all()
    assert (made.series[~made.padding_mask] == 0).all()


def test_groups_are_several_and_stay_the_same_over_time() -> None:
    ids = inputs.make(cases.BY_NAME["teacher-groups"], 50, 40).id_mask
    assert len(np.unique(ids)) == 3
    assert (ids == ids[..., :1]).all()


def test_weights_do_not_depend_on_the_order_of_creation() -> None:
    first = [models.weight(name, (4, 4)) for name in ("a.weight", "b.weight")]
    second = [models.weight(name, (4, 4)) for name in ("b.weight", "a.weight")]
    assert np.array_equal(first[0], second[1]) and not np.array_equal(first[0], first[1])


def test_made_models_use_every_component_and_every_position(
    toto_release: Callable[[str], Path], tmp_path: Path
) -> None:
    names = ["teacher-single", "teacher-groups", "teacher-uncached"]
    arrays = run(toto_release("0.2.0"), tmp_path, eager=names, reference=names).arrays
    weights = arrays["eager|teacher-groups|scored|mixture weights"]
    assert (weights.mean((0, 1, 2)) > 0.05).all()
    for name in ("df", "loc", "scale"):
        assert arrays[f"eager|teacher-groups|scored|{name}"].std(2).min() > 1e-2
    error = np.abs(arrays["eager|teacher-groups|scored|loc"] - arrays["reference|teacher-groups|scored|loc"])
    assert error.max() < 1e-5 * np.abs(arrays["eager|teacher-groups|scored|loc"]).max()
