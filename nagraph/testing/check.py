"""Checks of one program: every way of running it, and its derivatives, against what plain NumPy finds."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.ir.types import FLOATS
from nagraph.testing.any_size import any_size
from nagraph.testing.draw import Array, stored
from nagraph.testing.names import our_names, plain_names
from nagraph.testing.oracle import Oracle, Undetermined, as_float64, mismatch, run
from nagraph.testing.program import Program

Fn = Callable[..., Any]


@dataclass(frozen=True)
class Failure:
    """A failure is what went wrong with a program: in which way of running it, and how.

    kind: "result", "bits", "derivative", or the name of an exception. `str(failure)` ends with a script that shows the fault.
    """

    program: Program
    way: str
    kind: str
    message: str
    script: str

    def __str__(self) -> str:
        return f"program {self.program.seed}, {self.way}: {self.kind}: {self.message}\n\n{self.script}"


@dataclass(frozen=True)
class Way:
    """A way is one way of running a function: `prepare` makes of it what is then called with the arguments."""

    name: str
    prepare: Callable[[Fn], Fn]


def jitted(name: str, **options: Any) -> Way:
    """A way that compiles: `options` are those of `ng.jit`. Results are read."""
    def prepare(f: Fn) -> Fn:
        run = ng.jit(f, **options)
        return lambda *args: ng.to_numpy(run(*args))

    return Way(name, prepare)


def donating(name: str, **options: Any) -> Way:
    """A way that compiles, and donates copies of all arguments: `options` are those of `ng.jit`."""
    def prepare(f: Fn) -> Fn:
        jitted = ng.jit(lambda *arguments: f(*arguments), donate_argnames="arguments", **options)
        return lambda *arrays: jitted(*(a.copy() for a in arrays))

    return Way(name, prepare)


def chaotic(seed: int, **options: Any) -> Way:
    """A way that compiles with legal choices at random, which the seed decides, in place of profitable ones. It donates as well."""
    def prepare(f: Fn) -> Fn:
        with ng.choices.using(f"chaos={seed}"):
            return donating("", **options).prepare(f)

    return Way(f"chaos {seed}", prepare)


def ways(chaos: int = 0) -> tuple[Way, ...]:
    """All ways: eagerly, by each backend, with and without passes and donation, and with choices at random, which `chaos` decides."""
    return (Way("eager", lambda f: f), jitted("the reference", backend="numpy", passes=""), jitted("numpy", backend="numpy"),
            donating("numpy, donating", backend="numpy"), jitted("llvm", backend="llvm"), donating("llvm, donating", backend="llvm"),
            jitted("llvm without passes", backend="llvm", passes=""), chaotic(chaos, backend="llvm"))


def check(program: Program, how: Sequence[Way] | None = None, derivatives: bool = True) -> Failure | None:
    """The first fault of a program, or None: each result against NumPy's, the same bits from call to call, derivatives.

    Raises Undetermined where NumPy can't run the program.
    """
    oracle = run(program)
    arrays = [oracle.native[i.name] for i in program.inputs]
    function = program.function({**our_names(), **program.sizes})
    every = (*ways(program.seed), Way("sizes known later", lambda f: any_size(program, oracle)))
    for way in every if how is None else how:
        kind, message = _outcome(lambda way=way: _results(way, function, program, oracle, arrays))
        if kind:
            return Failure(program, way.name, kind, message, program.source(oracle.native))
    if derivatives:
        kind, message = _outcome(lambda: _derivatives(program, oracle))
        if kind:
            return Failure(program, "derivatives", kind, message, program.source(oracle.native))
    return None


def _outcome(attempt: Callable[[], tuple[str, str]]) -> tuple[str, str]:
    """What an attempt says is wrong, (kind, message); an exception is a fault as well."""
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore", RuntimeWarning)
            return attempt()
    except Undetermined:
        raise
    except Exception as error:  # noqa: BLE001 - NumPy ran the program, so whatever stops it here is a fault
        return type(error).__name__, str(error)


def _results(way: Way, function: Fn, program: Program, oracle: Oracle, arrays: Sequence[Array]) -> tuple[str, str]:
    before = [a.copy() for a in arrays]
    prepared = way.prepare(function)
    first = [np.array(x) for x in prepared(*arrays)]
    for name, found in zip(program.outputs, first, strict=True):
        wrong = mismatch(oracle, name, found)
        if wrong:
            return "result", wrong
    for name, one, two in zip(program.outputs, first, prepared(*arrays), strict=True):
        if one.tobytes() != np.asarray(two).tobytes():
            return "bits", f"{name} differs from call to call"
    if any(a.tobytes() != b.tobytes() for a, b in zip(arrays, before)):
        return "result", "an argument was written to"
    return "", ""


# -- derivatives ---------------------------------------------------------------------------------------------------


def _derivatives(program: Program, oracle: Oracle) -> tuple[str, str]:
    """Reverse and forward mode, in float64, along a direction: against each other, and against central differences.

    What differs from differences is asked again a hair beside the point: where functions with a kink cancel to one without,
    as in minimum(abs(x), x) at 0, the derivative at the point itself is a convention.
    """
    if any("stop_gradient" in s.text for s in program.statements):  # differences do not stop
        return "", ""
    moving = [n for n, i in enumerate(program.inputs) if oracle.native[i.name].dtype in FLOATS]
    outputs = [n for n, o in enumerate(program.outputs) if oracle.native[o].dtype in FLOATS]
    if not moving or not outputs:
        return "", ""
    slope = _Slope(program, oracle, moving, outputs)
    found = slope.wrong(slope.at)
    if "differences" in found and not slope.wrong([x + 1e-3 * d for x, d in zip(slope.at, slope.aside)]):
        return "", ""
    return ("derivative", found) if found else ("", "")


class _Slope:
    """A slope is the derivative of a program's results, with weights, along a direction in its floating arguments."""

    def __init__(self, program: Program, oracle: Oracle, moving: Sequence[int], outputs: Sequence[int]):
        self.moving = moving
        self.arrays = [stored(as_float64(oracle.native[i.name]), i.order) for i in program.inputs]
        self.at = [self.arrays[n] for n in moving]
        rng = np.random.default_rng(program.seed)
        self.weights = {n: rng.uniform(-1, 1, oracle.native[program.outputs[n]].shape) for n in outputs}
        self.direction = [rng.uniform(-1, 1, x.shape) for x in self.at]
        self.aside = [rng.uniform(-1, 1, x.shape) for x in self.at]
        self.plain = self._loss(program.function({**plain_names(widest=True), **program.sizes}))
        self.ours = self._loss(program.function({**our_names(widest=True), **program.sizes}))

    def _loss(self, function: Fn) -> Fn:
        def weighted(*args: Any) -> Any:
            found = function(*args)
            return sum(((found[n] * w).sum() for n, w in self.weights.items()), 0.0)

        return weighted

    def _with(self, floats: Sequence[Any], others: Sequence[Any] | None = None) -> list[Any]:
        """All arguments, those that move among them."""
        args = list(self.arrays if others is None else others)
        for n, x in zip(self.moving, floats):
            args[n] = x
        return args

    def _modes(self, at: Sequence[Array]) -> tuple[list[Array], float]:
        """Gradients, and the tangent along the direction."""
        args = self._with(at)
        gradients = ng.jit(ng.grad(self.ours, argnums=tuple(self.moving)))(*args)
        tangent = ng.jit(lambda *xs: ng.jvp(
            lambda *floats: self.ours(*self._with(floats, xs)), [xs[n] for n in self.moving], self.direction)[1])(*args)
        return [np.asarray(g) for g in gradients], float(tangent)

    def wrong(self, at: Sequence[Array]) -> str:
        """What is wrong with the derivatives there, in words.

        Differences with two steps must agree, or the function has a kink too near to say anything.
        """
        def along(t: float) -> float:
            return float(self.plain(*self._with([x + t * d for x, d in zip(at, self.direction)])))

        forward = (along(1e-6) - along(0.0)) / 1e-6
        backward = (along(0.0) - along(-1e-6)) / 1e-6
        slopes = [(along(h) - along(-h)) / (2 * h) for h in (1e-4, 1e-5, 1e-6)]
        scale = max(1.0, abs(along(0.0)), *map(abs, slopes))
        gaps = ((slopes[0] - slopes[1], 1e-4), (slopes[1] - slopes[2], 1e-5), (forward - backward, 1e-4))
        smooth = all(abs(gap) <= allowed * scale for gap, allowed in gaps)
        gradients, tangent = self._modes(at)
        reverse = float(sum((g * d).sum() for g, d in zip(gradients, self.direction)))
        size = max(1.0, *(float(np.abs(g * d).sum()) for g, d in zip(gradients, self.direction)))
        if smooth and not abs(reverse - slopes[2]) <= 1e-4 * scale:
            return f"the gradient along a direction is {reverse:.9g}, by differences {slopes[2]:.9g}"
        if smooth and not abs(tangent - slopes[2]) <= 1e-4 * scale:
            return f"the tangent is {tangent:.9g}, by differences {slopes[2]:.9g}"
        if not abs(tangent - reverse) <= 1e-8 * size:
            return f"by the gradient the tangent is {reverse:.12g}, by forward mode {tangent:.12g}"
        return ""
