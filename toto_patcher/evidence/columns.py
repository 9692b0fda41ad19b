"""One column of numbers out of the text of a CSV file."""

from __future__ import annotations

import csv
import io
import math
from pathlib import PurePath

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError

MISSING = frozenset({"", "na", "n/a", "nan", "null", "none", "."})
"""Cells that stand for a missing value, in any case."""

DELIMITERS = ",;\t"
EXPECTED = "Give a text file with a line of column names, then a line for each step, the oldest first."


def read_column(text: str, column: str, path: PurePath | str) -> npt.NDArray[np.float64]:
    """The values of a column, NaN where one is missing.

    Args:
        text: of the file; its first line names the columns. Commas, semicolons or tabs separate them.
        column: its name; where no column has it, capitals do not matter.
        path: what errors name.

    Returns:
        Shape (rows,).

    Raises:
        InputError: nothing but a header or less, no such column, or a cell that is no finite number.
    """
    first = text.split("\n", 1)[0]
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=max(DELIMITERS, key=first.count))
    header = [name.strip() for name in next(reader, [])]
    if not any(header):
        raise InputError("the CSV file is empty", path=path, hint=EXPECTED)
    place = _place(header, column, path)
    values = []
    try:
        for row in reader:
            if row:
                values.append(_number(row[place] if place < len(row) else "", column, path, reader.line_num))
    except csv.Error as error:
        raise InputError(f"is no CSV file: {error}", path=path, line=reader.line_num, hint=EXPECTED) from error
    if not values:
        raise InputError("the CSV file has a header and no values", path=path, hint=EXPECTED)
    return np.array(values)


def _place(header: list[str], column: str, path: PurePath | str) -> int:
    if column in header:
        return header.index(column)
    loose = [number for number, name in enumerate(header) if name.lower() == column.lower()]
    if len(loose) == 1:
        return loose[0]
    raise InputError(
        f"there is no column {column}; there are: {', '.join(name for name in header if name)}",
        path=path,
        line=1,
        hint="Name one of them with --column.",
    )


def _number(cell: str, column: str, path: PurePath | str, line: int) -> float:
    if cell.strip().lower() in MISSING:
        return math.nan
    try:
        value = float(cell)
    except ValueError:
        value = math.inf
    if not math.isfinite(value):
        message = f"column {column} holds {cell.strip()[:40]!r}, which is no finite number"
        raise InputError(message, path=path, line=line, hint="Leave the cell empty where there is no value.")
    return value
