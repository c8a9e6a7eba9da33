"""What is wrong with a run: values that are not finite, parameters that nothing reaches."""

from __future__ import annotations

from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.training.step import TrainState, gradients
from nagraph.models.training.task import Task
from nagraph.storage import named_leaves
from nagraph.transforms.eager import where_arrays_are

Array = Any
#: Steps after which every parameter has had a gradient.
SOON = 5


def not_finite(task: Task, state: TrainState, batch: tuple[Array, ...], number: int) -> str:
    """Where the first value that is not finite comes from, in a step from this state on this batch: op and source line."""

    def step(state: TrainState, batch: tuple[Array, ...], number: Array) -> Any:
        key = ng.random.fold_in(ng.random.key(task.recipe.seed), number)
        loss, _, grads = gradients(task, state, batch, key)
        return loss, grads

    for name, array in named_leaves(state.model).items():
        if not np.isfinite(array).all():
            return f"parameter {name} was not finite before the step"
    found = ng.debug.first_not_finite(step, state, batch, np.int32(number))
    return found or "with the reference instead of the compiled step all values are finite"


def without_gradient(task: Task, state: TrainState) -> list[str]:
    """The paths of parameters whose gradient was zero in all steps so far, but for those where it must be."""
    moved = where_arrays_are(lambda means: ng.tree.map(lambda m: None if m is None else ng.numpy.any(m != 0), means),
                             next(iter(state.optimiser.slots.values())))  # a bool of each parameter is all that is read
    return [n for n, some in named_leaves(moved).items() if not some and not any(part in n for part in task.still)]


def check_gradients(task: Task, state: TrainState) -> None:
    """DataError naming parameters that had no gradient yet."""
    if names := without_gradient(task, state):
        shown = ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")
        steps = int(ng.to_numpy(state.count))
        raise DataError(f"after {steps} steps the gradient of {shown} was always zero; nothing reaches it, so it can't learn")
