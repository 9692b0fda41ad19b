"""A progress bar over batches of series."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from toto_patcher.runtime.batches import Batch


def tracked(batches: Sequence[Batch], wanted: bool | None) -> Iterable[Batch]:
    """Goes through batches of series and shows on stderr how many series are done.

    Args:
        wanted: by default only on a terminal, and only where there is more than one batch.
    """
    if wanted is None:
        wanted = len(batches) > 1 and sys.stderr.isatty()
    if not wanted:
        yield from batches
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("series"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("series", total=sum(map(len, batches)))
        for batch in batches:
            yield batch
            bar.advance(task, len(batch))
