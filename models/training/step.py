"""One step of training as a pure function, compiled whole: gradients, clipping, optimiser, moving average."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph.models.training.task import Task
from nagraph.nn.module import Module

Array = Any


class TrainState(Module):
    """A training state is what a step changes: the model, the optimiser's moments, the weights' moving average, the count of steps."""

    model: Any
    optimiser: Any
    average: Any
    count: Array


def init_state(task: Task) -> TrainState:
    """The state before the first step: a function of the recipe's seed."""
    model = task.init(ng.random.key(task.recipe.seed))
    return TrainState(model, task.optimiser().init(model), model.map(np.copy), np.zeros((), np.int32))


def make_step(task: Task, backend: str | None = None, threads: int | None = None) -> Any:
    """The compiled step: (state, batch, step) -> (state, loss, gradient norm). With accumulation each array holds several batches.

    A step whose loss or gradient norm is not finite gives back the state as it was.
    """
    recipe, optimiser = task.recipe, task.optimiser()

    def step(state: TrainState, batch: tuple[Array, ...], number: Array) -> tuple[TrainState, Array, Array]:
        key = ng.random.fold_in(ng.random.key(recipe.seed), number)
        loss, after, grads = gradients(task, state, batch, key)
        grads, norm = ng.optim.clip_by_global_norm(grads, recipe.clip)
        model, moments = optimiser.update(after, grads, state.optimiser)
        count = state.count + 1
        dtype = np.dtype(recipe.dtype)
        done = count.astype(dtype)
        keep = ng.numpy.minimum(np.asarray(recipe.average, dtype), (done + 1) / (done + 10))
        average = ng.tree.map(lambda a, x: None if a is None else a * keep + x * (1 - keep), state.average, model)
        finite = ng.numpy.isfinite(loss) & ng.numpy.isfinite(norm)
        new = TrainState(model, moments, average, count)
        return ng.tree.map(lambda x, old: None if old is None else ng.where(finite, x, old), new, state), loss, norm

    return ng.jit(step, backend=backend, threads=threads, donate_argnames=("state",))


def gradients(task: Task, state: TrainState, batch: tuple[Array, ...], key: Array) -> tuple[Array, Any, Any]:
    """The loss, the model with its statistics moved on, and the gradients; means over the batches that are accumulated."""

    def of(model: Any, arrays: tuple[Array, ...], key: Array) -> Any:
        return ng.value_and_grad(lambda m: task.loss(m, *arrays, key=key), has_aux=True)(model)

    count = task.recipe.accumulate
    if count == 1:
        (loss, after), grads = of(state.model, batch, key)
        return loss, after, grads

    def one(carry: Any, x: Any) -> tuple[Any, None]:
        model, total, sums = carry
        arrays, i = x
        (loss, after), grads = of(model, arrays, ng.random.fold_in(key, i))
        return (after, total + loss, ng.tree.map(lambda s, g: None if g is None else s + g, sums, grads)), None

    zeros = ng.tree.map(lambda x: None if x is None else ng.numpy.zeros_like(x), next(iter(state.optimiser.slots.values())))
    start = state.model, np.zeros((), task.recipe.dtype), zeros
    (after, total, sums), _ = ng.scan(one, start, (batch, np.arange(count, dtype=np.int32)))
    return total / count, after, ng.tree.map(lambda s: None if s is None else s / count, sums)
