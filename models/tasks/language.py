"""Language models: the next token of a text, given those before it."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models.data.text import batch
from nagraph.models.data.tokenization import tokenizer_from_json
from nagraph.models.data.tokens import Characters, Tokenizer
from nagraph.models.generation import generate, stream
from nagraph.models.language_model import next_token_loss
from nagraph.models.training.fields import share, whole
from nagraph.models.training.recipe import Recipe
from nagraph.models.training.task import Facts, Score, Task, Text
from nagraph.nn import functional as F

Array = Any
Ids = np.ndarray[Any, Any]


@dataclass(frozen=True)
class LanguageRecipe(Recipe):
    """A recipe for text has the sizes of a transformer that reads it."""

    layers: int = whole(4, 1, "Transformer blocks.")
    heads: int = whole(4, 1, "Attention heads.")
    width: int = whole(104, 1, "Width of the residual stream.")
    context: int = whole(128, 2, "Tokens that the model sees at once.")
    dropout: float = share(0.1, "Share of activations that a step leaves out.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise DataError(f"width {self.width} must be a multiple of heads {self.heads}")


class LanguageTask(Task):
    """A task of language is to continue a text. `read` sets `train` and `held_out`, both ids."""

    item: ClassVar[str] = "tokens"
    #: Tokens of a sample, of which the prompt takes half a context.
    sample: ClassVar[int] = 400
    #: Tokens of the default data.
    usual_tokens: ClassVar[int]
    train: Ids
    held_out: Ids

    def __init__(self, recipe: Any, facts: Facts):
        super().__init__(recipe, facts)
        self.tokenizer: Tokenizer = tokenizer_from_json(facts["tokenizer"])
        self._compiled: dict[str | None, Any] = {}

    @abstractmethod
    def baselines(self) -> Iterator[Score]: ...

    def batch(self, number: int) -> tuple[Ids, ...]:
        """Windows of the text, [batch, context + 1]."""
        recipe = self.recipe
        return (batch(self.train, recipe.context, recipe.batch, recipe.seed, number),)

    def loss(self, model: Any, *arrays: Array, key: Array) -> tuple[Array, Any]:
        (ids,) = arrays
        return next_token_loss(model, ids, key=key if self.recipe.dropout else None), model

    @classmethod
    def stand_in(cls) -> Facts:
        return {"tokenizer": Characters("".join(map(chr, range(cls.usual_tokens)))).to_json()}

    def random_batch(self, rng: np.random.Generator) -> tuple[Ids, ...]:
        return (rng.integers(0, self.tokenizer.size, (self.recipe.batch, self.recipe.context + 1)).astype(np.int32),)

    def inputs(self) -> tuple[Any, ...]:
        return (ng.spec((ng.Dim("batch"), ng.Dim("time", max=self.recipe.context)), np.int32),)

    def forward(self, model: Any, *batch: Array) -> Array:
        """Scores of what follows each token but the last."""
        return model(batch[0][:, :-1])

    def items(self) -> int:
        return int(self.recipe.batch * self.recipe.context)

    def nats(self, model: Any, ids: Ids, backend: str | None = None) -> tuple[float, int]:
        """(nats in all, tokens): every token but the first, each with half a context before it where the text has it."""
        context, size = self.recipe.context, self.recipe.batch
        half, last = context // 2, len(ids) - context - 1
        starts = [*range(0, max(last, 0), half), max(last, 0)]
        window = min(context, len(ids) - 1)
        total, done = 0.0, 0
        losses = self._losses(backend).bind(model)
        for first in range(0, len(starts), size):
            chosen = starts[first:first + size]
            rows = [*chosen, *[chosen[-1]] * (size - len(chosen))]  # one shape, so one compilation
            windows = ids[np.array(rows)[:, None] + np.arange(window + 1)].astype(np.int32)
            found = ng.to_numpy(losses(windows))[:len(chosen)].astype(np.float64)
            for start, row in zip(chosen, found):
                part = row[done - start:]  # what no window before has counted
                total, done = total + float(part.sum()), start + window
        return total, done

    def _losses(self, backend: str | None) -> Any:
        if backend not in self._compiled:
            self._compiled[backend] = ng.jit(
                lambda model, ids: F.cross_entropy(model(ids[:, :-1]), ids[:, 1:], ignore_index=None), backend=backend)
        return self._compiled[backend]

    def showcase(self, model: Any, backend: str | None = None) -> Iterator[Text]:
        prompt = self.held_out[:self.recipe.context // 2]
        ids = generate(model, prompt, self.sample, temperature=0.8, seed=self.recipe.seed, backend=backend)
        yield Text("A sample (temperature 0.8), after the first words of the held-out part", self.tokenizer.decode(prompt),
                   stream(self.tokenizer.decode, ids))

    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        table = shapes.get("state.model.token.table", ())
        blocks = len({n.split(".")[3] for n in shapes if n.startswith("state.model.blocks.")})
        if (table, blocks) != ((self.tokenizer.size, self.recipe.width), self.recipe.layers):
            raise CheckpointError(f"{folder}: its tensors are not those of its recipe: embedding {list(table)}, {blocks} blocks; "
                                  f"the recipe asks for [{self.tokenizer.size}, {self.recipe.width}], {self.recipe.layers}")


def perplexity(nats: float, tokens: int) -> float:
    """exp of the mean negative log probability."""
    return math.exp(nats / tokens) if nats / tokens < 700 else math.inf


