"""The kind of an option, inferred from the values that a column holds."""

from __future__ import annotations

import sys

import numpy as np
import pandas as pd

from bayestl.data.options import Boolean, Categorical, Integer, Option, Ordinal, Real
from bayestl.errors import SpaceError, TableError

MAX_ORDINAL_LEVELS = 32
"""Numbers with at most this many distinct values are levels of a table, not a range."""


def infer_option(name: str, column: pd.Series) -> Option:
    """The narrowest kind that holds every value of the column.

    Text is Categorical; true and false are Boolean; at most 32 distinct numbers are
    an Ordinal; more are an Integer or a Real over their range, on a log scale when
    they are positive and span more than two decades.

    Raises
    ------
    TableError
        For a column without a value, with one that is no text, boolean or finite number, or with
        two that a file could not tell apart, such as 1 and "1".
    """
    present = column.dropna()
    for kind in present.map(type).unique() if present.dtype == object else ():
        if not issubclass(kind, (bool, int, float, str, np.generic)):
            raise TableError(_no_kind(name, kind))
    values = [v.item() if hasattr(v, "item") else v for v in present.unique()]
    if not values:
        raise TableError(f"option {name!r}: no value in any row; leave the column out")
    for value in values:
        if not isinstance(value, (bool, int, float, str)):
            raise TableError(_no_kind(name, type(value)))
    if all(isinstance(value, bool) for value in values):
        return Boolean()
    if any(isinstance(value, (bool, str)) for value in values):
        choices = sorted(values, key=lambda value: (type(value).__name__, value))
        try:
            return Categorical(tuple(choices))
        except SpaceError as error:  # such as 1 and "1"
            raise TableError(f"option {name!r}: {error}") from None
    numbers = sorted(values)
    if not all(abs(number) <= sys.float_info.max for number in numbers):
        raise TableError(
            f"option {name!r}: expected finite numbers, got an infinite one, or one that is larger "
            "than a float can be"
        )
    if len(numbers) <= MAX_ORDINAL_LEVELS:
        return Ordinal(tuple(numbers))
    low, high = numbers[0], numbers[-1]
    log = low > 0 and high / low > 100
    if all(float(number).is_integer() for number in numbers):
        return Integer(int(low), int(high), log=log)
    return Real(low, high, log=log)


def _no_kind(name: str, kind: type) -> str:
    return f"option {name!r}: expected text, booleans or numbers, got {kind.__name__}"
