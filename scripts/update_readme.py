"""Fills the marked blocks of README.md: excerpts of inserted code, and the headline tables of the benchmarks.

Run ``python scripts/update_readme.py``; with ``--check`` it only says whether the file is up to date (exit 1 if not).
"""

from __future__ import annotations

import ast
import re
import sys
import textwrap
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BENCHMARKS = {"benchmark": "graph-breaks", "full-graph": "full-graph"}
"""Marker -> the page of docs/benchmarks whose headline goes there."""
NOT_MEASURED = "Not measured yet.\n"


def excerpt(path: str, function: str) -> str:
    """A function of one of our files as a fenced block, with its decorators and without the class's indentation."""
    source = (ROOT / path).read_text()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef) and node.name == function:
            first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
            lines = source.splitlines()[first - 1 : node.end_lineno]
            return f"```python\n{textwrap.dedent(chr(10).join(lines))}\n```\n"
    raise SystemExit(f"{path} has no function {function}")


def filled(text: str) -> str:
    """README's text with every marked block made anew."""

    def code(match: re.Match[str]) -> str:
        return f"{match[1]}{excerpt(match[2], match[3])}<!-- end -->"

    text = re.sub(r"(<!-- excerpt: (\S+) (\S+) -->\n).*?<!-- end -->", code, text, flags=re.DOTALL)

    def table(match: re.Match[str]) -> str:
        headline = ROOT / "docs" / "benchmarks" / f"{BENCHMARKS[match[2]]}.headline.md"
        return f"{match[1]}{headline.read_text() if headline.exists() else NOT_MEASURED}<!-- end -->"

    names = "|".join(BENCHMARKS)
    return re.sub(rf"(<!-- ({names}) -->\n).*?<!-- end -->", table, text, flags=re.DOTALL)


def main() -> None:
    """Writes README.md, or compares it."""
    old = README.read_text()
    new = filled(old)
    if "--check" in sys.argv:
        sys.exit(0 if new == old else "README.md is not up to date: run python scripts/update_readme.py")
    README.write_text(new)


if __name__ == "__main__":
    main()
