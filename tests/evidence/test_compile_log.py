import logging

import pytest

from toto_patcher.evidence.compile_log import CompileLog

RECOMPILED = """Recompiling function forward in /home/me/tree/toto/model/attention.py:189
    triggered by the following guard failure(s):
    - 6/0: kv_cache._current_idx[0] == 8                         # return self.x  # toto/model/util.py:4 in seq_len"""
LIMIT = """torch._dynamo hit config.recompile_limit (8)
   function: 'forward' (/home/me/tree/toto/model/attention.py:189)
   last reason: 6/7: kv_cache._current_idx[0] == 15"""


def test_recompilations_are_counted_per_function_without_the_machines_folders() -> None:
    log = CompileLog(hide="/home/me/tree/")
    log.add(RECOMPILED)
    log.add(RECOMPILED)
    assert log.recompilations == {"forward (attention.py:189)": 2}
    assert log.snapshot()["recompilations"] == 2
    assert "/home" not in str(log.details())
    assert log.reasons[0].endswith("kv_cache._current_idx[0] == 8")


@pytest.mark.parametrize("limit", ["recompile_limit", "cache_size_limit"])
def test_hitting_the_limit_is_counted_and_is_no_recompilation(limit: str) -> None:
    log = CompileLog()
    log.add(LIMIT.replace("recompile_limit", limit))
    assert log.limit_hits == {"forward": 1}
    assert log.snapshot()["limit_hits"] == 1 and log.snapshot()["recompilations"] == 0


def test_skipped_cuda_graphs_keep_their_message() -> None:
    log = CompileLog()
    log.add("skipping cudagraphs due to mutated inputs (2 instances). Found from : ...")
    assert log.details()["skip_messages"] == {"skipping cudagraphs due to mutated inputs (2 instances)": 1}


def test_other_messages_count_for_nothing() -> None:
    log = CompileLog()
    log.add("Reusing something: nothing to see")
    assert not log.recompilations and not log.limit_hits and not log.skips


def test_real_recompilations_and_a_real_limit_hit_are_seen() -> None:
    """Against torch itself, so that a changed log name or wording shows here."""
    import torch

    log = CompileLog.install()

    def shifted(x: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        return x + 1 if lengths[0] % 2 else x - lengths[0]

    torch._dynamo.reset()
    compiled = torch.compile(shifted, backend="eager", dynamic=False)
    try:
        for length in range(torch._dynamo.config.recompile_limit + 2):
            compiled(torch.ones(2), [length])
    finally:
        torch._dynamo.reset()
        torch._logging._internal.set_logs()
        for name in list(logging.root.manager.loggerDict):
            for handler in list(logging.getLogger(name).handlers):
                if getattr(handler, "log", None) is log:
                    logging.getLogger(name).removeHandler(handler)
    seen = log.snapshot()
    # The attempt that hits the limit is announced as a recompilation too.
    assert seen["recompilations"] == torch._dynamo.config.recompile_limit
    assert sum(log.limit_hits.values()) == 1
