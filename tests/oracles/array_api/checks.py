"""The standard's functions by array-api-strict beside ours, on arrays and inside jit, over examples that Hypothesis draws and shrinks."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Callable
from typing import Any

import array_api_strict as xp
import numpy as np
from hypothesis import HealthCheck, Phase, assume, given, seed, settings

import nagraph as ng
from tests.oracles.array_api.table import METHODS, ROWS
from tests.oracles.record import Outcome
from tests.oracles.tolerance import difference, is_float

WAYS: dict[str, Callable[[Callable[..., Any]], Callable[..., Any]]] = {
    "arrays": lambda fn: fn, "jit": ng.jit, "jit-numpy": lambda fn: ng.jit(fn, backend="numpy"),
}
#: How many examples of each function: for a cut, and of the whole.
CUT, WHOLE = 6, 200


class ArrayApi:
    """The array API standard."""

    name = "array-api"

    def cases(self) -> list[tuple[str, str]]:
        return [(entry, way) for entry in (*ROWS, *METHODS) for way in WAYS]

    def cut(self) -> list[tuple[str, str]]:
        """On arrays, and inside jit on one backend."""
        compiled = {entry: "jit-numpy" if zlib.crc32(entry.encode()) % 4 == 0 else "jit" for entry in (*ROWS, *METHODS)}
        return [case for entry, way in compiled.items() for case in ((entry, "arrays"), (entry, way))]

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        outcome = Outcome()
        agreed = [0]

        @seed(20)
        @settings(max_examples=CUT if cut else WHOLE, database=None, deadline=None, suppress_health_check=list(HealthCheck),
                  phases=(Phase.generate, Phase.shrink), report_multiple_bugs=False, print_blob=False)
        @given({**ROWS, **METHODS}[entry])
        def run(call: Any) -> None:
            problem = compare(call, WAYS[what])
            assert problem is None, problem
            agreed[0] += 1

        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                run()
            outcome.agreed = 1
        except AssertionError as fault:
            outcome.faults.append(f"{entry} {what}: {str(fault).splitlines()[0]}")
        return outcome


def _plain(found: Any) -> list[np.ndarray]:
    items = found if isinstance(found, (tuple, list)) else [found]
    return [np.asarray(y._array if isinstance(y, type(xp.asarray(0))) else y) for y in items]


def compare(call: Any, way: Callable[[Callable[..., Any]], Callable[..., Any]]) -> str | None:
    """What is wrong with our answer to this call, or None."""
    arrays, ours, theirs = call
    plain = [np.asarray(x._array) for x in arrays]
    with np.errstate(all="ignore"):
        try:
            expected = _plain(theirs(*arrays))
        except (TypeError, ValueError, IndexError, OverflowError):
            assume(False)
        told = f"of {', '.join(f'{x.dtype}{list(x.shape)} {x.ravel()[:6].tolist()}' for x in plain)}"
        try:
            found = _plain(way(lambda *xs: ours(*xs))(*plain))
        except Exception as error:  # whatever goes wrong is the finding
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''} {told}"
        exact = _finer(plain, theirs, expected)
    for y, e, w in zip(found, expected, exact, strict=True):
        if y.dtype != e.dtype:
            return f"dtype {y.dtype}, not {e.dtype} {told}"
        with np.errstate(all="ignore"):
            own = np.abs(e.astype(np.float64) - w) if is_float(e.dtype) else None
        problem = difference(y, w if is_float(e.dtype) else e, own, e)
        if problem is not None:
            return f"{problem} {told}"
    return None


def _finer(plain: list[np.ndarray], theirs: Callable[..., Any], expected: list[np.ndarray]) -> list[np.ndarray]:
    """The results from float64 in place of float32."""
    if not any(x.dtype == np.float32 for x in plain):
        return expected
    finer = _plain(theirs(*(xp.asarray(x.astype(np.float64) if x.dtype == np.float32 else x) for x in plain)))
    return [w if w.shape == e.shape and is_float(w.dtype) else e for w, e in zip(finer, expected)]
