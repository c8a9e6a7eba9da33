"""Workloads: what a model does by default, as a function with arguments, for commands that compile, show, profile and time it.

A model is registered in MODELS, by its name on the command line; `inspect`, `profile` and `bench` know it from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

import nagraph as ng
from nagraph.errors import DataError
from nagraph.models.data.subwords import SPECIAL, WordPieces
from nagraph.models.data.tokens import Characters
from nagraph.models.data.words import END
from nagraph.models.operations import CASES, OPERATIONS
from nagraph.models.tasks import task_class
from nagraph.models.training import init_state, make_step

TASKS = ("train", "infer")
Task = Any
Generator = np.random.Generator
Batch = tuple[np.ndarray[Any, Any], ...]


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


def _text(task: Task, rng: Generator) -> Batch:
    r = task.recipe
    return (rng.integers(0, task.tokenizer.size, (r.batch, r.context + 1)).astype(np.int32),)


def _images(task: Task, rng: Generator) -> Batch:
    return rng.standard_normal((task.recipe.batch, *task.facts["shape"]), np.float32), rng.integers(0, 10, task.recipe.batch, np.int32)


def _pairs(task: Task, rng: Generator) -> Batch:
    r, shape = task.recipe, (task.channels, task.side, task.side)
    ids = rng.integers(4, task.words.size, (r.batch, r.context)).astype(np.int32)
    ids[:, -1] = END
    return rng.standard_normal((r.batch, *shape), np.float32), ids, np.eye(r.batch, dtype=bool)


def _hidden(task: Task, rng: Generator) -> Batch:
    r, hidden = task.recipe, task.recipe.context // 8
    ids, labels = (rng.integers(5, task.tokenizer.size, (r.batch, n)).astype(np.int32) for n in (r.context, hidden))
    places = np.sort(rng.permuted(np.tile(np.arange(r.context, dtype=np.int32), (r.batch, 1)), axis=1)[:, :hidden])
    return ids, places, labels, np.ones(labels.shape, np.float32)


class Example(NamedTuple):
    """What stands for the data of a task: facts, arrays of a batch, the function of a forward pass on some of these."""

    facts: Callable[[], dict[str, Any]]
    batch: Callable[[Any, Generator], Batch]
    forward: Callable[[Any, Any, Batch], Any]


def _symbols(count: int) -> Callable[[], dict[str, Any]]:
    return lambda: {"tokenizer": Characters("".join(map(chr, range(count)))).to_json()}


def _pieces() -> dict[str, Any]:
    return {"tokenizer": WordPieces.of([*SPECIAL, *(f"##{i}" for i in range(4096 - len(SPECIAL)))]).to_json(),
            "names": [str(i) for i in range(12)]}


_DIGITS = {"names": [str(i) for i in range(10)], "shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}
_CAPTIONS = {"words": [str(i) for i in range(53)], "channels": 1, "side": 32}
#: Each model on the command line, and what stands for its data: random arrays of their shapes.
MODELS: dict[str, Example] = {
    "gpt2": Example(_symbols(103), _text, lambda task, model, x: model(x[0][:, :-1])),
    "modern": Example(_symbols(2048), _text, lambda task, model, x: model(x[0][:, :-1])),
    "vit": Example(lambda: _DIGITS, _images, lambda task, model, x: task.logits(model, x[0])),
    "resnet": Example(lambda: _DIGITS, _images, lambda task, model, x: task.logits(model, x[0])),
    "bert": Example(_pieces, _hidden, lambda task, model, x: task.guesses(model, x[0], x[1])),
    "clip": Example(lambda: _CAPTIONS, _pairs, lambda task, model, x: model(x[0], x[1])),
}


def workload(model: str, task: str, layers: int | None = None, **changes: Any) -> Workload:
    """A training step of the default recipe ("train"), or the forward pass on its batch ("infer").

    layers: None is the model's own depth. changes: other values for fields of the recipe. DataError naming the models there are.
    """
    if model not in MODELS:
        raise DataError(f"unknown model {model!r}; there is {', '.join(MODELS)}")
    if task not in TASKS:
        raise DataError(f"unknown task {task!r}; there is {', '.join(TASKS)}")
    kind, example = task_class(model), MODELS[model]
    if layers is not None:
        if not any(f.name == "layers" for f in dataclasses.fields(kind.Recipe)):
            raise DataError(f"{model} has no layers that could be counted; leave --layers out")
        changes = {**changes, "layers": layers}
    trained: Any = kind(kind.Recipe(**changes), example.facts())
    batch, state = example.batch(trained, np.random.default_rng(trained.recipe.seed)), init_state(trained)
    if task == "train":
        return Workload(model, lambda backend, threads: make_step(trained, backend, threads), (state, batch, np.int32(0)), 1,
                        trained.items(), kind.item)

    def forward(model: Any, batch: Batch) -> Any:
        return example.forward(trained, model, batch)

    return Workload(model, lambda backend, threads: ng.jit(forward, backend=backend, threads=threads), (state.model, batch),
                    items=trained.items(), unit=kind.item)


def operation(name: str) -> Workload:
    """A single operation on random float32 arrays."""
    function, shapes = CASES[name]
    rng = np.random.default_rng(0)
    arguments = tuple(rng.standard_normal(s, dtype=np.float32) for s in shapes)
    return Workload(name, lambda backend, threads: ng.jit(OPERATIONS[function], backend=backend, threads=threads), arguments)
