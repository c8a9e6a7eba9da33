"""Optimizer: a pair of pure functions on pytrees, `init` and `update`; each subclass is one equation for one array."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph import tree
from nagraph.arrays import type_of_array
from nagraph.errors import TreeError
from nagraph.ir.types import DTYPES, is_float
from nagraph.optim.schedules import Scalar, rate_at
from nagraph.transforms.eager import where_arrays_are

Array = Any
Slots = Mapping[str, Array]


@dataclass(frozen=True)
class OptimizerState:
    """An optimiser's state is the number of updates done, and for each slot (a moment, a running average) a tree like the model.

    Slots hold None where the model has no parameter: at integer, bool and buffer leaves.
    """

    step: Array
    slots: dict[str, Any]


@dataclass(frozen=True)
class Clock:
    """A clock is what an update knows beside the arrays: the updates done before it and its learning rate, as scalars of the
    dtype that it computes in, float32 or float64."""

    done: Scalar
    rate: Scalar

    @property
    def count(self) -> Scalar:
        """The number of this update, from 1."""
        return self.done + 1

    def bias(self, decay: float) -> Scalar:
        """1 - decay^count, exact to the last bits also where decay is close to 1."""
        if not decay:
            return ng.numpy.full_like(self.done, 1)
        return -ng.numpy.expm1(self.count * float(np.log(decay)))


@dataclass(frozen=True)
class Optimizer:
    """An optimiser is two pure functions: state = opt.init(model); model, state = opt.update(model, grads, state).

    Both are pure and work inside `jit`. learning_rate is a number, a schedule, or a function of the step.
    Moments have the dtype of their parameter. Leaves whose gradient is None stay as they are.
    """

    learning_rate: Any

    #: Names of the arrays kept for each parameter.
    slots: ClassVar[tuple[str, ...]] = ()

    def init(self, model: Any) -> OptimizerState:
        """The state before the first update, made where the model's arrays are."""
        def made(model: Any) -> OptimizerState:
            return OptimizerState(np.zeros((), np.int64), {name: parameters(model, self.start) for name in self._kept()})

        state: OptimizerState = where_arrays_are(made, model)
        return state

    def update(self, model: Any, grads: Any, state: OptimizerState) -> tuple[Any, OptimizerState]:
        """The model and the state after one more step. TreeError where the structures differ."""
        values, structure = tree.flatten(model)
        columns = {"grads": grads, **{f"state.slots[{n!r}]": state.slots.get(n) for n in self._kept()}}
        found = [_leaves_like(structure, x, name) for name, x in columns.items()]
        clocks: dict[Any, Clock] = {}
        new_values, new_slots = [], []
        for path, p, g, *kept in zip(tree.paths(structure), values, *found, strict=True):
            if g is None:
                new_values.append(p)
                new_slots.append(kept)
                continue
            _check_leaf(path, p, g, kept)
            dtype = computing_dtype(p.dtype)
            if dtype not in clocks:
                done = ng.numpy.astype(state.step, dtype)
                clocks[dtype] = Clock(done, rate_at(self.learning_rate, done))
            q, slots = self.step(p, ng.numpy.astype(g, p.dtype), dict(zip(self._kept(), kept)), clocks[dtype])
            new_values.append(ng.numpy.astype(q, p.dtype))
            new_slots.append([ng.numpy.astype(slots[n], p.dtype) for n in self._kept()])
        trees = {n: tree.unflatten(structure, [row[k] for row in new_slots]) for k, n in enumerate(self._kept())}
        return tree.unflatten(structure, new_values), OptimizerState(state.step + 1, trees)

    def step(self, p: Array, g: Array, slots: Slots, clock: Clock) -> tuple[Array, Slots]:
        """One parameter and its slots after an update with the gradient g: the optimiser's equation."""
        raise NotImplementedError(f"{type(self).__name__} must define step(p, g, slots, clock)")

    def start(self, p: Array) -> Array:
        """What a slot holds before the first update."""
        return ng.numpy.zeros(p.shape, p.dtype)

    def _kept(self) -> tuple[str, ...]:
        """The slots that these options need."""
        return self.slots


def computing_dtype(dtype: Any) -> Any:
    """The dtype of scalars that meet arrays of this one: float64 for float64, else float32."""
    return DTYPES["f64"] if dtype == DTYPES["f64"] else DTYPES["f32"]


def parameters(model: Any, fn: Any = lambda x: x) -> Any:
    """fn of each parameter, None at every leaf that is none: integers, bools, buffers, None."""
    values, structure = tree.flatten(model)
    flags = tree.buffer_flags(structure)
    return tree.unflatten(structure, [
        None if x is None or b or not is_float(type_of_array(x).dtype) else fn(x) for x, b in zip(values, flags, strict=True)])


def _leaves_like(structure: tree.Structure, x: Any, name: str) -> list[Any]:
    leaves, found = tree.flatten(x)
    if found != structure:
        raise TreeError(f"update: {name} must have the structure of the model, {structure}, got {found}")
    return leaves


def _check_leaf(path: str, p: Array, g: Array, kept: list[Array]) -> None:
    if p is None or any(s is None for s in kept):
        raise TreeError(f"update: {path} has a gradient but was no parameter at init; make the state again with init(model)")
    for what, x in (("gradient", g), *(("state", s) for s in kept)):
        if x.shape != p.shape:
            raise TreeError(f"update: {path} has shape {p.shape}, its {what} {x.shape}")
