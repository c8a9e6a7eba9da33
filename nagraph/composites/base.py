"""Composites: named functions over primitives, one `call` node each; some declare their derivative."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from nagraph.ir.builder import Builder, active, current
from nagraph.ir.graph import Graph, Value
from nagraph.ir.types import TensorType, is_float
from nagraph.ops.base import as_array, cast
from nagraph.ops.region import Call, zeros_of
from nagraph.ops.width import common, rounded, widen, widened

Fn = Callable[..., Any]
REGISTRY: dict[str, Composite] = {}


class Composite:
    """fn(*operands, **static) as one node; on arrays it just runs. Operands may be None; static arguments are hashable.

    `declare(fwd, bwd)` gives its derivative: fwd(*operands, **static) -> (results, residuals) and
    bwd(residuals, cotangents, **static) -> one cotangent (or None) for each floating operand that is given.
    A residual that is None, as an operand may be, is None in bwd.

    All three compute 16-bit floats in float32 and round at the end (`nagraph.ops.width`): residuals stay in float32,
    but for those that are operands.
    """

    def __init__(self, fn: Fn):
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.label = fn.__name__.strip("_")
        self._fwd: Fn | None = None
        self._bwd: Fn | None = None
        self._ops: dict[Any, Call] = {}
        REGISTRY[self.label] = self

    def declare(self, fwd: Fn, bwd: Fn) -> None:
        """Declare the derivative."""
        self._fwd, self._bwd = fwd, bwd

    def __call__(self, *operands: Any, **static: Any) -> Any:
        if active() is None or not any(isinstance(x, Value) for x in operands):
            return widened(self.fn)(*operands, **static)
        builder = current()
        values = [x if x is None or isinstance(x, Value) else builder.constant(as_array(x)) for x in operands]
        present = [builder.accept(v) for v in values if v is not None]
        types = tuple(None if v is None else v.type for v in values)
        results = builder.emit(self.op(types, static), present)
        return results[0] if len(results) == 1 else results

    def op(self, types: tuple[TensorType | None, ...], static: dict[str, Any]) -> Call:
        """The node's op for operands of these types: traced once, then kept."""
        key = (types, tuple(sorted((k, type(v), v) for k, v in static.items())))
        found = self._ops.get(key)
        if found is None:
            found = self._ops[key] = self._make(types, static)
        return found

    def _make(self, types: tuple[TensorType | None, ...], static: dict[str, Any]) -> Call:
        body = _build(self.label, types, lambda *xs: widened(self.fn)(*xs, **static))
        if self._fwd is None or self._bwd is None:
            return Call(self.label, "composite", body)
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
            return [zeros_of(t) if c is None else cast(c, t.dtype) for c, t in zip(found, floats, strict=True)]

        bwd = _build(f"{self.label}.bwd", (*residual_types, *body.output_types), pull)
        return Call(self.label, "composite", body, fwd, bwd)


def _listed(results: Any) -> Sequence[Value]:
    return results if isinstance(results, (tuple, list)) else (results,)


def _build(name: str, types: Sequence[TensorType | None], fn: Fn) -> Graph:
    with Builder() as builder, builder.at(None):
        inputs = [None if t is None else builder.input(t) for t in types]
        return builder.graph(name, list(_listed(fn(*inputs))))


def composite(fn: Fn) -> Composite:
    """Decorator: fn over primitives becomes a named region."""
    return Composite(fn)
