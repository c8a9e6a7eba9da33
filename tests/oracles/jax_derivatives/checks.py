"""Derivatives beside JAX's: values, reverse mode, forward mode, and both again after reverse mode, in each floating dtype."""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Sequence
from typing import Any

import jax
import ml_dtypes
import numpy as np

import nagraph as ng
from tests.oracles.jax_derivatives.table import TABLE, Row
from tests.oracles.record import Outcome
from tests.oracles.sampling import compared, directions
from tests.oracles.tolerance import difference, is_float

jax.config.update("jax_enable_x64", True)
DTYPES = {"float64": np.dtype("float64"), "float32": np.dtype("float32"), "float16": np.dtype("float16"),
          "bfloat16": np.dtype(ml_dtypes.bfloat16)}
MODES = ("value", "reverse", "forward", "reverse-reverse", "forward-reverse")
#: Units in the last place, where our rules of arithmetic are not JAX's.
ROUTES = 64


class JaxDerivatives:
    """JAX's transforms of functions that use every op."""

    name = "jax"

    def cases(self) -> list[tuple[str, str]]:
        return [(entry.replace(" ", "-"), f"{mode}:{dtype}") for entry in TABLE for mode in MODES for dtype in DTYPES
                if "-" not in mode or dtype in ("float64", "float32")]

    def cut(self) -> list[tuple[str, str]]:
        """Reverse or forward mode in one dtype, and one mode of second order in another."""
        found = []
        for entry in dict.fromkeys(entry for entry, _ in self.cases()):
            turn = zlib.crc32(entry.encode())
            found += [(entry, f"{MODES[1 + turn % 2]}:{[*DTYPES][turn // 2 % 4]}"),
                      (entry, f"{MODES[3 + turn // 8 % 2]}:{('float64', 'float32')[turn // 16 % 2]}")]
        return found

    def check(self, entry: str, what: str, *, cut: bool = False, first_fault: bool = False) -> Outcome:
        row = TABLE.get(entry) or TABLE[entry.replace("-", " ")]
        mode, _, dtype = what.partition(":")
        taken = [row.shapes[zlib.crc32(what.encode()) % len(row.shapes)]] if cut else row.shapes
        backends = (None, "numpy") if cut else (None,)
        return compared(((f"{entry} {what} of shapes {' '.join(map(str, shapes))}",
                          functools.partial(_compare, row, shapes, mode, DTYPES[dtype], backends)) for shapes in taken), first_fault)


def operands(row: Row, shapes: Sequence[Any], dtype: Any) -> list[np.ndarray]:
    """The same numbers for each dtype, rounded to it."""
    rng = np.random.default_rng(zlib.crc32(repr(shapes).encode()))
    found = [draw(rng, shape) for draw, shape in zip(row.draws, shapes, strict=True)]
    return [a.astype(dtype) if is_float(a.dtype) else a for a in found]


def _derivative(mode: str, fn: Callable[..., Any], vjp: Any, jvp: Any, xs: Any, ct: Any, ts: Any) -> Any:
    """What is compared, written once for both: a list of arrays."""
    def pulled(*v: Any) -> tuple[Any, ...]:
        return tuple(vjp(fn, *v)[1](ct))

    if mode == "value":
        return [fn(*xs)]
    if mode == "reverse":
        return list(pulled(*xs))
    if mode == "forward":
        return [jvp(fn, tuple(xs), tuple(ts))[1]]
    if mode == "reverse-reverse":
        return list(vjp(pulled, *xs)[1](tuple(ts)))
    return list(jvp(pulled, tuple(xs), tuple(ts))[1])


def _compare(row: Row, shapes: Sequence[Any], mode: str, dtype: Any, backends: Sequence[str | None]) -> str | None:
    given = operands(row, shapes, dtype)
    moving = [i for i, a in enumerate(given) if is_float(a.dtype)]
    xs = [given[i] for i in moving]

    def of(fn: Callable[..., Any], others: Sequence[Any]) -> Callable[..., Any]:
        def moved(*v: Any) -> Any:
            whole = list(others)
            for i, x in zip(moving, v, strict=True):
                whole[i] = x
            return fn(*whole)

        return moved

    theirs = of(row.theirs, [jax.numpy.asarray(a) for a in given])
    ct = directions([jax.eval_shape(theirs, *xs)], 1, dtype)[0]
    ts = directions(xs, 2, dtype)

    def asked(finer: Any) -> list[np.ndarray]:
        x, c, t = ([jax.numpy.asarray(a.astype(finer)) for a in part] for part in (xs, [ct], ts))
        return [np.asarray(y) for y in jax.jit(lambda x, c, t: _derivative(mode, theirs, jax.vjp, jax.jvp, x, c, t))(x, c[0], t)]

    same, exact = asked(dtype), asked(np.float64)
    if dtype == np.float64:
        rough = [y.astype(np.float64) for y in asked(np.float32)]
        own = [2.0 ** -29 * np.abs(r - e) for r, e in zip(rough, exact)]
    else:
        own = [np.abs(s.astype(np.float64) - e) for s, e in zip(same, exact)]
    for backend in backends:
        jitted = ng.jit(lambda given, xs, ct, ts: _derivative(mode, of(row.ours, given), ng.vjp, ng.jvp, xs, ct, ts), backend=backend)
        for k, (y, e, s, o) in enumerate(zip(jitted(given, xs, ct, ts), exact, same, own, strict=True)):
            if np.asarray(y).dtype != dtype:
                return f"result {k}: dtype {y.dtype}, not {dtype}"
            problem = difference(y, e, o, s, floor=1, units=8 if dtype.itemsize == 2 else ROUTES)
            if problem is not None:
                return f"result {k} on {backend or 'llvm'}: {problem}"
    return None


def ops_used() -> set[str]:
    """The ops and composites that the functions of the table use, in their graphs and in those of their derivatives' regions."""
    found: set[str] = set()

    def walk(graph: Any) -> None:
        for node in graph.nodes:
            found.add(node.op.name)
            if node.op.name == "call":
                found.add(node.op.label)
            for region in node.op.regions.values():
                walk(region)

    for row in TABLE.values():
        given = operands(row, row.shapes[0], np.dtype("float64"))
        walk(ng.trace(row.ours, *given))
    return found
