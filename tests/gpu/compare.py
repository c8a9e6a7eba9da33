"""What a case is to give: the NumPy reference within the house's tolerance; elementwise the bits of the LLVM backend."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import nagraph as ng
from nagraph import backends
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from nagraph.backends.gpu.products import choose
from nagraph.ir.types import FLOATS
from nagraph.testing.oracle import as_float64, epsilon
from tests.gpu.cases import Case
from tests.gpu.programs import OnCpu
from tests.support import evaluate
from tests.test_guarantees import bits

Array = np.ndarray[Any, Any]


@contextlib.contextmanager
def installed(kernels: Kernels) -> Iterator[str]:
    """The name of a backend that runs the text of these kernels, as long as it is there."""
    backend, before = OnCpu(kernels), backends.find
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backends, "find", lambda name=None: backend if name == backend.name else before(name))
        yield backend.name


@contextlib.contextmanager
def in_blocks() -> Iterator[Callable[[int | None], None]]:
    """A function that says from how many rows on products go in blocks, as long as it is there; None is the strategy's number."""
    own = choose.LEAST_ROWS

    def fewest(rows: int | None) -> None:
        choose.LEAST_ROWS = own if rows is None else rows
        choose.choose.cache_clear()

    try:
        yield fewest
    finally:
        fewest(None)


def compare(case: Case, found: tuple[Array, ...]) -> str:
    """What is wrong with the results of a case, in words; empty if nothing is."""
    with np.errstate(all="ignore"):
        expected = evaluate(case.graph, *case.operands)
        exact = ng.compile(case.graph)(*case.operands) if case.exact else None
    for j, (got, want) in enumerate(zip(found, expected, strict=True)):
        if got.dtype != want.dtype or got.shape != want.shape:
            return f"output {j} is {got.dtype}{list(got.shape)} in place of {want.dtype}{list(want.shape)}"
        if exact is not None:
            if bits(got) != bits(exact[j]):
                return f"output {j}: {_first(got, exact[j])} of the LLVM backend"
        elif _apart(got, want):
            other = ng.compile(case.graph)(*case.operands)[j] if want.dtype in FLOATS else want
            if _apart(got, want, other) and (wrong := _apart(got, want, other, _moves(case, j, other))):
                return f"output {j}: {wrong}"
    return ""


def _moves(case: Case, j: int, at_rest: Array) -> float:
    """How far an output moves on the LLVM backend where float operands move by half a unit in the last place, at most of three times."""
    rng, run, far = np.random.default_rng(0), ng.compile(case.graph), 0.0
    for _ in range(3 if at_rest.dtype in FLOATS else 0):
        operands = [(x * (1 + rng.choice([-0.5, 0, 0.5], x.shape) * epsilon(x.dtype))).astype(x.dtype) if x.dtype in FLOATS else x
                    for x in case.operands]
        with np.errstate(all="ignore"):
            away = np.abs(as_float64(run(*operands)[j]) - as_float64(at_rest))
        far = max(far, float(np.max(away, initial=0.0, where=np.isfinite(away))))
    return far


def _first(got: Array, want: Array) -> str:
    """The first element that differs."""
    a, b = (np.frombuffer(np.ascontiguousarray(x).tobytes(), f"V{x.dtype.itemsize}") for x in (got, want))
    for i, (x, y) in enumerate(zip(got.reshape(-1), want.reshape(-1))):
        if a[i] != b[i] and not (x != x and y != y):
            return f"{int((a != b).sum())} of {got.size} elements differ, the first {i}: {x!r} in place of {y!r}"
    return "nothing differs"


def _apart(got: Array, want: Array, other: Array | None = None, moves: float = 0.0) -> str:
    """What is wrong with sums and whatever follows from them: 64 units in the last place of the largest element are allowed.

    other: what the LLVM backend gives; if it is farther from NumPy, rounding decides more, and four times as far is allowed. moves: how
    far rounding of the operands alone moves it; twice as far is allowed.
    """
    if want.dtype not in FLOATS:
        return _first(got, want) if got.tobytes() != want.tobytes() else ""
    a, b = as_float64(got), as_float64(want)
    finite = np.isfinite(b)
    if not finite.any():
        return "" if bits(a) == bits(b) else _first(got, want)
    if not (np.isfinite(a) == finite).all() or bits(np.where(finite, 0, a)) != bits(np.where(finite, 0, b)):
        return f"it is not finite elsewhere: {_first(got, want)}"
    scale = float(np.max(np.abs(b[finite]), initial=0.0))
    worst = float(np.max(np.abs(a[finite] - b[finite])))
    allowed = 64 * epsilon(want.dtype) * scale
    if other is not None:
        allowed = max(allowed, 2 * moves, 4 * float(np.max(np.abs(as_float64(other)[finite] - b[finite]))))
    return f"off by {worst:.3g} of {scale:.3g}, {allowed:.3g} are allowed" if worst > allowed else ""
