"""Workloads: what a model does by default, as a function with arguments, for commands that compile, show, profile and time it.

A model is registered in MODELS, by its name on the command line; `inspect`, `profile` and `bench` know it from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.data.tokens import Characters
from nagraph.models.operations import CASES, OPERATIONS
from nagraph.models.tasks.gpt2 import GPT2Recipe, GPT2Task
from nagraph.models.training import init_state, make_step

#: Symbols of the text that is trained on by default.
SYMBOLS = 103
TASKS = ("train", "infer")


@dataclass(frozen=True)
class Workload:
    """make(backend, threads) is a jitted function, `arguments` are those of its first call, which may overwrite them.

    carried: so many arguments, from the first, are replaced by the first results of a call before the next one.
    items: what a call works through, counted in `unit`; 0 where there is nothing to count.
    """

    name: str
    make: Callable[[str | None, int | None], Any]
    arguments: tuple[Any, ...]
    carried: int = 0
    items: int = 0
    unit: str = ""

    def graph(self) -> Any:
        """The function's graph as it is traced."""
        return ng.trace(self.make(None, None), *self.arguments)

    def lower(self, backend: str | None = None, threads: int | None = None) -> Any:
        """The compiled function (graph and executable), not run."""
        return self.make(backend, threads).lower(*self.arguments)

    def arrays(self) -> list[np.ndarray[Any, Any]]:
        """The arguments as the executable takes them: arrays, one after another."""
        return [np.asarray(x) for x in ng.tree.leaves(self.arguments) if x is not None]

    def calls(self, backend: str | None = None, threads: int | None = None) -> Callable[[], Any]:
        """A function without arguments that does one call after another."""
        run, arguments = self.make(backend, threads), self.arguments

        def call() -> Any:
            nonlocal arguments
            results = run(*arguments)
            if self.carried:
                arguments = (*results[:self.carried], *arguments[self.carried:])
            return results

        return call


def gpt2(task: str, layers: int | None = None, **changes: Any) -> Workload:
    """The training step of the default recipe, or the logits of its batch. `changes`: other values for fields of the recipe."""
    recipe = GPT2Recipe(**changes) if layers is None else GPT2Recipe(layers=layers, **changes)
    trained = GPT2Task(recipe, {"tokenizer": Characters("".join(map(chr, range(SYMBOLS)))).to_json()})
    state = init_state(trained)
    ids = np.random.default_rng(recipe.seed).integers(0, SYMBOLS, (recipe.batch, recipe.context + 1)).astype(np.int32)
    tokens = recipe.batch * recipe.context
    if task == "train":
        return Workload("gpt2", lambda backend, threads: make_step(trained, backend, threads), (state, (ids,), np.int32(0)), 1,
                        tokens, "tokens")

    def forward(model: Any, ids: Any) -> Any:
        return model(ids)

    return Workload("gpt2", lambda backend, threads: ng.jit(forward, backend=backend, threads=threads),
                    (state.model, ids[:, :-1]), items=tokens, unit="tokens")


#: Each model: (task, layers, **changes) -> Workload; layers=None is the model's own depth.
MODELS: dict[str, Callable[..., Workload]] = {"gpt2": gpt2}


def workload(model: str, task: str, layers: int | None = None, **changes: Any) -> Workload:
    """What `model` does for a task, "train" (a whole training step) or "infer". DataError naming the models there are."""
    if model not in MODELS:
        raise DataError(f"unknown model {model!r}; there is {', '.join(MODELS)}")
    if task not in TASKS:
        raise DataError(f"unknown task {task!r}; there is {', '.join(TASKS)}")
    return MODELS[model](task, layers, **changes)


def operation(name: str) -> Workload:
    """A single operation on random float32 arrays."""
    function, shapes = CASES[name]
    rng = np.random.default_rng(0)
    arguments = tuple(rng.standard_normal(s, dtype=np.float32) for s in shapes)
    return Workload(name, lambda backend, threads: ng.jit(OPERATIONS[function], backend=backend, threads=threads), arguments)
