"""What a counterpart says of arguments that we do not offer."""

from __future__ import annotations

from typing import Any, NoReturn

import numpy as np

from tests.oracles.sampling import LeftOut


class Unoffered(LeftOut):
    """These arguments of an entry ask for what we do not have; the text says what that is."""


def unoffered(what: str) -> NoReturn:
    """Leave this sample out."""
    raise Unoffered(what)


def fitting(number: Any, dtype: Any) -> Any:
    """A Python number that the dtype can hold; another is an error in NumPy and here."""
    if np.dtype(dtype).kind in "iu" and number == int(number) and not np.iinfo(dtype).min <= number <= np.iinfo(dtype).max:
        unoffered("a Python number that the dtype cannot hold")
    return number
