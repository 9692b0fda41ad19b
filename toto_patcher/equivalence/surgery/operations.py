"""The check ``surgery``: changes performed between forecasts, drawn from a generator. Only for child processes.

An operation is one model, a first forecast or none, and one to three changes, each with forecasts after it. Its number
is the seed of all that it does. At its end what it did outside of the model is undone, and it forecasts once more.
"""

from __future__ import annotations

import contextlib
import logging
import random
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import torch

from toto_patcher.equivalence import inputs
from toto_patcher.equivalence.case import Case, Length, Turn
from toto_patcher.equivalence.decoders import LEFT, seed_exact
from toto_patcher.equivalence.runs import Arrays, Runner, demand_determinism
from toto_patcher.equivalence.surgery import calls, code, modules, values
from toto_patcher.equivalence.surgery.patient import CHANGES, Patient

KINDS = [
    name
    for module in (values, code, modules, calls)
    for name, change in CHANGES.items()
    if change.__module__ == module.__name__
]
"""Of change, in the order that an operation's number picks from."""
CASE = Case("surgery", "point", 2, 3, Length(4, 5), gaps=True, groups=True)
USUAL = Turn(Length(2, 3))
OTHERS = (
    Turn(Length(0, 7), batch=1, variates=1),
    Turn(Length(4), Length(6), salt="longer"),
    Turn(Length(2), Length(1), batch=3, salt="shorter"),
    USUAL,
)
SEED = 7


@dataclass
class Record:
    """One forecast, or something else to compare, after the changes made so far.

    Attributes:
        number: ``OPERATION.COUNT``, which names its array too.
        operation: its number.
        changes: made so far, the last one last.
        kind: of the last one.
        what: of several forecasts after it.
        error: the kind of exception that it raised, or empty.
        message: of the exception.
        dtype: of the answer.
        left: why a decoder left it to upstream's code, where it said so.
        usual: it forecasts what was forecast before the change.
    """

    number: str = field(default="", init=False)
    operation: int
    changes: str
    kind: str
    what: str
    error: str = ""
    message: str = ""
    dtype: str = ""
    left: str = ""
    usual: bool = False


class _Reasons(logging.Handler):
    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        before, found, reason = record.getMessage().partition(LEFT)
        if found and not before:
            self.found.append(reason)

    def taken(self) -> str:
        found, self.found = self.found, []
        return "; ".join(found)


class Theatre:
    """Performs operations on one tree."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._reasons = _Reasons()
        self.records: list[Record] = []
        self.arrays: Arrays = {}

    def perform(self, numbers: Sequence[int]) -> Iterator[int]:
        """Performs the operations of these numbers; gives each number back when it is done."""
        logging.getLogger().addHandler(self._reasons)
        try:
            for number in numbers:
                self._operate(number)
                yield number
        finally:
            logging.getLogger().removeHandler(self._reasons)

    def _operate(self, number: int) -> None:
        chance = random.Random(number)
        forecaster = self._runner.tree.forecaster(self._runner.load(CASE))
        if chance.random() < 0.5:
            seed_exact(forecaster)
        done: list[str] = []
        kind = "none"
        rounded = any("dtype" in kind for kind in kinds(number))
        checks = self._runner.checks(replace(CASE, precision="bfloat16" if rounded else "float32"))
        with checks, contextlib.ExitStack() as undo:
            patient = Patient(
                self._runner.tree, forecaster, chance, undo, int(forecaster.model.patch_embed.patch_size),
                lambda **given: self._forecast(patient, **given), self._runner.device,
            )  # fmt: skip
            if chance.random() < 0.75:
                self._note(patient, number, done, kind, "the same series", usual=True)
            for kind in kinds(number):
                with self._noting(number, done, kind):
                    done.append(f"{kind}: {CHANGES[kind](patient)}")
                for what, tensor in patient.extra.items():
                    self._keep(Record(number, ", ".join(done), kind, what), tensor)
                patient.extra.clear()
                self._note(patient, number, done, kind, "the same series", usual=True)
                turn = chance.choice(OTHERS)
                if turn is not USUAL:
                    self._note(patient, number, done, kind, "another series", turn)
            undo.close()
            done.append("undone outside of the model")
            self._note(patient, number, done, "undone", "the same series")

    @contextlib.contextmanager
    def _noting(self, number: int, done: list[str], kind: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            done.append(f"{kind}: ended by an error")
            self._keep(_failed(Record(number, ", ".join(done), kind, "the change itself"), error), None)

    def _note(
        self, patient: Patient, number: int, done: list[str], kind: str, what: str, turn: Turn = USUAL,
        usual: bool = False,
    ) -> None:  # fmt: skip
        record = Record(number, ", ".join(done) or "no change yet", kind, what, usual=usual)
        try:
            found = self._forecast(patient, turn)
        except Exception as error:  # upstream's answer may be an error, and then it is to be the same
            self._keep(_failed(record, error), None)
        else:
            self._keep(record, found)

    def _keep(self, record: Record, tensor: torch.Tensor | None) -> None:
        record.left = self._reasons.taken()
        record.number = f"{record.operation}.{sum(other.operation == record.operation for other in self.records)}"
        if tensor is not None:
            record.dtype = str(tensor.dtype)
            name = f"{record.number}|direct|answer"
            self.arrays[name] = tensor.detach().to("cpu", torch.float64, copy=True).numpy()
        self.records.append(record)

    def _forecast(
        self, patient: Patient, turn: Turn = USUAL, *, spoilt: bool = False, longer: bool = False,
        samples: int | None = None, samples_per_batch: int = 1,
    ) -> torch.Tensor:  # fmt: skip
        demand_determinism()
        turn = OTHERS[1] if longer else turn
        case, patch = CASE.at(turn), patient.patch
        context, steps = case.context.steps(patch), turn.horizon.steps(patch)
        given = inputs.make(case, context, context, turn.salt)
        if spoilt:
            given.series[0, 0, -3], given.padding_mask[0, 0, -3] = np.nan, True
        device = patient.device
        time = np.broadcast_to(np.arange(context) * inputs.INTERVAL_SECONDS, given.series.shape).copy()
        series = self._runner.tree.series(
            series=torch.from_numpy(given.series).to(device, patient.dtype),
            padding_mask=torch.from_numpy(given.padding_mask).to(device),
            id_mask=torch.from_numpy(given.id_mask).to(device),
            timestamp_seconds=torch.from_numpy(time).to(device),
            time_interval_seconds=torch.full((case.batch, case.variates), inputs.INTERVAL_SECONDS, device=device),
        )
        torch.manual_seed(SEED)
        if samples is None:
            mean: torch.Tensor = patient.forecaster.forecast(series, steps).mean
            return mean.clone()
        options = {"num_samples": samples, "samples_per_batch": samples_per_batch}
        drawn: torch.Tensor = patient.forecaster.forecast(series, steps, **options).samples
        return drawn.clone()


def _failed(record: Record, error: Exception) -> Record:
    record.error, record.message = type(error).__name__, str(error).strip().split("\n")[0][:200]
    return record


def kinds(number: int) -> list[str]:
    """The kinds of change of an operation: each comes round as the first one, others follow by chance."""
    chance = random.Random(f"kinds of {number}")
    return [KINDS[number % len(KINDS)], *(chance.choice(KINDS) for _ in range(chance.choice((0, 1, 1, 2))))]


def facts(theatre: Theatre) -> list[dict[str, Any]]:
    """The records as plain data."""
    return [asdict(record) for record in theatre.records]
