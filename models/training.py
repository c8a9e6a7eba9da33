"""Training a language model: the recipe, one step as a pure function, evaluation, and runs that can be stopped and resumed."""

from __future__ import annotations

import dataclasses
import math
import pathlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models import checkpoint
from nagraph.models.data.text import Text, batch
from nagraph.models.gpt2 import GPT2, GPT2Config, next_token_loss
from nagraph.nn.module import Module
from nagraph.storage import fill, named_leaves

Array = Any


def _whole(least: int) -> tuple[str, Callable[[Any], bool]]:
    return f"a whole number, at least {least}", lambda x: type(x) is int and least <= x < 2**64


def _number(what: str, holds: Callable[[float], bool]) -> tuple[str, Callable[[Any], bool]]:
    return f"a number {what}", lambda x: type(x) in (int, float) and holds(x)


_POSITIVE = _number("greater than 0", lambda x: 0 < x < math.inf)
_SHARE = _number("in [0, 1)", lambda x: 0 <= x < 1)
_HORIZON = "None, or a whole number, at least 2", lambda x: x is None or _whole(2)[1](x)

#: What each field of a recipe must be, in words and as a test.
_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "layers": _whole(1), "heads": _whole(1), "width": _whole(1), "context": _whole(2), "batch": _whole(1), "warm_up": _whole(1),
    "seed": _whole(0), "horizon": _HORIZON, "dropout": _SHARE, "learning_rate": _POSITIVE, "b1": _SHARE, "b2": _SHARE,
    "weight_decay": _number("of at least 0", lambda x: 0 <= x < math.inf), "clip": _POSITIVE, "average": _SHARE,
    "dtype": ("float32 or float64", lambda x: x in ("float32", "float64")),
}


@dataclass(frozen=True)
class Recipe:
    """Everything that decides a run, with the data: sizes, learning rate, regularisation, seed.

    Nothing here knows how many steps there will be; a schedule that decays takes an explicit `horizon`.
    DataError for values that no run can have.
    """

    layers: int = 4
    heads: int = 4
    width: int = 104
    context: int = 128
    batch: int = 16
    dropout: float = 0.1
    learning_rate: float = 3e-3
    warm_up: int = 100
    horizon: int | None = None
    b1: float = 0.9
    b2: float = 0.99
    weight_decay: float = 0.1
    clip: float = 1.0
    average: float = 0.998
    seed: int = 0
    dtype: str = "float32"

    def __post_init__(self) -> None:
        for name, (rule, holds) in _RULES.items():
            if not holds(getattr(self, name)):
                raise DataError(f"{name} must be {rule}, got {getattr(self, name)!r}")
        if self.width % self.heads:
            raise DataError(f"width {self.width} must be a multiple of heads {self.heads}")
        if self.horizon is not None and self.horizon <= self.warm_up:
            raise DataError(f"the horizon, {self.horizon} steps, must lie beyond the warm-up of {self.warm_up}")

    def schedule(self) -> Any:
        """Warm-up to a constant; with a horizon, from there a half cosine to a tenth at the horizon."""
        if self.horizon is None:
            after: Any = ng.optim.constant(self.learning_rate)
        else:
            after = ng.optim.cosine(self.learning_rate, self.horizon - self.warm_up, final=self.learning_rate / 10)
        return ng.optim.warm_up(after, self.warm_up)

    def optimiser(self) -> Any:
        """AdamW; vectors (biases, norms) do not decay."""
        return ng.optim.AdamW(self.schedule(), b1=self.b1, b2=self.b2, weight_decay=self.weight_decay, decay_min_rank=2)

    def model_config(self, symbols: int) -> GPT2Config:
        return GPT2Config(symbols, self.context, self.layers, self.heads, self.width, dropout=self.dropout)


class TrainState(Module):
    """What a step changes: the model, the optimiser's moments, the moving average of the weights, the count of steps done."""

    model: Any
    optimiser: Any
    average: Any
    count: Array


def init_state(recipe: Recipe, symbols: int) -> TrainState:
    """The state before the first step: a function of the recipe's seed."""
    model = GPT2.init(ng.random.key(recipe.seed), recipe.model_config(symbols), np.dtype(recipe.dtype))
    return TrainState(model, recipe.optimiser().init(model), model.map(np.copy), np.zeros((), np.int32))


def make_step(recipe: Recipe, backend: str | None = None, threads: int | None = None) -> Any:
    """The compiled step: (state, ids [batch, context + 1], step) -> (state, loss, gradient norm).

    A step whose loss or gradient norm is not finite gives back the state as it was.
    """
    optimiser = recipe.optimiser()

    def step(state: TrainState, ids: Array, number: Array) -> tuple[TrainState, Array, Array]:
        key = ng.random.fold_in(ng.random.key(recipe.seed), number) if recipe.dropout else None
        loss, grads = ng.value_and_grad(lambda m: next_token_loss(m, ids, key=key))(state.model)
        grads, norm = ng.optim.clip_by_global_norm(grads, recipe.clip)
        model, moments = optimiser.update(state.model, grads, state.optimiser)
        count = state.count + 1
        dtype = np.dtype(recipe.dtype)
        done = count.astype(dtype)
        keep = ng.numpy.minimum(np.asarray(recipe.average, dtype), (done + 1) / (done + 10))
        average = ng.tree.map(lambda a, x: None if a is None else a * keep + x * (1 - keep), state.average, model)
        finite = ng.numpy.isfinite(loss) & ng.numpy.isfinite(norm)
        after = TrainState(model, moments, average, count)
        return ng.tree.map(lambda new, old: None if old is None else ng.where(finite, new, old), after, state), loss, norm

    return ng.jit(step, backend=backend, threads=threads, donate_argnames=("state",))


def make_evaluation(recipe: Recipe, backend: str | None = None) -> Callable[[Any, np.ndarray[Any, Any]], float]:
    """(model, ids) -> perplexity: windows that overlap by half, only the later half counted, so that each has context."""

    def losses(model: Any, ids: Array) -> Array:
        return ng.nn.functional.cross_entropy(model(ids[:, :-1]), ids[:, 1:])

    jitted = ng.jit(losses, backend=backend)

    def evaluate(model: Any, ids: np.ndarray[Any, Any]) -> float:
        context, half = recipe.context, recipe.context // 2
        starts = [*range(0, max(len(ids) - context, 1), half)]
        if starts[-1] + context + 1 > len(ids):
            starts.pop()
        total = counted = 0.0
        for first in range(0, len(starts), recipe.batch):
            chosen = starts[first:first + recipe.batch]
            rows = [*chosen, *[chosen[-1]] * (recipe.batch - len(chosen))]  # one shape, so one compilation
            found = jitted(model, ids[np.array(rows)[:, None] + np.arange(context + 1)])[:len(chosen)].astype(np.float64)
            for start, row in zip(chosen, found):
                part = row if start == 0 else row[context - half:]
                total, counted = total + float(part.sum()), counted + len(part)
        return float(np.exp(total / counted))

    return evaluate


class Run:
    """A training run: a recipe, a text, the state, and the curve of losses so far. `advance` does one step."""

    def __init__(self, recipe: Recipe, text: Text, backend: str | None = None):
        self.recipe, self.text, self.backend = recipe, text, backend
        self.state = init_state(recipe, len(text.symbols))
        self.step = 0
        self.losses: list[float] = []
        self.norms: list[float] = []
        self._compiled = make_step(recipe, backend)

    def batch(self, step: int) -> np.ndarray[Any, Any]:
        """The windows of a step: a function of the text, the seed and the step."""
        return batch(self.text.train, self.recipe.context, self.recipe.batch, self.recipe.seed, step)

    def compile(self) -> Any:
        """Compile the step without running it; returns what was compiled (graph and executable)."""
        return self._compiled.lower(self.state, self.batch(0), np.int32(0))

    def advance(self) -> tuple[float, float]:
        """One step: its loss (nats a symbol) and gradient norm. Not finite: nothing but the step's number has changed."""
        self.state, loss, norm = self._compiled(self.state, self.batch(self.step), np.int32(self.step))
        self.step += 1
        self.losses.append(float(loss))
        self.norms.append(float(norm))
        return self.losses[-1], self.norms[-1]

    def perplexity(self) -> float:
        """Held-out perplexity of the averaged weights."""
        return make_evaluation(self.recipe, self.backend)(self.state.average, self.text.held_out)

    def save(self, folder: str | pathlib.Path) -> None:
        """Write the checkpoint."""
        facts = {"model": "gpt2", "recipe": dataclasses.asdict(self.recipe), "symbols": self.text.symbols,
                 "data": {"source": self.text.source, "sha256": self.text.sha256, "characters": len(self.text.ids)}}
        curve = {"losses": np.array(self.losses, np.float64), "norms": np.array(self.norms, np.float64)}
        checkpoint.write(folder, self.step, facts, {**named_leaves(self.state, "state"), **curve})

    @classmethod
    def resume(cls, folder: str | pathlib.Path, text: Text, backend: str | None = None) -> Run:
        """The run that a checkpoint holds, going on with the same text. CheckpointError if it was another text."""
        facts, tensors = checkpoint.read(folder, "gpt2")
        recipe = read_recipe(facts, folder)
        data = facts.get("data")
        if not isinstance(data, dict) or data.get("sha256") != text.sha256:
            source = data.get("source") if isinstance(data, dict) else data
            raise CheckpointError(f"{folder} was trained on another text ({source}) than {text.source}; "
                                  "resume with the text that it was trained on")
        _check_sizes(recipe, len(text.symbols), tensors, folder)
        run = cls(recipe, text, backend)
        run.state = fill(run.state, tensors, str(folder), "state")
        run.step = facts["step"]
        run.losses, run.norms = (list(map(float, tensors.get(k, ()))) for k in ("losses", "norms"))
        return run


def read_recipe(facts: dict[str, Any], folder: str | pathlib.Path) -> Recipe:
    """The recipe of a checkpoint."""
    found, known = facts.get("recipe"), {f.name for f in dataclasses.fields(Recipe)}
    if not isinstance(found, dict) or set(found) != known:
        odd = ", ".join(sorted(set(found) ^ known)) if isinstance(found, dict) else "there is none"
        raise CheckpointError(f"{folder}: its recipe is not one that this version knows ({odd})")
    try:
        return Recipe(**found)
    except DataError as error:
        raise CheckpointError(f"{folder}: its recipe is not one that can be trained: {error}") from None


def _check_sizes(recipe: Recipe, symbols: int, tensors: dict[str, np.ndarray[Any, Any]], folder: str | pathlib.Path) -> None:
    """CheckpointError unless the tensors have the sizes that the recipe claims; before memory is asked for."""
    table, position = (tensors[n].shape if n in tensors else () for n in ("state.model.token.table", "state.model.position"))
    blocks = len({n.split(".")[3] for n in tensors if n.startswith("state.model.blocks.")})
    claimed = (symbols, recipe.width), (recipe.context, recipe.width), recipe.layers
    if (table, position, blocks) != claimed:
        raise CheckpointError(f"{folder}: its tensors are not those of its recipe: embedding {list(table)}, positions {list(position)}, "
                              f"{blocks} blocks; the recipe asks for {list(claimed[0])}, {list(claimed[1])}, {claimed[2]}")


def load_model(folder: str | pathlib.Path) -> tuple[GPT2, str, Recipe]:
    """The averaged model of a checkpoint, its symbols, and its recipe."""
    facts, tensors = checkpoint.read(folder, "gpt2")
    recipe = read_recipe(facts, folder)
    symbols = facts.get("symbols")
    if not isinstance(symbols, str) or not symbols:
        raise CheckpointError(f"{folder}: the checkpoint names no symbols")
    _check_sizes(recipe, len(symbols), tensors, folder)
    like = GPT2.init(ng.random.key(0), recipe.model_config(len(symbols)), np.dtype(recipe.dtype))
    return fill(like, tensors, str(folder), "state.average"), symbols, recipe
