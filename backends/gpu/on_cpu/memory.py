"""Memory of the machine: arrays between red zones, of which the watch knows every one."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph.errors import SanitizerError
from nagraph.sanitizing import NAN, RED_NBYTES

Array = np.ndarray[Any, Any]
#: What memory of a device is aligned to.
ALIGNMENT = 256


class Allocation:
    """An allocation is memory of the machine from `address` on, between red zones; `bytes` is what it holds, at first a pattern.

    bare: without zones and alignment, so that AddressSanitizer knows where it ends.
    """

    def __init__(self, nbytes: int, writable: bool = True, bare: bool = False):
        self._raw = np.full(nbytes + (0 if bare else 2 * RED_NBYTES + ALIGNMENT), NAN, np.uint8)
        start = 0 if bare else RED_NBYTES + -(self._raw.ctypes.data + RED_NBYTES) % ALIGNMENT
        self.bytes = self._raw[start:start + nbytes]
        self.address, self.nbytes, self.writable = self._raw.ctypes.data + start, nbytes, writable
        self._zones = self._raw[:start], self._raw[start + nbytes:]

    @classmethod
    def of(cls, array: Array, writable: bool = True, bare: bool = False) -> Allocation:
        """An allocation that holds a copy of an array, row-major."""
        made = cls(array.nbytes, writable, bare)
        made.bytes[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        return made

    def array(self, dtype: Any, shape: tuple[int, ...]) -> Array:
        """What it holds, as an array of this type that shares its memory."""
        return self.bytes.view(dtype).reshape(shape)

    @property
    def range(self) -> tuple[int, int, bool]:
        """What a launch may touch of it: address, bytes, whether they may be written."""
        return self.address, self.nbytes, self.writable

    def check(self, what: str) -> None:
        """SanitizerError if a red zone was written; `what` names the memory."""
        for zone, where in zip(self._zones, ("before", "behind")):
            if (zone != NAN).any():
                raise SanitizerError(f"memory {where} {what} was written")
