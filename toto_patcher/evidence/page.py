"""Generates the benchmarks' pages and pictures: ``python -m toto_patcher.evidence.page docs/benchmarks``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from toto_patcher.evidence import page_full_graph, page_graph_breaks
from toto_patcher.evidence.page_parts import Documents


@dataclass(frozen=True)
class Target:
    """One page: ``NAME*.json`` -> ``NAME.md``, ``NAME.headline.md`` and a picture of each document.

    Attributes:
        render: the whole page, from documents by file name and the pictures' names. Same documents, same text.
        headline: the small table that the README embeds.
        logarithmic: the pictures' axis of time.
    """

    name: str
    render: Callable[[Documents, Sequence[str]], str]
    headline: Callable[[Documents], str]
    logarithmic: bool = False


TARGETS = (
    Target("graph-breaks", page_graph_breaks.render, page_graph_breaks.headline),
    Target("full-graph", page_full_graph.render, page_full_graph.headline, logarithmic=True),
)


def load(folder: Path, name: str = TARGETS[0].name) -> Documents:
    """The benchmark documents of a page by file name: those of GPUs first, otherwise by name."""
    found = [(path, json.loads(path.read_text())) for path in folder.glob(f"{name}*.json")]
    found.sort(key=lambda each: (each[1]["settings"]["device"] != "cuda", each[0].stem))
    return {path.name: document for path, document in found}


def texts(folder: Path, target: Target) -> dict[Path, str | None]:
    """What page and headline are to say; ``None``, there is to be no such file, as long as nothing was measured."""
    documents = load(folder, target.name)
    page, headline = folder / f"{target.name}.md", folder / f"{target.name}.headline.md"
    if not documents:
        return {page: None, headline: None}
    plots = [f"{Path(name).stem}.png" for name in documents]
    return {page: target.render(documents, plots), headline: target.headline(documents)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes pages, headlines and plots; with ``--check`` compares the texts instead."""
    parser = argparse.ArgumentParser(prog="page", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--check", action="store_true", help="exit 1 if the texts are not what the documents give")
    parser.add_argument("--no-plots", action="store_true")
    options = parser.parse_args(arguments)
    wanted = {path: text for target in TARGETS for path, text in texts(options.folder, target).items()}
    if options.check:
        stale = [path.name for path, text in wanted.items() if (path.read_text() if path.is_file() else None) != text]
        print(f"stale: {', '.join(stale)}" if stale else "up to date")
        return 1 if stale else 0
    for path, text in wanted.items():
        if text is None:
            path.unlink(missing_ok=True)
        else:
            path.write_text(text)
    for target in () if options.no_plots else TARGETS:
        from toto_patcher.evidence.plots import draw

        for name, document in load(options.folder, target.name).items():
            draw(document, (options.folder / name).with_suffix(".png"), logarithmic=target.logarithmic)
    return 0


if __name__ == "__main__":
    sys.exit(main())
