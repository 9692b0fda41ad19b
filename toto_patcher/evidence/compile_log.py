"""Counts what torch.compile did: graphs, breaks, recompilations, limit hits, skipped CUDA graphs.

Counters come from ``torch._dynamo.utils.counters``; recompilations, limit hits and skip messages from torch's own log
records, because a counter for them does not exist in every release from 2.7 on.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from toto_patcher.evidence import compile_messages

_LOGGERS = (
    "torch._dynamo.guards.__recompiles",
    "torch._dynamo.convert_frame",
    "torch._inductor.cudagraph_utils.__cudagraphs",
    "torch._inductor.cudagraph_utils.__perf_hints",
    "torch._inductor.compile_fx.__perf_hints",
    "torch._inductor.output_code.__perf_hints",
    "torch._inductor.cudagraph_trees",
)


class _Collector(logging.Handler):
    def __init__(self, log: CompileLog) -> None:
        super().__init__(logging.DEBUG)
        self.log = log

    def emit(self, record: logging.LogRecord) -> None:
        self.log.add(record.getMessage())


@dataclass
class CompileLog:
    """Everything torch said about compilation in this process since ``install``.

    Attributes:
        hide: path prefix to cut from messages, so that results name no folder of the machine.
    """

    hide: str = ""
    recompilations: Counter[str] = field(default_factory=Counter)
    reasons: list[str] = field(default_factory=list)
    limit_hits: Counter[str] = field(default_factory=Counter)
    skips: Counter[str] = field(default_factory=Counter)
    recordings: int = 0
    """CUDA graphs recorded, by torch.compile or by anybody else."""

    @classmethod
    def install(cls, hide: str = "") -> CompileLog:
        """Turns on the two log artifacts needed and collects their records; nothing is printed."""
        from torch._logging._internal import set_logs

        set_logs(recompiles=True, perf_hints=True)
        log = cls(hide)
        handler = _Collector(log)
        for name in _LOGGERS:
            logger = logging.getLogger(name)
            logger.addHandler(handler)
        log._count_recordings()
        return log

    def _count_recordings(self) -> None:
        import torch

        if not torch.cuda.is_available():
            return
        begin = torch.cuda.CUDAGraph.capture_begin

        def counted(graph: Any, *args: Any, **kwargs: Any) -> Any:
            self.recordings += 1
            return begin(graph, *args, **kwargs)

        torch.cuda.CUDAGraph.capture_begin = counted  # type: ignore[assignment,method-assign]

    def add(self, message: str) -> None:
        """Files one log message under what it reports."""
        event = compile_messages.read(message.replace(self.hide, "") if self.hide else message)
        if event is None:
            return
        if event.kind == "recompilation":
            place = f"{(event.file or '').rpartition('/')[2]}:{event.line}"
            self.recompilations[f"{event.function} ({place})"] += 1
            self.reasons.append(f"{event.function} in {event.file}:{event.line}: {event.text}"[:300])
        elif event.kind == "limit":
            self.limit_hits[event.function or "?"] += 1
        elif event.kind == "skip":
            self.skips[f"skipping cudagraphs due to {event.text}"[:200]] += 1

    def snapshot(self) -> dict[str, Any]:
        """Totals so far, as plain numbers; take two and subtract."""
        from torch._dynamo.utils import counters

        return {
            "graphs": int(counters["stats"].get("unique_graphs", 0)),
            "graph_breaks": int(sum(counters["graph_break"].values())),
            "break_reasons": len(counters["graph_break"]),
            "recompilations": sum(self.recompilations.values()),
            "limit_hits": sum(self.limit_hits.values()),
            "cudagraph_skips": int(counters["inductor"].get("cudagraph_skips", 0)),
            "recordings": self.recordings,
        }

    def details(self) -> dict[str, Any]:
        """What was recompiled, where the limit was hit, why CUDA graphs were skipped."""
        from torch._dynamo.utils import counters

        return {
            "recompiled": dict(self.recompilations.most_common(12)),
            "reasons": self.reasons[-6:],
            "limit_hit_in": dict(self.limit_hits),
            "skip_messages": dict(self.skips.most_common(5)),
            "graph_break_reasons": {
                " ".join(reason.split())[:160]: count for reason, count in counters["graph_break"].most_common(12)
            },
        }
