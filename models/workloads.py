"""Workloads: what a model or an operation does, as a function with arguments, for commands that compile, show, profile and time it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.arrays import HOST, wait
from nagraph.errors import DataError
from nagraph.models.operations import CASES, OPERATIONS
from nagraph.models.tasks import task_class
from nagraph.models.training import Task, init_state, make_step

#: What a workload of a model does.
STEPS = ("train", "infer")


@dataclass(frozen=True)
class Workload:
    """A workload is a function with its arguments.

    make(backend, threads) is a jitted function, `arguments` are those of its first call, which may overwrite them; types, where sizes
    are left open: then it can be traced, not run.
    carried: the number of arguments, from the first, that the first results of a call replace before the next one.
    items: what a call works through, counted in `unit`; 0 where there is nothing to count.
    exported: what is written for others in the place of `make` and `arguments`, and its arguments, all of whose types are inputs.
    """

    name: str
    make: Callable[[str | None, int | None], Any]
    arguments: tuple[Any, ...]
    carried: int = 0
    items: int = 0
    unit: str = ""
    exported: tuple[Any, tuple[Any, ...]] | None = None

    def graph(self) -> Any:
        """The function's graph as it is traced."""
        return ng.trace(self.make(None, None), *self.arguments)

    def known_graph(self) -> Any:
        """The graph, whose sizes must be known to compile it."""
        self._check_known()
        return self.graph()

    def lower(self, backend: str | None = None, threads: int | None = None) -> Any:
        """The compiled function (graph and executable), not run."""
        self._check_known()
        return self.make(backend, threads).lower(*self.arguments)

    def executable(self, backend: str | None = None, threads: int | None = None) -> Any:
        """What the function compiles to."""
        return self.lower(backend, threads).executable

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        """The arguments as the executable takes them: arrays, one after another."""
        self._check_known()
        return [np.asarray(ng.to_numpy(x)) for x in ng.tree.leaves(self.arguments) if x is not None]

    def _check_known(self) -> None:
        """DataError unless all sizes are known, which it takes to run it."""
        types = [x for x in ng.tree.leaves(self.arguments) if isinstance(x, ng.TensorType)]
        if types:
            raise DataError(f"{self.name} leaves sizes open ({', '.join(map(str, types))}); give them numbers in its types")

    def calls(self, backend: str | None = None, threads: int | None = None) -> Callable[[], Any]:
        """A function without arguments that does one call after another, each to its end."""
        self._check_known()
        run = self.make(backend, threads)
        arguments = ng.device_put(self.arguments, ng.backends.usable(backend).name)

        def call() -> Any:
            nonlocal arguments
            results = run(*arguments)
            if self.carried:
                arguments = (*results[:self.carried], *arguments[self.carried:])
            return results

        return to_its_end(call, backend)


def to_its_end(call: Callable[[], Any], backend: str | None) -> Callable[[], Any]:
    """The call itself; for a backend whose arrays live on a device, one that returns when the results are computed."""
    if ng.backends.usable(backend).array_kind is HOST:
        return call

    def waiting() -> Any:
        results = call()
        for x in ng.tree.leaves(results):
            wait(x)
        return results

    return waiting


def workload(model: str, task: str, layers: int | None = None, **changes: Any) -> Workload:
    """A training step of the default recipe ("train"), or the forward pass on its batch ("infer"), on random arrays.

    layers: None is the model's own depth. changes: other values for fields of the recipe. DataError naming the models there are.
    """
    kind = task_class(model)
    if layers is not None:
        if not has_layers(kind):
            raise DataError(f"{model} has no layers that could be counted; leave --layers out")
        changes = {**changes, "layers": layers}
    return work_of(kind(kind.Recipe(**changes), kind.stand_in()), task)


def has_layers(kind: type[Task]) -> bool:
    """Whether the depth of a task's model is one number, `layers`."""
    return any(f.name == "layers" for f in dataclasses.fields(kind.Recipe))


def work_of(task: Task, what: str, model: Any = None) -> Workload:
    """The training step of a task, or its forward pass, on a random batch; model: in place of one with random weights."""
    if what not in STEPS:
        raise DataError(f"unknown task {what!r}; there is {', '.join(STEPS)}")
    batch, state = task.random_batch(np.random.default_rng(task.recipe.seed)), init_state(task)
    if what == "train":
        return Workload(task.name, lambda backend, threads: make_step(task, backend, threads), (state, batch, np.int32(0)), 1,
                        task.items(), task.item)

    def forward(model: Any, batch: tuple[Any, ...]) -> Any:
        return task.forward(model, *batch)

    made = state.model if model is None else model
    return Workload(task.name, lambda backend, threads: ng.jit(forward, backend=backend, threads=threads), (made, batch),
                    items=task.items(), unit=task.item, exported=(task.answering(made), task.inputs()))


def operation(name: str) -> Workload:
    """A single operation on random float32 arrays."""
    function, shapes = CASES[name]
    rng = np.random.default_rng(0)
    arguments = tuple(rng.standard_normal(s, dtype=np.float32) for s in shapes)
    return Workload(name, lambda backend, threads: ng.jit(OPERATIONS[function], backend=backend, threads=threads), arguments)
