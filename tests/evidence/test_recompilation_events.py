"""Real compilations, read from their trace and from their log; older wordings and CUDA graphs from synthetic text.

CUDA graphs need a GPU: their messages are written here, in torch's words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.evidence.compiled_programs import LIMIT
from toto_patcher.evidence import causes, compile_text, compile_trace, recompilations
from toto_patcher.evidence.compile_messages import Event
from toto_patcher.evidence.recompilations import Group
from toto_patcher.patching import series

pytestmark = pytest.mark.xdist_group("recompilations")

# (function, kind) -> how often, and why.
EXPECTED = {
    ("list_item", "recompilation"): (LIMIT, "value"),
    ("list_item", "limit"): (1, "value"),
    ("int_argument", "recompilation"): (1, "value"),
    ("size", "recompilation"): (1, "shape"),
    ("dtype", "recompilation"): (1, "dtype"),
    ("rank", "recompilation"): (1, "rank"),
    ("grad_mode", "recompilation"): (1, "global-state"),
    ("inference", "recompilation"): (1, "grad-of-tensor"),
    ("switch", "recompilation"): (1, "global-value"),
    ("optional", "recompilation"): (1, "none-or-tensor"),
    ("kind", "recompilation"): (2, "type"),
    ("called", "recompilation"): (1, "object"),
    ("same", "recompilation"): (1, "aliasing"),
    ("reads", "break"): (1, "host-read"),
    ("decides", "break"): (1, "data-dependent-branch"),
    ("prints", "break"): (1, "untraceable-call"),
    ("asks", "break"): (1, "break-by-hand"),
}


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``trace/`` and ``log``: what one process left."""
    folder = tmp_path_factory.mktemp("compiled")
    wanted = {"TORCH_TRACE": str(folder / "trace"), "TORCH_LOGS": "recompiles,graph_breaks,cudagraphs"}
    with (folder / "log").open("w") as log:
        command = [sys.executable, "-m", "tests.evidence.compiled_programs"]
        subprocess.run(command, check=True, stderr=log, env={**os.environ, **wanted}, cwd=Path(__file__).parents[2])
    return folder


def by_function(groups: Iterable[Group]) -> dict[tuple[str | None, str], tuple[int, str]]:
    found: dict[tuple[str | None, str], tuple[int, str]] = {}
    for one in groups:
        count, cause = found.get((one.function, one.kind), (0, one.cause.id))
        found[one.function, one.kind] = (count + one.count, cause)
    return found


def test_every_known_reason_is_found_in_the_trace(compiled: Path) -> None:
    trace = compile_trace.read_folder(compiled / "trace")
    groups = recompilations.group(trace.events)
    assert by_function(groups) == EXPECTED
    assert trace.damaged == 0 and trace.torch and trace.compilations > len(EXPECTED) and trace.seconds > 0
    first = groups[0]
    assert (first.kind, first.guard) == ("limit", f"lengths[0] == {LIMIT - 1}")
    assert first.file and first.file.endswith("compiled_programs.py") and first.line
    assert groups[1].examples == tuple(f"lengths[0] == {i}" for i in range(LIMIT))
    assert all(one.seconds is not None for one in groups if one.kind == "recompilation")


ESC = "\033"


def words_alone(line: str) -> str:
    return line.partition("[__recompiles] ")[2] or line.partition("[__graph_breaks] ")[2] or line


PREFIXES: dict[str, Callable[[str], str]] = {
    "as it is": lambda line: line,
    "distributed": lambda line: f"[rank3]:{line}" if line[:1] in "VIW" and "] " in line else line,
    "plain": words_alone,
    "CRLF": lambda line: line + "\r",
    "coloured line": lambda line: f"{ESC}[33m{line}{ESC}[0m",
    "coloured words": lambda line: line.replace("[", f"{ESC}[1;38:5:208m[").replace(" ", f" {ESC}[K{ESC}(B"),
    "links and titles": lambda line: f"{ESC}]8;;file:///a b{ESC}\\{line}{ESC}]8;;{ESC}\\{ESC}]0;title\a",
    "8-bit controls": lambda line: f"\x9b33m{line}\x9b0m",
    "compose": lambda line: f"{ESC}[36mweb-1  | {ESC}[0m{line}",
    "compose, plain": lambda line: f"web-1  | {words_alone(line)}",
    "compose, distributed": lambda line: f"web-1  | [rank3]:{line}" if line[:1] in "VIW" else f"web-1  | {line}",
    "kubectl": lambda line: f"[pod/web-1/app] 2026-01-05T10:11:12.{abs(hash(line)) % 10**9:09}Z {line}",
    "journal": lambda line: f"Jan 05 10:11:{abs(hash(line)) % 60:02} host python[77]: {line}",
}


@pytest.mark.parametrize("form", PREFIXES)
def test_a_log_says_the_same_as_the_trace(form: str, compiled: Path) -> None:
    lines = (compiled / "log").read_text().splitlines()
    log = compile_text.read(PREFIXES[form](line) + "\n" for line in lines)
    entries = [
        [one.entry() | {"seconds": None} for one in recompilations.group(events)]
        for events in (log.events, compile_trace.read_folder(compiled / "trace").events)
    ]
    assert entries[0] == entries[1]
    assert log.from_torch > len(EXPECTED)


def edited(compiled: Path, folder: Path, change: Callable[[dict[str, object]], dict[str, object] | None]) -> Path:
    """A copy of the trace in which each record was changed or left out, with its payload."""
    [original] = (compiled / "trace").iterdir()
    kept = True
    with (folder / original.name).open("w") as out, original.open() as lines:
        for line in lines:
            if not line.startswith("\t"):
                prefix, _, text = line.partition("] ")
                record = change(json.loads(text))
                kept = record is not None
                line = f"{prefix}] {json.dumps(record)}\n"
            if kept:
                out.write(line)
    return folder


def without(*names: str) -> Callable[[dict[str, object]], dict[str, object] | None]:
    def change(record: dict[str, object]) -> dict[str, object] | None:
        artifact = record.get("artifact")
        own = artifact["name"] if isinstance(artifact, dict) else next(iter(record))
        return None if own in names else record

    return change


@pytest.mark.parametrize("missing", ["dynamo_start", "recompile_reasons", "torch_version", "str"])
def test_a_trace_of_another_release_may_lack_events(missing: str, compiled: Path, tmp_path: Path) -> None:
    trace = compile_trace.read_folder(edited(compiled, tmp_path, without(missing)))
    assert by_function(recompilations.group(trace.events)) == EXPECTED


def test_recompilations_without_a_reason_are_counted_and_their_cause_is_unknown(compiled: Path, tmp_path: Path) -> None:
    def change(record: dict[str, object]) -> dict[str, object] | None:
        metrics = record.get("compilation_metrics")
        if isinstance(metrics, dict):
            metrics.pop("recompile_reason")
        return without("recompile_reasons")(record)

    groups = recompilations.group(compile_trace.read_folder(edited(compiled, tmp_path, change)).events)
    again = [one for one in groups if one.kind == "recompilation"]
    assert sum(one.count for one in again) == sum(
        n for (_, kind), (n, _) in EXPECTED.items() if kind == "recompilation"
    )
    assert {one.cause for one in again} == {causes.UNKNOWN} and {one.guard for one in again} == {""}


def test_a_trace_that_was_cut_off_keeps_what_came_before(compiled: Path, tmp_path: Path) -> None:
    [original] = (compiled / "trace").iterdir()
    (tmp_path / original.name).write_bytes(original.read_bytes()[:-30])
    trace = compile_trace.read_folder(tmp_path)
    assert trace.damaged <= 1 and by_function(recompilations.group(trace.events))["list_item", "limit"][0] == 1


# -- wordings that this torch does not have, and messages that need a GPU ------------------------------------------


def only(text: str) -> Event:
    [event] = compile_text.read(text.splitlines(keepends=True)).events
    return event


def test_the_wording_of_torch_2_7() -> None:
    prefix = "V0228 06:21:59.413000 886349 torch/_dynamo/guards.py:2940] [4/6] [__recompiles]"
    event = only(
        f"{prefix} Recompiling function forward in /srv/toto/model/attention.py:61\n"
        f"{prefix}     triggered by the following guard failure(s):\n"
        f"{prefix}     - 4/5: L['kv_cache']._current_idx[0] == 2            \n"
        f"{prefix}     - 4/4: tensor 'L['x'][0]' size mismatch at index 2. expected 40, actual 20\n"
    )
    assert (event.function, event.file, event.line) == ("forward", "/srv/toto/model/attention.py", 61)
    assert event.text == "L['kv_cache']._current_idx[0] == 2" and len(event.others) == 1
    assert causes.cause_of(event).patches == ("kv-cache-tensor-index",)


@pytest.mark.parametrize("limit", ["recompile_limit", "cache_size_limit", "accumulated_recompile_limit"])
def test_the_limit_under_each_of_its_names(limit: str) -> None:
    event = only(
        f"W0110 12:27:06.332000 158 torch/_dynamo/convert_frame.py:1] [2/8] torch._dynamo hit config.{limit} (8)\n"
        "W0110 12:27:06.332000 158 torch/_dynamo/convert_frame.py:1] [2/8]    function: 'append' (/a b/util.py:62)\n"
        "W0110 12:27:06.332000 158 torch/_dynamo/convert_frame.py:1] [2/8]    last reason: 2/7: n == 3  # f(n)\n"
        "W0110 12:27:06.332000 158 torch/_dynamo/convert_frame.py:1] [2/8] To log all recompilation reasons, use x.\n"
    )
    assert (event.kind, event.function, event.file, event.line) == ("limit", "append", "/a b/util.py", 62)
    assert (event.limit, event.text) == (limit, "n == 3")


SKIPS = {
    'mutated inputs (2 instances). Found from : \n   File "/t/toto/model/util.py", line 205, in append\n'
    "    self._keys[cache_idx, :, start_idx:end_idx] = keys": "cache-written-in-graph",
    "mutated inputs (1 instances)": "mutated-inputs",
    'skipping cudagraphs due to cpu device (primals_88). Found from : \n File "/a.py", line 1, in f': "cpu-in-graph",
    "multiple devices: device(type='cuda', index=0), device(type='cuda', index=1)": "cpu-in-graph",
    "['incompatible ops']": "incompatible-operator",
    "function 3 exceeding max re-recording limit (=50) on cudagraph node 2 due to static input data pointer changed.": (
        "moving-address"
    ),
    "a reason of 2031": "unknown",
}


@pytest.mark.parametrize("reason", SKIPS)
@pytest.mark.parametrize("artifact", [" [0/0] [__cudagraphs]", " [__perf_hints]", ""])
def test_skipped_cuda_graphs(artifact: str, reason: str) -> None:
    prefix = f"W1121 12:30:44.700000 29 torch/_inductor/cudagraph_utils.py:380]{artifact} "
    event = only("".join(prefix + line + "\n" for line in f"skipping cudagraphs due to {reason}".split("\n")))
    assert event.kind == "skip" and "Found" not in event.text and not event.text.startswith("skipping")
    assert causes.cause_of(event).id == SKIPS[reason]


def test_a_cuda_graph_for_every_size() -> None:
    event = only(
        "CUDAGraph supports dynamic shapes by recording a new graph for each distinct input size. Recording too many "
        "CUDAGraphs may lead to extra overhead. We have observed 9 distinct sizes. Please consider the following\n"
    )
    assert (event.kind, causes.cause_of(event).id) == ("sizes", "many-sizes") and "9 distinct" in event.text


def test_mixed_lines_of_two_ranks_are_told_apart_and_those_of_the_program_are_left_out() -> None:
    def lines(rank: int) -> list[str]:
        prefix = f"[rank{rank}]:V1121 12:30:44.700000 2{rank} torch/_dynamo/guards.py:5] [0/1] [__recompiles]"
        return [
            f"{prefix} Recompiling function f{rank} in /p.py:8",
            f"{prefix}     triggered by the following guard failure(s):",
            f"{prefix}     - 0/0: n == {rank + 2}",
        ]

    mixed = [
        line for pair in zip(lines(0), lines(1), ["step 1", "- 0/0: loss == 3", "done"], strict=True) for line in pair
    ]
    events = compile_text.read(mixed).events
    assert [(event.function, event.text) for event in events] == [("f0", "n == 2"), ("f1", "n == 3")]


def test_mixed_lines_of_two_containers_are_told_apart() -> None:
    def lines(container: int) -> list[str]:
        prefix = f"{ESC}[36mweb-{container}  | {ESC}[0mV0105 10:11:12.00000{container} 7 torch/_dynamo/guards.py:5396] "
        return [
            f"{prefix}[0/1] [__recompiles] Recompiling function f{container} in /srv/app/model.py:40",
            f"{prefix}[0/1] [__recompiles]     triggered by the following guard failure(s):",
            f"{prefix}[0/1] [__recompiles]     - 0/0: n == {container}",
        ]

    mixed = [line for pair in zip(lines(2), lines(3), strict=True) for line in pair]
    events = compile_text.read(mixed).events
    assert [(event.function, event.text) for event in events] == [("f2", "n == 2"), ("f3", "n == 3")]


@pytest.mark.parametrize("guard", ["___check_the_moon(L['x'])", "Unable to find recompilation reasons", ""])
def test_what_is_not_in_the_table_is_said_to_be_unknown(guard: str) -> None:
    cause = causes.cause_of(Event("recompilation", guard, "f"))
    assert cause is causes.UNKNOWN and not cause.patches and cause.command is None


def test_a_skipped_frame_is_not_counted_on_top_of_its_break() -> None:
    events = [Event("break", "r", "f", "/p.py", 7), Event("break", "frame", "f", "/p.py", 7, skipped=True)]
    assert [one.count for one in recompilations.group(events)] == [1]
    assert [one.count for one in recompilations.group(events[1:])] == [1]


def test_every_cure_names_patches_and_profiles_of_the_series() -> None:
    loaded = series.load()
    ids, profiles = {patch.id for patch in loaded.patches}, loaded.profiles()
    for cause in causes.CAUSES:
        assert set(cause.patches) <= ids, cause.id
        if cause.profile is not None:
            assert set(cause.patches) <= {patch.id for patch in profiles[cause.profile]}, cause.id
        assert bool(cause.patches) == (cause.profile is not None), cause.id
        for name in ("graph-breaks", "full-graph"):
            assert name in profiles or name not in cause.cure
    assert len({cause.id for cause in causes.CAUSES} | {"unknown"}) == len(causes.CAUSES) + 1
