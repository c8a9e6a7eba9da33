"""GPT-2 on text, character by character, beside Kneser-Ney n-grams."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import CheckpointError
from nagraph.models.data import kneser_ney, text
from nagraph.models.data.tokens import Characters
from nagraph.models.gpt2 import GPT2, GPT2Config
from nagraph.models.tasks.language import LanguageRecipe, LanguageTask, perplexity
from nagraph.models.training.fields import maybe_whole
from nagraph.models.training.task import Score

#: Orders of the n-grams that the model is compared with.
ORDERS = (1, 2, 3, 5, 9)


@dataclass(frozen=True)
class GPT2Recipe(LanguageRecipe):
    """GPT-2's recipe lets the learning rate fall along a half cosine, to the end of the default run."""

    horizon: int | None = maybe_whole(3600, 2, "Let the learning rate fall along a half cosine until this step.")


class GPT2Task(LanguageTask):
    """GPT-2's task is to continue a text by characters; the last tenth is held out."""

    name: ClassVar[str] = "gpt2"
    about: ClassVar[str] = "characters of the English text that ships with Python (--data: a text file, or a folder of them)"
    Recipe: ClassVar[Any] = GPT2Recipe
    steps: ClassVar[int] = 3600
    unit: ClassVar[str] = "nats a character"
    metric: ClassVar[str] = "perplexity a character"
    higher: ClassVar[bool] = False
    usual_tokens: ClassVar[int] = 103

    @classmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> GPT2Task:
        return cls.of(recipe, text.load(data, recipe.context), data is None)

    @classmethod
    def of(cls, recipe: Any, found: text.Text, default: bool = False) -> GPT2Task:
        """The task on a text."""
        task = cls(recipe, {"tokenizer": Characters(found.symbols).to_json()})
        task._take(found, default)
        return task

    def read(self, data: pathlib.Path | None) -> None:
        self._take(text.load(data, self.recipe.context), data is None)

    def _take(self, found: text.Text, default: bool) -> None:
        self.source, self.sha256 = found.source, found.sha256
        self.train, self.held_out = found.train, found.held_out
        self.characters, self.repeats = len(found.ids), default

    @property
    def config(self) -> GPT2Config:
        r = self.recipe
        return GPT2Config(self.tokenizer.size, r.context, r.layers, r.heads, r.width, dropout=r.dropout)

    def init(self, key: Any) -> GPT2:
        return GPT2.init(key, self.config, np.dtype(self.recipe.dtype))

    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        return [Score(self.metric, perplexity(*self.nats(model, self.held_out, backend)))]

    def baselines(self) -> Iterator[Score]:
        symbols = self.tokenizer.size
        yield Score("chance: every character alike", float(symbols))
        for order in ORDERS:
            try:
                yield Score(f"Kneser-Ney, order {order}", kneser_ney.perplexity(self.train, self.held_out, order, symbols))
            except ValueError:  # there are more runs of this order than numbers of 64 bits
                break

    def describe(self) -> str:
        return f"{self.characters / 1000:.0f}k characters of {self.source}, {self.tokenizer.size} symbols, last tenth held out"

    def notes(self) -> list[str]:
        return ["Topics repeat each other, so some held-out spans occur in the training part, for the n-grams as well."] * self.repeats

    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        super().check_claims(shapes, folder)
        position = shapes.get("state.model.position", ())
        if position != (self.recipe.context, self.recipe.width):
            raise CheckpointError(f"{folder}: its tensors are not those of its recipe: positions {list(position)}, "
                                  f"the recipe asks for [{self.recipe.context}, {self.recipe.width}]")
