"""Checks of the pipeline as in ``pipeline_checks``: processes, copies, and compilation that is lost."""

from __future__ import annotations

import copy
import multiprocessing
import os
import pickle
import signal
import threading
import time
from typing import Any

import numpy as np

WAVE = 100 + 10 * np.sin(np.arange(200) / 4)


def forecast(pipeline: Any) -> Any:
    return pipeline.predict(WAVE, 8, 16, 16, seed=1)[0].numpy()


def in_child(work: Any) -> int | None:
    """The exit status of a forked child that does some work; ``None`` where it does not end."""
    child = os.fork()
    if child == 0:
        try:
            os._exit(work() or 0)
        except BaseException:
            os._exit(99)
    for _ in range(600):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


def a_forked_child_forecasts(bench: Any) -> None:
    """Also where another thread holds the lock at the fork, and where OpenMP had threads that do not come along."""
    from toto_patcher.errors import UsageError
    from toto_patcher.runtime import TotoMonitor, compilations

    pipeline, expected = bench.pipeline(), forecast(bench.plain)
    bench.torch.set_num_threads(2)
    try:
        pipeline.predict([WAVE] * 8, 40, 64)
        assert in_child(lambda: not np.allclose(forecast(pipeline), expected, rtol=1e-5)) == 0
    finally:
        bench.torch.set_num_threads(1)
    monitor, stop = TotoMonitor(), threading.Event()

    def loop() -> None:
        while not stop.is_set():
            pipeline.predict(WAVE, 200, 64)

    thread = threading.Thread(target=loop)
    thread.start()
    try:
        time.sleep(0.3)
        assert in_child(lambda: not np.array_equal(forecast(pipeline), expected)) == 0
    finally:
        stop.set()
        thread.join()
    with monitor._lock, compilations._books._lock:

        def record() -> None:
            monitor.record(np.ones((2, 2)), 1.0)

        assert in_child(record) == 0

    def on_a_gpu() -> int:
        pipeline.device = bench.torch.device("cuda", 0)
        try:
            forecast(pipeline)
        except UsageError as error:
            return 0 if "CUDA does not work after a fork" in str(error) and "spawn" in str(error.hint) else 2
        return 1

    assert in_child(on_a_gpu) == 0
    assert np.array_equal(forecast(pipeline), expected)


def copies_forecast_the_same(bench: Any) -> None:
    from tests.runtime.pipeline_checks import refused

    pipeline = bench.pipeline(torch_compile=True, compile_backend="eager", min_samples_per_batch=4)
    expected = forecast(pipeline)
    written = pickle.dumps(pipeline)
    assert len(written) < 2000  # no weights
    again = pickle.loads(written)
    assert again.compiled and again.backend == "eager" and again._drawer._min_samples == 4
    assert again.root == pipeline.root and np.array_equal(forecast(again), expected)
    twin = copy.deepcopy(pipeline)
    assert twin.compiled and twin.model is not pipeline.model and np.array_equal(forecast(twin), expected)
    with bench.torch.no_grad():
        next(iter(twin.model.model.parameters())).mul_(1.5)
    assert np.array_equal(forecast(pipeline), expected)
    refused("other weights than its checkpoint", lambda: pickle.dumps(twin))
    third = copy.deepcopy(twin)
    forecast(twin)
    assert np.array_equal(forecast(third), forecast(twin)) and not np.array_equal(forecast(third), expected)
    secret = bench.pipeline(token="hf_secret")
    assert b"hf_secret" not in pickle.dumps(secret)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert np.array_equal(pool.map(forecast, [bench.plain])[0], forecast(bench.plain))


def lost_compilation_is_seen(bench: Any) -> None:
    from toto_patcher.runtime import TotoMonitor, warmup

    file = bench.folder / "file"
    file.write_text("")
    before = os.environ.get("TORCHINDUCTOR_CACHE_DIR")
    for folder, cause in ((file / "cache", "NotADirectoryError"), ("/proc/nowhere", "Error")):
        bench.records.clear()
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder)
        try:
            pipeline = bench.pipeline(torch_compile=True)
            found = forecast(pipeline)
        finally:
            os.environ.pop("TORCHINDUCTOR_CACHE_DIR")
            if before is not None:
                os.environ["TORCHINDUCTOR_CACHE_DIR"] = before
        assert np.array_equal(found, forecast(bench.plain)) and not pipeline.compiled
        (warned,) = bench.warnings("torch.compile cannot be used")
        for text in (warned, pipeline.compile_error):
            assert f"TORCHINDUCTOR_CACHE_DIR={folder}" in text and cause in text, text
    # To the gate, to the monitor and to Prometheus.
    monitor = TotoMonitor(pipeline=pipeline)
    text = monitor.to_prometheus()
    assert 'toto_healthy{monitor=""} 0.0' in text and 'toto_compile_lost{monitor=""} 1.0' in text
    assert 'toto_compiled{monitor=""} 0.0' in text
    assert f'toto_profile_info{{monitor="",profile="{pipeline.profile or "unpatched"}"}} 1.0' in text
    for _ in range(5):
        monitor.record(found, 1.0)
    health = monitor.check_health()
    assert not health and health["compiled"] is False and "compilation is lost" in health["reasons"][0]
    gate = warmup.verify_warmup_effectiveness(pipeline, WAVE, num_samples=16, samples_per_batch=16, num_runs=2)
    assert not gate["effective"] and not gate["compiled"] and any("compilation is lost" in r for r in gate["reasons"])
    # A pipeline that was never asked to compile has lost nothing.
    plain = TotoMonitor(pipeline=bench.plain)
    for _ in range(5):
        plain.record(found, 1.0)
    assert plain.check_health() and bench.plain.compile_error is None


def upstreams_path_is_seen(bench: Any) -> None:
    from toto_patcher.runtime import TotoMonitor

    pipeline = bench.pipeline()
    monitor = TotoMonitor(pipeline=pipeline)
    forecast(pipeline)
    assert pipeline.fallbacks == () and 'toto_fallback{monitor=""} 0.0' in monitor.to_prometheus()
    handle = pipeline.model.model.unembed.register_forward_hook(lambda *_: None)
    forecast(pipeline)
    handle.remove()
    expected = 1 if pipeline.profile == "full-graph" else 0
    assert len(pipeline.fallbacks) == expected
    assert f'toto_fallback{{monitor=""}} {expected}.0' in monitor.to_prometheus()


def compiling_after_the_warm_up_is_counted_by_call(bench: Any) -> None:
    from toto_patcher.runtime import TotoMonitor, compilations, warmup

    pipeline = bench.pipeline(torch_compile=True, compile_backend="eager")
    warmup.quick_warmup(pipeline, WAVE, prediction_length=8, num_samples=16, samples_per_batch=16)
    monitor, before = TotoMonitor(pipeline=pipeline), compilations.compiling_calls()
    bench.records.clear()
    for series in (WAVE, WAVE, [WAVE] * 2, [WAVE] * 2, [WAVE] * 4, WAVE):
        monitor.record(pipeline.predict(series, 8, 16, 16), 1.0)
    calls = compilations.compiling_calls() - before
    assert calls == 2 == monitor.check_health()["compiling_calls"], calls
    said = bench.warnings("in a forecast after the warm-up")
    assert said and "series of 1 x 200 points, 8 ahead, 16 samples" in said[0]
    assert 'toto_compiling_calls_total{monitor=""} 2.0' in monitor.to_prometheus()


CHECKS = (
    a_forked_child_forecasts,
    copies_forecast_the_same,
    lost_compilation_is_seen,
    upstreams_path_is_seen,
    compiling_after_the_warm_up_is_counted_by_call,
)
