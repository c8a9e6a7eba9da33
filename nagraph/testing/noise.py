"""Arrays of which every step of a computation is wrong by a little: what rounding does inside of a function, magnified."""

from __future__ import annotations

from typing import Any

import numpy as np

#: The step along the imaginary axis by which derivatives are taken: the imaginary part of a value is its slope times that.
STEP = 1e-150


class Noisy(np.ndarray[Any, Any]):
    """A noisy array is one whose universal functions, and theirs in turn, give results off by up to `width` of their size, at random."""

    width: float = 0.0
    rng: np.random.Generator | None = None

    @classmethod
    def of(cls, array: np.ndarray[Any, Any], width: float, rng: np.random.Generator) -> Noisy:
        """A view of the array."""
        made = array.view(cls)
        made.width, made.rng = width, rng
        return made

    def __array_finalize__(self, like: Any) -> None:
        self.width, self.rng = getattr(like, "width", 0.0), getattr(like, "rng", None)

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        plain = [x.view(np.ndarray) if isinstance(x, Noisy) else x for x in inputs]
        found = getattr(ufunc, method)(*plain, **options)
        made = tuple(map(self._disturbed, found)) if isinstance(found, tuple) else self._disturbed(found)
        for target, value in zip(out, made if isinstance(made, tuple) else (made,)):
            target[...] = value
        return (out if len(out) > 1 else out[0]) if out else made

    def _disturbed(self, found: Any) -> Any:
        """A result of theirs; a number comes back as an array of rank 0."""
        found = np.asarray(found)
        if self.rng is None:
            return found
        if found.dtype.kind in "fc":
            exact = found
            found = np.asarray(exact * (1 + self.width * self.rng.uniform(-1, 1, exact.shape)))
            if exact.dtype.kind == "c":  # slopes are made of values that are rounded, as that of tanh is, 1 - y²
                found = np.asarray(found + 1j * STEP * self.width * self.rng.uniform(-1, 1, exact.shape) * np.abs(exact.real))
        return Noisy.of(found, self.width, self.rng)
