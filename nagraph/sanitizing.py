"""Sanitizing: calls in memory that nobody has written, behind edges that are watched. NAGRAPH_SANITIZE=1 in the environment turns it on.

Programs that are compiled then have a byte pattern wherever they have not written: as a float it is a nan that no computation makes, as an
integer it is large. So what reads too early, beyond an end, or what nobody wrote shows as that, in every run, and not now and then.
Each buffer stands between red zones; what a call writes there is an error that names the buffer and the kernels that write it.
Calls take several times as long. Of the backends, "llvm" does all this (`nagraph.backends.llvm.calls.sanitizer`).
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

#: Bytes before and behind each buffer.
RED_NBYTES = 256
#: What bytes hold that nobody has written: those of red zones and floats, and those of others.
NAN, LARGE = 0xFF, 0x7F


def is_on() -> bool:
    """Whether what is compiled now is sanitized."""
    return os.environ.get("NAGRAPH_SANITIZE", "0").lower() not in ("", "0", "off", "no")


def pattern(dtype: np.dtype[Any]) -> int:
    """The byte of memory of this dtype that nobody has written."""
    return NAN if dtype.kind in "fV" else LARGE


def unwritten(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Where the elements of a row-major array are as if nobody had written them; nowhere for small integers, which may well be so."""
    if array.dtype.kind not in "fV" and (array.dtype.kind != "i" or array.dtype.itemsize < 4):
        return np.zeros(array.shape, bool)
    data = np.ascontiguousarray(array).reshape(-1).view(np.uint8).reshape(array.size, array.dtype.itemsize)
    found: np.ndarray[Any, Any] = (data == pattern(array.dtype)).all(axis=1).reshape(array.shape)
    return found
