from typing import Any

from toto_patcher.evidence.profiling import Stages
from toto_patcher.evidence.stages import MODEL, SAMPLE, classify, summarize


def stage(name: str, start: float, length: float) -> dict[str, Any]:
    return {"ph": "X", "cat": "user_annotation", "name": f"stage:{name}", "ts": start, "dur": length}


def kernel(name: str, launched: float, ran: float, length: float, correlation: int) -> list[dict[str, Any]]:
    call = {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "ts": launched, "dur": 1}
    return [
        {**call, "args": {"correlation": correlation}},
        {"ph": "X", "cat": "kernel", "name": name, "ts": ran, "dur": length, "args": {"correlation": correlation}},
    ]


def test_a_kernel_belongs_to_the_stage_that_launched_it_even_if_it_runs_later() -> None:
    events = [stage(MODEL, 0, 100), stage(SAMPLE, 100, 100)]
    events += kernel("sm90_xmma_gemm_f32", launched=50, ran=150, length=2000, correlation=1)
    events += kernel("elementwise_kernel", launched=150, ran=160, length=1000, correlation=2)
    found = summarize(events)
    assert found["device_ms"] == {MODEL: 2.0, SAMPLE: 1.0}
    assert found["device_ms_by_kind"] == {MODEL: {"matmul": 2.0}, SAMPLE: {"elementwise": 1.0}}
    assert found["runtime_calls"] == {"cudaLaunchKernel": 2} and found["device_kernels"] == 2


def test_what_runs_after_the_last_layer_is_the_head() -> None:
    names = ["gemm", "fmha", "gemm", "triton_norm", "gemm", "gemm", "gemm_unembed", "triton_head"]
    kernels = [{"name": name, "ts": place} for place, name in enumerate(names)]
    kinds = classify(kernels, MODEL)
    assert kinds[:2] == ["matmul", "attention"] and kinds[2:6] == ["matmul", "elementwise", "matmul", "matmul"]
    assert kinds[6:] == ["un-embedding and head"] * 2
    assert classify(kernels, SAMPLE)[6:] == ["matmul", "elementwise"]


def test_partial_sums_of_a_product_are_not_counted_as_another_product() -> None:
    names = ["fmha", "gemm", "splitKreduce", "gemm", "gemm", "gemm_unembed"]
    kinds = classify([{"name": name, "ts": place} for place, name in enumerate(names)], MODEL)
    assert kinds == ["attention", *["matmul"] * 4, "un-embedding and head"]


def test_stages_add_up_and_drain_at_every_boundary() -> None:
    drained = []
    stages = Stages(lambda: drained.append(1))
    for name in ("a", "b", "a", None):
        stages.enter(name)
    assert set(stages.seconds) == {"a", "b"} and len(drained) == 4
