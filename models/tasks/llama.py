"""Llama on program text, in byte-pair tokens, beside Kneser-Ney n-grams of bytes."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from nagraph.errors import DataError
from nagraph.models.data import corpus, kneser_ney
from nagraph.models.data.tokens import Bytes
from nagraph.models.llama import Llama, LlamaConfig
from nagraph.models.tasks.language import LanguageRecipe, LanguageTask
from nagraph.models.training.fields import maybe_whole, one_of, positive, share, whole
from nagraph.models.training.task import Score

#: Orders of the n-grams of bytes.
ORDERS = (1, 3, 5, 8)
TOKENS = ("byte-pairs", "bytes", "characters")


@dataclass(frozen=True)
class LlamaRecipe(LanguageRecipe):
    """Llama's recipe drops nothing, since the text is large beside the model."""

    batch: int = whole(16, 1, "Windows in one batch.")
    context: int = whole(128, 2, "Tokens that the model sees at once.")
    learning_rate: float = positive(4e-3, "Peak learning rate.")
    horizon: int | None = maybe_whole(2000, 2, "Let the learning rate fall along a half cosine until this step.")
    b2: float = share(0.95, "Decay of the mean of squared gradients.")
    layers: int = whole(4, 1, "Transformer blocks.")
    heads: int = whole(6, 1, "Attention heads.")
    groups: int = whole(2, 1, "Heads of keys and values, each shared by heads / groups queries.")
    width: int = whole(192, 1, "Width of the residual stream.")
    inner: int = whole(512, 1, "Width of the hidden layer.")
    dropout: float = share(0.0, "Share of activations that a step leaves out.")
    tokens: str = one_of("byte-pairs", TOKENS, "Kind of tokens.")
    vocabulary: int = whole(2048, 257, "Byte pairs, trained on what is not held out.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heads % self.groups:
            raise DataError(f"heads {self.heads} must be a multiple of groups {self.groups}")


class LlamaTask(LanguageTask):
    """Llama's task is to continue program text by tokens; a tenth of the files is held out."""

    name: ClassVar[str] = "llama"
    about: ClassVar[str] = "the sources of Python's standard library, split by file (--data: a text file, or a folder of them)"
    Recipe: ClassVar[Any] = LlamaRecipe
    steps: ClassVar[int] = 2000
    unit: ClassVar[str] = "nats a token"
    metric: ClassVar[str] = "bits a byte"
    higher: ClassVar[bool] = False
    usual_tokens: ClassVar[int] = 2048

    @classmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> LlamaTask:
        found = corpus.load(data, recipe.tokens, recipe.vocabulary, recipe.context)
        task = cls(recipe, {"tokenizer": found.tokenizer.to_json()})
        task._take(found)
        return task

    def read(self, data: pathlib.Path | None) -> None:
        self._take(corpus.load(data, self.tokenizer, context=self.recipe.context))

    def _take(self, found: corpus.TokenText) -> None:
        self.text, self.source, self.sha256 = found, found.source, found.sha256
        self.train, self.held_out = found.train, found.held_out

    @property
    def config(self) -> LlamaConfig:
        r = self.recipe
        return LlamaConfig(vocabulary=self.tokenizer.size, context=r.context, layers=r.layers, heads=r.heads, groups=r.groups,
                                 width=r.width, inner=r.inner, head="tied", dropout=r.dropout)

    def init(self, key: Any) -> Llama:
        return Llama.init(key, self.config, np.dtype(self.recipe.dtype))

    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        nats, tokens = self.nats(model, self.held_out, backend)
        return [Score(self.metric, self.text.bits_a_byte(nats / tokens))]

    def baselines(self) -> Iterator[Score]:
        yield Score("chance: every byte alike", 8.0)
        train, held_out = (Bytes().encode(self.tokenizer.decode(ids)) for ids in (self.train, self.held_out))
        for order in ORDERS:
            yield Score(f"Kneser-Ney of bytes, order {order}", kneser_ney.bits(train, held_out, order, Bytes.size))

    def describe(self) -> str:
        text = self.text
        return (f"{text.bytes_train / 1e6:.1f} MB of {self.source} as {len(text.train):,} tokens of {self.tokenizer.size:,} "
                f"{self.tokenizer.kind.replace('-', ' ')}; {text.bytes_held_out / 1e6:.1f} MB more held out")

    def notes(self) -> list[str]:
        return ["Figures are in bits a byte of text, so that tokens of different kinds compare; the n-grams see the bytes before them "
                "without end, the model what its context holds."]
