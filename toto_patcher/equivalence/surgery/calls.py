"""Changes of the dtype and the device, and of how forecasts are asked for."""

from __future__ import annotations

import contextlib

import torch

from toto_patcher.equivalence.decoders import seed_exact
from toto_patcher.equivalence.surgery.patient import Patient, interrupted, kind


@kind
def _dtype_of_the_model(patient: Patient) -> str:
    patient.dtype = patient.chance.choice([torch.float64, torch.bfloat16])
    patient.model.to(patient.dtype)
    return str(patient.dtype)


@kind
def _device_of_the_model(patient: Patient) -> str:
    """To the CPU and on a CPU to the device without memory, where upstream answers with an error."""
    elsewhere = "meta" if patient.device.type == "cpu" else "cpu"
    patient.model.to(elsewhere)
    patient.device = torch.device(elsewhere if elsewhere == "cpu" else patient.device)
    return elsewhere


@kind
def _dtype_there_and_back(patient: Patient) -> str:
    patient.model.bfloat16()
    patient.model.to(patient.dtype)
    return "through bfloat16"


@kind
def _series_with_nan(patient: Patient) -> str:
    """Upstream answers it with an error or with NaN; what counts are the forecasts after it."""
    with contextlib.suppress(Exception):
        patient.forecast(spoilt=True)
    return "and clean ones after it"


@kind
def _interrupted(patient: Patient) -> str:
    """A forecast that an exception ends anywhere in the tree's own code, as a handler of a signal may raise it."""
    part = patient.chance.random()
    interrupted(patient, part)
    return f"after {part:.0%} of the calls"


@kind
def _rounds_of_one_sample(patient: Patient) -> str:
    """Samples one by one, so narrowly distributed that each is the mean: a round that spoils the next one shows."""
    head = patient.model.output_distribution
    with torch.no_grad():
        for part in (head.loc_proj.weight, head.loc_proj.bias):
            part.copy_(part[:1].expand_as(part))
        head.scale_proj.weight.zero_()
        head.scale_proj.bias.fill_(-14.0)
    if patient.chance.random() < 0.5:
        seed_exact(patient.forecaster)
    patient.extra["samples one by one"] = patient.forecast(samples=3, samples_per_batch=1)
    return "all alike"


@kind
def _seed_again(patient: Patient) -> str:
    """After a weight changed, the same seed gives the same samples, at the first forecast too."""
    with torch.no_grad():
        patient.model.unembed.bias.add_(0.05)
    first, second = (patient.forecast(samples=4, samples_per_batch=4) for _ in range(2))
    patient.extra["the same seed, the same samples"] = torch.tensor(float(torch.equal(first, second)))
    return "after a weight changed"


@kind
def _nothing(patient: Patient) -> str:
    model = patient.model
    model.requires_grad_(False)
    model.train().eval()
    model.unembed.register_forward_hook(lambda *_: None).remove()
    return "that counts"
