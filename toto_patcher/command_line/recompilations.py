"""``toto-patch recompilations``: its options, and the call."""

from __future__ import annotations

from pathlib import Path

import click

from toto_patcher import invocation
from toto_patcher.invocation import document_options


@click.command()
@click.argument("words", nargs=-1, metavar="[LOG | -- CMD...]")
@click.option(
    "--trace", type=click.Path(path_type=Path), metavar="DIR", help="A folder that TORCH_TRACE=DIR made a program fill."
)
@click.option("--run", "run_it", is_flag=True, help="Run the command that follows (after --) and analyse it.")
@document_options
def recompilations(words: tuple[str, ...], trace: Path | None, run_it: bool, file: Path | None) -> None:
    """Say what torch.compile compiled again, why, and which patch or setting cures it.

    \b
    toto-patch recompilations --run -- python serve.py   runs it; the surest
    TORCH_TRACE=traces python serve.py                   or leave a trace
    toto-patch recompilations --trace traces             and read it
    \b
    Last, a text log, which may be incomplete (torch logs to stderr):
    TORCH_LOGS=recompiles,graph_breaks,cudagraphs python serve.py 2> compile.log
    toto-patch recompilations compile.log
    \b
    TORCH_LOGS, comma-separated, before torch is imported:
    recompiles           the guard that failed, for each recompilation
    recompiles_verbose   all of them, not only the first
    graph_breaks         where and why a graph ended
    cudagraphs           CUDA graphs recorded and skipped (skips: anyway)
    perf_hints           the same, in older releases; and padding, fallbacks
    Limits that were hit are logged anyway.

    Exit status: 0 nothing was compiled again (graph breaks alone are 0), 1 recompilations, limits hit, CUDA graphs
    skipped, or the command failed, 2 no log, or none of torch's.
    """
    if (trace is not None) + run_it + (bool(words) and not run_it) != 1 or (len(words) > 1 and not run_it):
        taken = f" --json took {file} for the file to write: put the LOG first." if file and not words else ""
        raise click.UsageError(f"Give one of: a LOG, --trace DIR, or --run with a command.{taken}")
    if run_it and not words:
        raise click.UsageError("--run needs a command: --run -- python serve.py")
    from toto_patcher.evidence import recompilations_run as found

    found.require_folder(file)
    if run_it:
        result = found.run(words, stdout_free=invocation.settings().json)
    elif trace is not None:
        result = found.analyse_trace(trace)
    else:
        result = found.analyse_log(Path(words[0]))
    invocation.done(found.keep(result, file))
