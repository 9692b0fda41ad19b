"""Real series to forecast: those that installed packages ship as data files, and columns of CSV files.

The files are read where the package lies; the package is not imported, so nothing it needs has to be there either
(``pip install --no-deps pmdarima backtesting`` is enough) and reading takes milliseconds. Nothing is downloaded.

Missing values inside a series are interpolated linearly between their neighbours, and those before the first and after
the last value are left off: 59 weeks of ``co2`` are such gaps, the other shipped series have none.
"""

from __future__ import annotations

import ast
import csv
import importlib.util
import io
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError, UsageError
from toto_patcher.evidence.columns import EXPECTED, read_column

Kind = Literal["price", "load", "climate", "other"]
Values = npt.NDArray[np.float32]

HOUR, DAY = 3600, 86_400
MONTH, YEAR = 2_629_746, 31_556_952  # of the Gregorian calendar, on average


@dataclass(frozen=True)
class Series:
    """One univariate series at equal steps.

    Attributes:
        values: shape (length,), finite.
        season: steps after which it repeats; 1 where it does not, as prices.
        interval_seconds: length of a step, nominal: a trading day counts as a day.
        source: the package and its data set, or the file's name, and the column.
    """

    name: str
    values: Values
    season: int
    interval_seconds: int
    source: str
    kind: Kind


@dataclass(frozen=True)
class _Shipped:
    package: str
    file: str
    read: Callable[[Path], npt.NDArray[np.float64]]
    season: int
    interval_seconds: int
    kind: Kind
    what: str


def _column(name: str) -> Callable[[Path], npt.NDArray[np.float64]]:
    return lambda path: read_column(path.read_text(encoding="utf-8"), name, path.name)


def _packed_column(name: str) -> Callable[[Path], npt.NDArray[np.float64]]:
    def read(path: Path) -> npt.NDArray[np.float64]:
        with tarfile.open(path) as archive:
            member = archive.extractfile(archive.getnames()[0])
            assert member is not None
            return read_column(member.read().decode(), name, path.name)

    return read


def _months(path: Path) -> npt.NDArray[np.float64]:
    """A row a year: the year, then twelve values."""
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))[1:]
    return np.array([[float(cell) for cell in row[1:13]] for row in rows]).reshape(-1)


def _literal(path: Path) -> npt.NDArray[np.float64]:
    """The longest list of numbers written out in a Python source."""
    lists = [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, ast.List)]
    return np.array(ast.literal_eval(max(lists, key=lambda node: len(node.elts))), dtype=np.float64)


_STATSMODELS, _PMDARIMA, _BACKTESTING = "statsmodels", "pmdarima", "backtesting"
_SHIPPED = {
    "taylor": _Shipped(
        _PMDARIMA, "datasets/taylor.py", _literal, 48, HOUR // 2, "load", "demand for electricity, England, half-hourly"
    ),
    "msft": _Shipped(
        _PMDARIMA, "datasets/data/msft.tar.gz", _packed_column("Close"), 1, DAY, "price", "Microsoft, daily close"
    ),
    "eurusd": _Shipped(
        _BACKTESTING, "test/EURUSD.csv", _column("Close"), 1, HOUR, "price", "euro in US dollars, hourly close"
    ),
    "goog": _Shipped(_BACKTESTING, "test/GOOG.csv", _column("Close"), 1, DAY, "price", "Google, daily close"),
    "co2": _Shipped(
        _STATSMODELS, "datasets/co2/co2.csv", _column("co2"), 52, 7 * DAY, "climate", "CO2 at Mauna Loa, weekly, ppm"
    ),
    "elnino": _Shipped(
        _STATSMODELS, "datasets/elnino/elnino.csv", _months, 12, MONTH, "climate", "sea surface, monthly, degrees C"
    ),
    "sunspots": _Shipped(
        _STATSMODELS, "datasets/sunspots/sunspots.csv", _column("SUNACTIVITY"), 11, YEAR, "climate", "sunspots, yearly"
    ),
    "nile": _Shipped(
        _STATSMODELS, "datasets/nile/nile.csv", _column("volume"), 1, YEAR, "climate", "flow of the Nile, yearly"
    ),
}
NAMES = tuple(_SHIPPED)


def packages() -> dict[str, str]:
    """Name of each series -> the package that ships it, whether or not it is installed."""
    return {name: shipped.package for name, shipped in _SHIPPED.items()}


def available() -> dict[str, bool]:
    """Name of each series -> whether its file is there."""
    return {name: _file(shipped) is not None for name, shipped in _SHIPPED.items()}


def load(names: Sequence[str] = ()) -> list[Series]:
    """The series of these names, in their order; without names, all that are available.

    Raises:
        UsageError: there is no such series, or the package that ships it is not installed; without names, if there is
            none at all.
    """
    unknown = [name for name in names if name not in _SHIPPED]
    if unknown:
        raise UsageError(f"there is no series {', '.join(unknown)}", hint=f"There are: {', '.join(NAMES)}.")
    found = {name: path for name in names or NAMES if (path := _file(_SHIPPED[name])) is not None}
    absent = [name for name in names or NAMES if name not in found]
    if absent and (names or not found):
        wanted = sorted({_SHIPPED[name].package for name in absent})
        raise UsageError(
            f"the series {', '.join(absent)} {'comes' if len(absent) == 1 else 'come'} with {' and '.join(wanted)}, "
            "which this Python does not have",
            hint=f"pip install --no-deps {' '.join(wanted)}",
        )
    return [_load(name, path) for name, path in found.items()]


def from_csv(
    path: Path, column: str = "close", *, minimum: int = 2, season: int = 1, interval_seconds: int = DAY
) -> Series:
    """One column of a CSV file with a header; the oldest value comes first.

    Args:
        column: its name; where no column has it, capitals do not matter.
        minimum: values that there must be.
        season: and ``interval_seconds``: what the file does not say.

    Raises:
        InputError: the file cannot be read or is empty, there is no such column (the message names those that exist), a
            value is not a number or infinite (with its line), or there are too few.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        hint = "Name a file that exists and may be read."
        raise InputError(f"the CSV file cannot be read: {error.strerror}", path=path, hint=hint) from error
    except UnicodeDecodeError as error:
        raise InputError("is no CSV file: it is not text in UTF-8", path=path, hint=EXPECTED) from error
    values = fill_gaps(read_column(text, column, path))
    if values.size < minimum:
        raise InputError(
            f"column {column} has {values.size} values, and {minimum} are needed",
            path=path,
            hint="Give a longer series, or ask for a shorter context and horizon, or fewer origins.",
        )
    source = f"{path.name}, column {column}"
    return Series(path.stem, values.astype(np.float32), season, interval_seconds, source, "other")


def fill_gaps(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """NaN between two values becomes a point on the line between them; at the ends it is left off."""
    known = np.flatnonzero(~np.isnan(values))
    if known.size == 0:
        return values[:0]
    inside = np.arange(known[0], known[-1] + 1)
    return np.interp(inside, known, values[known])


def _file(shipped: _Shipped) -> Path | None:
    """Where the package keeps the file. A top-level package is found without being imported."""
    spec = importlib.util.find_spec(shipped.package)
    folders = [] if spec is None else spec.submodule_search_locations or []
    return next((path for folder in folders if (path := Path(folder, shipped.file)).is_file()), None)


def _load(name: str, path: Path) -> Series:
    shipped = _SHIPPED[name]
    values = fill_gaps(shipped.read(path)).astype(np.float32)
    source = f"{shipped.package}: {shipped.what}"
    return Series(name, values, shipped.season, shipped.interval_seconds, source, shipped.kind)
