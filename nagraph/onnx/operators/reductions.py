"""Reductions over axes, and running ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph.errors import OnnxError
from nagraph.ir.types import BOOL
from nagraph.nn import functional
from nagraph.onnx.registry import Ints, Known, checked_axes, checked_axis, operator, whole_numbers

Axes = tuple[int, ...]


def _sum(x: Any, axes: Axes, keep: bool) -> Any:
    return F.astype(F.sum(x, axes, keepdims=keep), x.dtype)


def _mean(x: Any, axes: Axes, keep: bool) -> Any:
    return F.astype(F.mean(x, axes, keepdims=keep), x.dtype)


def _extreme(of: Callable[..., Any], of_bools: Callable[..., Any], lowest: bool) -> Callable[..., Any]:
    def made(x: Any, axes: Axes, keep: bool) -> Any:
        if x.dtype == BOOL:
            return of_bools(x, axes, keepdims=keep)
        if all(x.shape[a] for a in axes):
            return of(x, axes, keepdims=keep)
        limit = np.iinfo(x.dtype) if x.dtype.kind in "iu" else None
        fill = (limit.min if lowest else limit.max) if limit else -np.inf if lowest else np.inf
        return F.full(_reduced(x.shape, axes, keep), np.asarray(fill).astype(x.dtype), x.dtype)

    return made


def _reduced(shape: Axes, axes: Axes, keep: bool) -> Axes:
    return tuple(1 if a in axes else n for a, n in enumerate(shape) if keep or a not in axes)


def _exact(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """A function of floats for integers as well, by way of float64."""
    return lambda x: F.astype(function(x if x.dtype.kind not in "iu" else F.astype(x, "f64")), x.dtype)


_REDUCTIONS: dict[str, Callable[[Any, Axes, bool], Any]] = {
    "ReduceSum": _sum,
    "ReduceMean": _mean,
    "ReduceMax": _extreme(F.max, F.any, True),
    "ReduceMin": _extreme(F.min, F.all, False),
    "ReduceProd": lambda x, axes, keep: F.astype(F.prod(x, axes, keepdims=keep), x.dtype),
    "ReduceL1": lambda x, axes, keep: _sum(F.abs(x), axes, keep),
    "ReduceL2": lambda x, axes, keep: _exact(F.sqrt)(_sum(x * x, axes, keep)),
    "ReduceSumSquare": lambda x, axes, keep: _sum(x * x, axes, keep),
    "ReduceLogSum": lambda x, axes, keep: _exact(F.log)(_sum(x, axes, keep)),
    "ReduceLogSumExp": lambda x, axes, keep: _exact(lambda y: functional.logsumexp(y, axes, keepdims=keep))(x),
}


def _register(name: str, reduce: Callable[[Any, Axes, bool], Any]) -> None:
    def by_attribute(x: Any, *, axes: Ints | None = None, keepdims: bool = True) -> Any:
        rank = len(x.shape)
        return reduce(x, checked_axes(axes or range(rank), rank), keepdims)

    def by_input(x: Any, axes: Known | None = None, *, keepdims: bool = True, noop_with_empty_axes: bool = False) -> Any:
        along, rank = () if axes is None else whole_numbers("axes", axes), len(x.shape)
        if not along and noop_with_empty_axes:
            return reduce(x, (), keepdims)
        return reduce(x, checked_axes(along or range(rank), rank), keepdims)

    if name != "ReduceSum":
        operator(name)(by_attribute)
    operator(name, since=13 if name == "ReduceSum" else 18)(by_input)


for _name, _reduce in _REDUCTIONS.items():
    _register(_name, _reduce)


def _running(function: Callable[..., Any], first: int) -> Callable[..., Any]:
    def made(x: Any, axis: Known, *, exclusive: bool = False, reverse: bool = False) -> Any:
        """exclusive: without the element itself."""
        if axis.size != 1:
            raise OnnxError(f"axis is {list(axis.shape)}, but must be one number")
        place = checked_axis(int(axis.reshape(-1)[0]), len(x.shape))
        y = F.astype(function(x, place, reverse=reverse), x.dtype)
        if not exclusive or not x.shape[place]:
            return y
        lead = (slice(None),) * place
        kept = F.array(y)[(*lead, slice(1, None) if reverse else slice(None, -1))]
        edge = F.full((*x.shape[:place], 1, *x.shape[place + 1:]), first, x.dtype)
        return F.concatenate([kept, edge] if reverse else [edge, kept], place)

    return made


operator("CumSum")(_running(F.cumsum, 0))
operator("CumProd")(_running(F.cumprod, 1))
