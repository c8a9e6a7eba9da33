"""What a program computes, by plain NumPy: in its own dtypes, in float64, and with noise, which tells how sure a number can be.

Rounding differs between correct programs by as much as the last bits of every value matter for what comes after. The noisy runs
measure that: each value of theirs is wrong by a few units in the last place (Vignes 1993). A result is right that lies no farther
from the run in float64 than they do, or than NumPy's own does.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np

from nagraph.ir.types import BOOL, DTYPES, FLOATS, DType, bfloat16
from nagraph.testing.draw import Array
from nagraph.testing.names import plain_names
from nagraph.testing.noise import Noisy
from nagraph.testing.program import Input, Program, Statement, Step

#: Units in the last place by which each value of a noisy run is off, at most.
NOISE_ULPS = 4
NOISY_RUNS = 3
#: Values above these are refused: what follows could overflow. By itemsize.
LARGEST = {2: 500.0, 4: 1e4, 8: 1e4}
#: The most elements of a value.
MOST_ELEMENTS = 300_000
#: How far runs may be apart, as a part of the largest element, before a statement is refused as undetermined. By itemsize.
APART = {2: 0.1, 4: 1e-3, 8: 1e-9}


class Undetermined(Exception):
    """NumPy can't run a step, or rounding decides what it gives."""


def epsilon(dtype: DType) -> float:
    """The distance from 1 to the next number; 0 for integers and bools."""
    return float(ml_dtypes.finfo(dtype).eps) if dtype in FLOATS else 0.0


def as_float64(x: Array) -> Array:
    return x.astype(np.float64) if x.dtype in FLOATS else x


class Oracle:
    """An oracle holds the values of a program's steps so far, as several runs of NumPy find them."""

    def __init__(self, sizes: Mapping[str, int]):
        #: What the program would give in its own dtypes; in float64; and with noise.
        self.native: dict[str, Array] = {}
        self.exact: dict[str, Array] = {}
        self.noisy: list[dict[str, Array]] = [{} for _ in range(NOISY_RUNS)]
        self._names = {**plain_names(), **sizes}
        self._widest = {**plain_names(widest=True), **sizes}

    def add(self, step: Step) -> None:
        """Run one more step. Raises Undetermined, and is as before then, where its value can't serve as an oracle."""
        if isinstance(step, Input):
            try:
                array = step.draw({**self._names, **self.native})
            except Exception as error:  # noqa: BLE001 - whatever NumPy says of the shape
                raise Undetermined(str(error)) from error
            self._accept(step.name, array, as_float64(array), [as_float64(array)] * NOISY_RUNS)
            return
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            try:
                native, exact, *noisy = [np.asarray(step.evaluate({**names, **run})) for names, run in (
                    (self._names, self.native), (self._widest, self.exact), *((self._widest, run) for run in self._shaken(step)))]
            except Exception as error:  # noqa: BLE001 - whatever NumPy says
                raise Undetermined(str(error)) from error
        operands = {self.native[o].dtype for o in step.operands} & FLOATS
        if operands == {bfloat16} and native.dtype in FLOATS - operands and not any(k in step.text for k in ("f32", "f64")):
            raise Undetermined(f"NumPy has no promotion of its own for bfloat16, and gives {step.name} as {native.dtype}")
        self._accept(step.name, native, exact, noisy)

    def _shaken(self, step: Statement) -> list[dict[str, Array]]:
        """What each noisy run knows. A function that a statement holds has steps of its own, and they are wrong by a little too."""
        if "lambda" not in step.text:
            return self.noisy
        width = NOISE_ULPS * max((epsilon(self.native[o].dtype) for o in step.operands), default=0.0)
        return [{**run, **{o: Noisy.of(run[o], width, np.random.default_rng([number, *step.name.encode()]))
                           for o in step.operands if self.native[o].dtype in FLOATS}} for number, run in enumerate(self.noisy)]

    def _accept(self, name: str, native: Array, exact: Array, noisy: list[Array]) -> None:
        if native.dtype not in DTYPES.values() or native.size > MOST_ELEMENTS or native.ndim > 6:
            raise Undetermined(f"{name} has dtype {native.dtype} and shape {native.shape}")
        if any(x.shape != native.shape for x in (exact, *noisy)):
            raise Undetermined(f"the shape of {name} depends on rounding")
        floats = native.dtype in FLOATS
        if floats != (exact.dtype in FLOATS) or not floats and exact.dtype != native.dtype:
            raise Undetermined(f"the dtype of {name} depends on the width of floats")
        if not floats:
            if any((x != native).any() for x in (exact, *noisy)):
                raise Undetermined(f"rounding decides about {name}")
        else:
            scale = float(np.max(np.abs(exact), initial=0.0))
            if not np.isfinite(as_float64(native)).all() or not scale <= LARGEST[native.dtype.itemsize]:
                raise Undetermined(f"{name} is not finite, or too large")
            apart = max(float(np.max(np.abs(as_float64(x) - exact), initial=0.0)) for x in (native, *noisy))
            if not apart <= APART[native.dtype.itemsize] * max(scale, 1e-3):
                raise Undetermined(f"rounding decides about {name}")
        self.native[name], self.exact[name] = native, exact
        for number, (run, x) in enumerate(zip(self.noisy, noisy)):
            run[name] = self._with_noise(x, native.dtype, name, number) if floats else x

    @staticmethod
    def _with_noise(x: Array, dtype: DType, name: str, number: int) -> Array:
        rng = np.random.default_rng([number, *name.encode()])
        return x * (1 + NOISE_ULPS * epsilon(dtype) * rng.uniform(-1, 1, x.shape))

    def tolerance(self, name: str) -> float:
        """How far a correct result may lie from the run in float64: 0 for integers and bools."""
        native, exact = self.native[name], self.exact[name]
        if native.dtype not in FLOATS or not native.size:
            return 0.0
        own = float(np.max(np.abs(as_float64(native) - exact)))
        noise = max(float(np.max(np.abs(run[name] - exact))) for run in self.noisy)
        return max(4 * own, 4 * noise, 8 * epsilon(native.dtype) * float(np.max(np.abs(exact))))

    def arrays(self, program: Program) -> dict[str, Array]:
        """The arguments of the program by name, stored in their orders."""
        return {i.name: self.native[i.name] for i in program.inputs}


def run(program: Program) -> Oracle:
    """The values of a whole program. Raises Undetermined."""
    oracle = Oracle(program.sizes)
    for step in program.steps:
        oracle.add(step)
    return oracle


def mismatch(oracle: Oracle, name: str, found: Any) -> str:
    """What is wrong with a result, in words; empty if nothing is."""
    expected, exact = oracle.native[name], oracle.exact[name]
    found = np.asarray(found)
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"{name} is {found.dtype}{found.shape}, in NumPy {expected.dtype}{expected.shape}"
    if not found.size:
        return ""
    if expected.dtype == BOOL or expected.dtype not in FLOATS:
        wrong = found != expected
        return f"{int(wrong.sum())} of {found.size} elements of {name} differ from NumPy's" if wrong.any() else ""
    error = np.abs(as_float64(found) - exact)
    worst, allowed = float(np.max(np.where(np.isnan(error), np.inf, error))), oracle.tolerance(name)
    if worst <= allowed:
        return ""
    return f"{name} is off by {worst:.3g} of {float(np.max(np.abs(exact))):.3g}; {allowed:.3g} is what rounding explains"
