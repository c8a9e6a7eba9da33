"""What the names in a program mean: dtypes, and `np` and `ng` of the library or of plain NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph.ir.types import DTYPES, FLOATS
from nagraph.testing.plain import plain

#: The dtypes by their short names, as values that `astype` takes.
dtypes: dict[str, Any] = {name: dtype.type if name != "bool" else np.bool_ for name, dtype in DTYPES.items()}
globals().update({name: dtype for name, dtype in dtypes.items() if name != "bool"})
__all__ = [name for name in dtypes if name != "bool"]


def plain_names(widest: bool = False) -> dict[str, Any]:
    """For NumPy alone; `widest`: every floating dtype is float64."""
    kinds = {n: np.float64 if widest and DTYPES[n] in FLOATS else t for n, t in dtypes.items()}
    return {"np": np, "ng": plain, **kinds}


def our_names(widest: bool = False) -> dict[str, Any]:
    """For the library."""
    return {**plain_names(widest), "ng": ng}
