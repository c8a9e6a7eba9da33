"""Composites: named functions over primitives, one `call` node each; some declare their derivative."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from nagraph.errors import NagraphError
from nagraph.ir.builder import Builder, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.location import caller_location, located
from nagraph.ir.op import attribute_key
from nagraph.ir.types import TensorType, is_float, type_of
from nagraph.ops.base import cast
from nagraph.ops.operands import F64, as_array, is_weak, mark_weak
from nagraph.ops.rules import sum_to, zeros_of
from nagraph.ops.width import common, rounded, widen, widened
from nagraph.regions.calls import Call

Fn = Callable[..., Any]
REGISTRY: dict[str, Composite] = {}


class Composite:
    """fn(*operands, **static) as one node; on arrays the same node's reference. Operands may be None; static arguments are hashable.

    Operands are floating: integers and bools count as float64, but for those that `integers` names (labels, masks).
    `declare(fwd, bwd)` gives its derivative: fwd(*operands, **static) -> (results, residuals) and
    bwd(residuals, cotangents, **static) -> one cotangent (or None) for each floating operand that is given, which is
    summed and cast to the type of its operand where that was broadcast or promoted.
    A residual that is None, as an operand may be, is None in bwd.

    All three compute 16-bit floats in float32 and round at the end (`nagraph.ops.width`): residuals stay in float32,
    but for those that are operands.
    """

    def __init__(self, fn: Fn, integers: tuple[str, ...] = ()):
        functools.update_wrapper(self, fn)
        self.fn = fn
        self._names = list(inspect.signature(fn).parameters)
        self.operands = [p.name for p in inspect.signature(fn).parameters.values() if p.kind is not p.KEYWORD_ONLY]
        self._integral = frozenset(map(self._names.index, integers))
        self.label = fn.__name__.strip("_")
        self._fwd: Fn | None = None
        self._bwd: Fn | None = None
        self._kind = "composite"
        self._ops: dict[Any, Call] = {}
        REGISTRY[self.label] = self

    def declare(self, fwd: Fn, bwd: Fn, kind: str = "composite") -> None:
        """Declare the derivative; `kind` is "custom" where it is another than the body's."""
        self._fwd, self._bwd, self._kind = fwd, bwd, kind

    def __call__(self, *operands: Any, **static: Any) -> Any:
        ready = [None if x is None else self._operand(i, x) for i, x in enumerate(operands)]
        given = [x for x in ready if x is not None]
        static = {k: _plain(v) for k, v in static.items()}
        if not any(isinstance(x, Value) for x in given):
            try:
                found = self.op(tuple(None if x is None else type_of(x) for x in ready), static).evaluate(*given)
            except NagraphError as error:
                raise located(error, caller_location()) from None
            return found[0] if len(found) == 1 else found
        builder = current()
        values = [None if x is None else builder.accept(x if isinstance(x, Value) else builder.constant(x)) for x in ready]
        results = builder.emit(self.op(tuple(None if v is None else v.type for v in values), static),
                               [v for v in values if v is not None])
        if all(x is None or is_weak(x) for x in operands):
            for r in results:
                mark_weak(r)
        return results[0] if len(results) == 1 else results

    def _operand(self, i: int, x: Any) -> Any:
        """An operand as a value or an array of a dtype that this takes."""
        x = x if isinstance(x, Value) else as_array(x)
        return x if is_float(x.dtype) or i in self._integral else cast(x, F64)

    def op(self, types: tuple[TensorType | None, ...], static: dict[str, Any]) -> Call:
        """The node's op for operands of these types: traced once, then kept."""
        key = (types, tuple(sorted((k, attribute_key(v)) for k, v in static.items())))
        found = self._ops.get(key)
        if found is None:
            found = self._ops[key] = self._make(types, static)
        return found

    def _make(self, types: tuple[TensorType | None, ...], static: dict[str, Any]) -> Call:
        body = _build(self.label, types, lambda *xs: widened(self.fn)(*xs, **static))
        options = (*((name, None) for name in self._left_out(types)), *sorted(static.items()))
        if self._fwd is None or self._bwd is None:
            return Call(self.label, "composite", body, options=options)
        forward, backward = self._fwd, self._bwd
        given: list[bool] = []  # which residuals are there

        def flat(*xs: Any) -> list[Value]:
            wide = [widen(x) for x in xs]
            results, residuals = forward(*wide, **static)
            given.extend(r is not None for r in residuals)
            narrow = {w: x for w, x in zip(wide, xs) if w is not None}
            return [*rounded(_listed(results), common(xs)), *(narrow.get(r, r) for r in residuals if r is not None)]

        fwd = _build(f"{self.label}.fwd", types, flat)
        floats = [t for t in types if t is not None and is_float(t.dtype)]
        residual_types = fwd.output_types[len(body.outputs):]

        def pull(*values: Value) -> list[Value]:
            kept = map(widen, values)
            residuals = tuple(next(kept) if there else None for there in given)
            found = backward(residuals, tuple(kept), **static)
            return [zeros_of(t) if c is None else cast(sum_to(c, t), t.dtype) for c, t in zip(found, floats, strict=True)]

        bwd = _build(f"{self.label}.bwd", (*residual_types, *body.output_types), pull)
        return Call(self.label, self._kind, body, fwd, bwd, options)

    def _left_out(self, types: tuple[TensorType | None, ...]) -> list[str]:
        """The names of the operands that are None though a later one is given."""
        given = [i for i, t in enumerate(types) if t is not None]
        return [self._names[i] for i in range(max(given, default=0)) if types[i] is None]


def _listed(results: Any) -> Sequence[Value]:
    return results if isinstance(results, (tuple, list)) else (results,)


def _build(name: str, types: Sequence[TensorType | None], fn: Fn) -> Graph:
    with Builder() as builder, builder.at(None):
        inputs = [None if t is None else builder.input(t) for t in types]
        return builder.graph(name, list(_listed(fn(*inputs))))


def _plain(x: Any) -> Any:
    """A static argument with Python's numbers in place of NumPy's."""
    if isinstance(x, (tuple, list)):
        return tuple(map(_plain, x))
    return x.item() if isinstance(x, (np.generic, np.ndarray)) and not x.shape else x


def composite(*, integers: tuple[str, ...] = ()) -> Callable[[Fn], Composite]:
    """Decorator: fn over primitives becomes a named region. `integers` names the operands that may be integers or bools."""
    return lambda fn: Composite(fn, integers)
