"""Whatever holds numbers, as one float64 array in which NaN stands for a missing value."""

from __future__ import annotations

import numbers
from collections.abc import Iterable
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt

from toto_patcher.errors import InputError

Array = npt.NDArray[np.float64]
KEPT = 2.0**-10
"""Rounding that is lost in the noise: this share of a series' spread."""
_WAY_OUT = "Convert it first, as in pd.to_numeric(df[column]); NaN stands for a missing value."


def to_numbers(given: Any, where: str) -> Array:
    """The values, in the shape given; of a DataFrame the columns are the rows.

    Masked entries, ``None``, ``pd.NA`` and nulls are NaN. Booleans are 0 and 1. Text is refused, also where it would
    spell a number: so is what float64 cannot tell apart.

    Raises:
        InputError: it holds something else, and where.
    """
    try:
        return _read(given, where)
    except InputError:
        raise
    except Exception as error:  # of torch, pandas, polars, NumPy, or of a type that nobody here has seen
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"{where}: is not an array of numbers: {reason[0]}", hint=_WAY_OUT) from error


def library(value: Any) -> str:
    """The top-level package of a value's type."""
    return type(value).__module__.partition(".")[0]


def is_pandas(value: Any) -> bool:
    """Whether it is a Series, a DataFrame or an Index of pandas."""
    return library(value) == "pandas" and hasattr(value, "to_numpy")


def _read(given: Any, where: str) -> Array:
    if hasattr(given, "detach"):  # a tensor, from whatever device, in whatever precision
        tensor = given.detach().to("cpu")
        return _of_array((tensor.double() if tensor.is_floating_point() else tensor).numpy(), where)
    if isinstance(given, np.ma.MaskedArray):
        hidden = np.ma.getmaskarray(given)
        values = _of_array(np.where(hidden, 0, np.ma.getdata(given)), where)
        values[hidden] = np.nan
        return values
    if getattr(given, "ndim", 0) == 2 and is_pandas(given):
        return _stacked((given.iloc[:, column] for column in range(given.shape[1])), where)
    if library(given) == "polars" and hasattr(given, "get_columns"):
        return _stacked(given.get_columns(), where)
    if isinstance(given, (list, tuple)) and any(_is_row(row) for row in given):
        return _stacked(given, where)
    if library(given) in ("pandas", "polars") and hasattr(given, "to_numpy"):
        given = _of_column(given)
    return _of_array(np.asarray(given), where)


def _is_row(value: Any) -> bool:
    return isinstance(value, (list, tuple)) or getattr(value, "ndim", 0) > 0 or library(value) == "polars"


def _stacked(rows: Iterable[Any], where: str) -> Array:
    read = [to_numbers(row, f"{where}, row {number}") for number, row in enumerate(rows)]
    if len({row.shape for row in read}) > 1:
        raise InputError(f"{where}: its rows are of the lengths {', '.join(str(row.shape[-1]) for row in read)}")
    return np.stack(read)


def _of_column(column: Any) -> npt.NDArray[Any]:
    """A column of pandas or polars as NumPy has it; nullable types keep their numbers."""
    found: npt.NDArray[Any]
    if library(column) == "polars":
        values = column.to_list() if column.dtype.is_nested() or column.dtype.is_decimal() else column.to_numpy()
        return np.asarray(values)
    kind = getattr(column.dtype, "kind", "O")
    if kind in "fiub" and not isinstance(column.dtype, np.dtype):
        if column.hasnans:
            found = column.to_numpy(dtype=np.float64, na_value=np.nan)
            return found
        found = column.to_numpy(dtype=column.dtype.numpy_dtype if hasattr(column.dtype, "numpy_dtype") else np.float64)
        return found
    found = column.to_numpy()
    return found


def _of_array(array: npt.NDArray[Any], where: str) -> Array:
    kind = array.dtype.kind
    if kind == "O":
        return _of_objects(array, where)
    if kind not in "fiub":
        first = f": the first is {array.flat[0]!s}" if array.size else ""
        raise InputError(f"{where}: holds {array.dtype}, not numbers{first}", hint=_WAY_OUT)
    with np.errstate(over="ignore"):
        values = array.astype(np.float64)
    if kind in "iu" and array.size and max(int(array.max()), -int(array.min())) > 2**53:
        _require_kept(values, [int(value) for value in array.flat], where)
    return values


def _of_objects(array: npt.NDArray[Any], where: str) -> Array:
    values = np.empty(array.shape, dtype=np.float64)
    whole: list[int] = []
    for place, value in enumerate(array.flat):
        if value is None or type(value).__name__ == "NAType" or value is np.ma.masked:
            values.flat[place] = np.nan
        elif isinstance(value, (numbers.Real, Decimal, np.bool_)):
            values.flat[place] = float(value)
            if isinstance(value, numbers.Integral) and abs(int(value)) > 2**53:
                whole.append(int(value))
        else:
            step = np.unravel_index(place, array.shape)[-1]
            kind = "the text" if isinstance(value, (str, bytes)) else f"a {type(value).__name__},"
            raise InputError(
                f"{where}: is not an array of numbers: step {step} holds {kind} {str(value)[:40]!r}", hint=_WAY_OUT
            )
    if whole:
        _require_kept(values, whole, where)
    return values


def _require_kept(values: Array, whole: list[int], where: str) -> None:
    """Refuses whole numbers that float64 rounds so much that their ups and downs are gone."""
    lost = max(abs(value - int(float(value))) for value in whole)
    if lost > KEPT * float(np.nanstd(values)):
        raise InputError(
            f"{where}: whole numbers up to {max(map(abs, whole))} differ in digits that a float64 cannot hold",
            hint="Subtract what they have in common first: forecast series - series[0], and add it again.",
        )
