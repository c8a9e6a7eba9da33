"""BERT on program text: first hidden tokens are guessed, then also which package a snippet comes from."""

from __future__ import annotations

import functools
import hashlib
import math
import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models.bert import BERT, BERTConfig
from nagraph.models.data import baselines, snippets
from nagraph.models.data.masking import chosen_positions, mask_tokens
from nagraph.models.data.neighbours import Neighbours
from nagraph.models.data.subwords import SPECIAL, WordPieces
from nagraph.models.tasks.language import LanguageRecipe
from nagraph.models.training.fields import maybe_whole, positive, share, whole
from nagraph.models.training.task import Facts, Matrix, Score, Task, Text
from nagraph.nn import functional as F

Array = Any
Ids = np.ndarray[Any, Any]

#: Windows of held-out text whose hidden tokens are guessed in an evaluation, and texts that are computed at once.
WINDOWS, EVALUATED = 512, 64
#: The share of tokens that is hidden in an evaluation.
HIDDEN = 0.15
# Different purposes draw from different streams of the same seed.
_WINDOWS, _MASKS, _TEST, _DROPS = 1, 2, 3, 4


@dataclass(frozen=True)
class BERTRecipe(LanguageRecipe):
    """BERT's recipe has two parts: reading, and then reading and classes together.

    Small models on little text read better if more is hidden than BERT's 15 % (Wettig et al. 2022), and if the first weights are larger.
    """

    batch: int = whole(32, 1, "Windows or snippets in one batch.")
    learning_rate: float = positive(2e-3, "Peak learning rate of reading.")
    class_rate: float = positive(1e-3, "Peak learning rate of classes.")
    reading: int = whole(1300, 1, "Steps in which hidden tokens alone are guessed.")
    horizon: int | None = maybe_whole(2500, 2, "Steps until which the learning rate falls along a half cosine, in both parts.")
    layers: int = whole(2, 1, "Transformer blocks.")
    heads: int = whole(4, 1, "Attention heads.")
    width: int = whole(192, 1, "Width of the residual stream.")
    context: int = whole(128, 8, "Tokens that the model sees at once.")
    vocabulary: int = whole(4096, 300, "Word pieces, trained on what is not held out.")
    dropout: float = share(0.0, "Share of activations that a step leaves out.")
    hidden: float = share(0.3, "Share of tokens that is hidden in reading.")
    std: float = positive(0.06, "Deviation of the first weights.")
    hide: float = share(0.2, "Share of a snippet's tokens that is hidden while its class is learned.")
    smoothing: float = share(0.1, "Share of the target that is spread over all classes.")


class BERTTask(Task):
    """BERT's task is to guess hidden tokens of texts, and their classes. The facts are the word pieces and the classes' names."""

    name: ClassVar[str] = "bert"
    about: ClassVar[str] = ("the sources of Python's standard library: hidden tokens, then which package 12 lines come from (--data: "
                            "folders of texts by class, with folders train and test above, or without)")
    Recipe: ClassVar[Any] = BERTRecipe
    steps: ClassVar[int] = 2500
    item: ClassVar[str] = "texts"
    metric: ClassVar[str] = "accuracy of classes, %"
    still: ClassVar[Mapping[str, str]] = {
        "pooler": "the classifier alone reads it, which learns after reading", "classifier": "it learns after reading"}

    def __init__(self, recipe: Any, facts: Facts):
        super().__init__(recipe, facts)
        self.tokenizer = WordPieces.from_json(facts["tokenizer"])
        self.names = tuple(map(str, facts["names"]))
        self.starts = (0, recipe.reading)

    @classmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> BERTTask:
        texts = snippets.load(data)
        task = cls(recipe, {"tokenizer": WordPieces.train(texts.reading, recipe.vocabulary).to_json(), "names": list(texts.names)})
        task._take(texts, data is None)
        return task

    def read(self, data: pathlib.Path | None) -> None:
        texts = snippets.load(data)
        if texts.names != self.names:
            raise DataError(f"the model knows the classes {', '.join(self.names)}; {texts.source} has {', '.join(texts.names)}")
        self._take(texts, data is None)

    def _take(self, texts: snippets.LabelledTexts, default: bool) -> None:
        self.texts, self.default, self.source = texts, default, texts.source
        digest = hashlib.sha256()
        for text in (*texts.train, *texts.test, *texts.reading):
            digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        self.sha256 = digest.hexdigest()
        self.read_ids, self.unread_ids = (
            np.concatenate([self.tokenizer.encode(t) for t in part]) for part in (texts.reading, texts.unread))
        for ids, what in ((self.read_ids, "to learn from"), (self.unread_ids, "held out")):
            if len(ids) < self.recipe.context:
                raise DataError(f"{texts.source} has {len(ids):,} tokens {what}; a context of {self.recipe.context} needs as many")
        self.train_ids, self.test_ids = (self._padded(part) for part in (texts.train, texts.test))

    # -- texts as ids -----------------------------------------------------------------------------------------

    def _padded(self, texts: list[str]) -> Ids:
        """[CLS] text [SEP] and padding, [texts, context]; of long texts the beginning."""
        t, room = self.tokenizer, self.recipe.context - 2
        rows = np.full((len(texts), self.recipe.context), t.pad, np.int32)
        for row, text in zip(rows, texts):
            ids = t.encode(text)[:room]
            row[:len(ids) + 2] = [t.cls, *ids, t.sep]
        return rows

    def _windows(self, rng: np.random.Generator, ids: Ids, count: int) -> Ids:
        """[CLS] window [SEP], [count, context], from random places."""
        room = self.recipe.context - 2
        starts = rng.integers(0, len(ids) - room, count)
        rows = ids[starts[:, None] + np.arange(room)]
        ends = [np.full((count, 1), x, np.int32) for x in (self.tokenizer.cls, self.tokenizer.sep)]
        return np.concatenate([ends[0], rows, ends[1]], axis=1)

    def _hidden(self, rng: np.random.Generator, rows: Ids, hidden: float) -> tuple[Ids, Ids, Ids, Ids]:
        """Rows with a share of their tokens hidden, and of as many positions in each row: place, token, weight."""
        t = self.tokenizer
        masked = mask_tokens(rng, rows, t.mask, t.size, (t.pad, t.unknown, t.cls, t.sep), hidden)
        return masked.ids, *chosen_positions(masked, math.ceil(hidden * rows.shape[1]))

    def batch(self, number: int) -> tuple[Ids, ...]:
        """Windows with hidden tokens; after reading, a quarter of them, and snippets with their classes."""
        r, seed = self.recipe, (self.recipe.seed, number)
        step = number // r.accumulate
        count = r.batch if step < r.reading else max(1, r.batch // 4)
        windows = self._windows(np.random.default_rng((_WINDOWS, *seed)), self.read_ids, count)
        ids, places, labels, weights = self._hidden(np.random.default_rng((_MASKS, *seed)), windows, max(r.hidden, 0.01))
        hidden = (ids, places, labels, weights.astype(r.dtype))
        if step < r.reading:
            return hidden
        rows = snippets.balanced_batch(self.texts.train_labels, r.batch, *seed)
        shown = self.train_ids[rows]
        drop = (np.random.default_rng((_DROPS, *seed)).random(shown.shape) < r.hide) & (shown > self.tokenizer.mask)
        return *hidden, np.where(drop, self.tokenizer.mask, shown).astype(np.int32), self.texts.train_labels[rows]

    # -- the model ----------------------------------------------------------------------------------------------

    @property
    def config(self) -> BERTConfig:
        r = self.recipe
        return BERTConfig(vocabulary=self.tokenizer.size, context=r.context, types=1, classes=len(self.names), layers=r.layers,
                          heads=r.heads, width=r.width, dropout=r.dropout, std=r.std)

    def init(self, key: Array) -> BERT:
        """Positions begin as sinusoids (Vaswani et al. 2017), of which a neighbour's is a rotation: little text teaches them slowly."""
        model = BERT.init(key, self.config, np.dtype(self.recipe.dtype), heads=("masked", "classifier"))
        waves = F.rope_tables(self.recipe.context, self.recipe.width, 10000.0, model.position.dtype)
        return model.replace(position=np.asarray(0.2 * np.concatenate([np.asarray(x) for x in waves], axis=1), model.position.dtype))

    def optimiser(self) -> Any:
        """AdamW whose rate rises and falls twice: over reading, and over what comes after."""
        r = self.recipe
        last = max((r.horizon or 0) - r.reading, 2)
        warm = min(r.warm_up, max(1, last // 4), max(1, r.reading // 4))
        reading = ng.optim.warm_up(ng.optim.cosine(r.learning_rate, max(r.reading - warm, 1), final=r.learning_rate / 10), warm)
        classes = ng.optim.warm_up(ng.optim.cosine(r.class_rate, last - warm, final=r.class_rate / 10), warm)
        return ng.optim.AdamW(lambda t: ng.where(t < r.reading, reading(t), classes(ng.numpy.maximum(t - r.reading, 0))),
                              b1=r.b1, b2=r.b2, weight_decay=r.weight_decay, decay_min_rank=2)

    def loss(self, model: Any, *arrays: Array, key: Array) -> tuple[Array, Any]:
        ids, places, labels, weights, *classes = arrays
        k_read, k_class = ng.random.split(key, 2) if self.recipe.dropout else (None, None)
        losses = F.cross_entropy(self.guesses(model, ids, places, key=k_read), labels, ignore_index=None) * weights
        loss = ng.numpy.sum(losses) / ng.numpy.maximum(ng.numpy.sum(weights), 1)
        if classes:
            loss = loss + self.class_loss(model, *classes, key=k_class)
        return loss, model

    @classmethod
    def stand_in(cls) -> Facts:
        pieces = [*SPECIAL, *(f"##{i}" for i in range(4096 - len(SPECIAL)))]
        return {"tokenizer": WordPieces.of(pieces).to_json(), "names": [str(i) for i in range(12)]}

    def random_batch(self, rng: np.random.Generator) -> tuple[Ids, ...]:
        r, hidden = self.recipe, self.recipe.context // 8
        ids, labels = (rng.integers(5, self.tokenizer.size, (r.batch, n)).astype(np.int32) for n in (r.context, hidden))
        places = np.sort(rng.permuted(np.tile(np.arange(r.context, dtype=np.int32), (r.batch, 1)), axis=1)[:, :hidden])
        return ids, places, labels, np.ones(labels.shape, r.dtype)

    def inputs(self) -> tuple[Any, ...]:
        return (ng.spec((ng.Dim("batch"), ng.Dim("time", max=self.recipe.context)), np.int32),)

    def answering(self, model: Any) -> Any:
        return functools.partial(self.answers, model)

    def answers(self, model: Any, ids: Array) -> dict[str, Array]:
        """Scores of the token at each place, and of the classes of the whole text."""
        return {"tokens": model.token_scores(model(ids)), "classes": self.class_scores(model, ids)}

    def forward(self, model: Any, *batch: Array) -> Array:
        """Scores of the hidden tokens."""
        return self.guesses(model, batch[0], batch[1])

    def guesses(self, model: Any, ids: Array, places: Array, *, key: Array | None = None) -> Array:
        """Scores [batch, places, vocabulary] of the tokens at these places."""
        return model.token_scores(ng.numpy.take_along_axis(model(ids, key=key), places[..., None], axis=1))

    def class_loss(self, model: Any, ids: Array, labels: Array, *, key: Array | None) -> Array:
        scores = self.class_scores(model, ids, key=key)
        return ng.numpy.mean(F.cross_entropy(scores, labels, smoothing=self.recipe.smoothing, ignore_index=None))

    def class_scores(self, model: Any, ids: Array, *, key: Array | None = None) -> Array:
        """Scores [batch, classes] of texts [batch, context]. The pooler reads the mean of all tokens: the first one learns too slowly."""
        real = (ids != self.tokenizer.pad)[..., None].astype(self.recipe.dtype)
        h = model(ids, None, real[..., 0] > 0, key=key) * real
        mean = ng.numpy.sum(h, axis=1, keepdims=True) / ng.numpy.sum(real, axis=1, keepdims=True)
        return model.class_scores(mean, key=key)

    # -- figures ------------------------------------------------------------------------------------------------

    def _test_windows(self) -> tuple[Ids, Ids, Ids, Ids, Ids]:
        """Held-out windows, the same ones for every model: what is seen, and what is to be guessed; and the windows whole."""
        windows = self._windows(np.random.default_rng((_TEST, 0)), self.unread_ids, WINDOWS)
        return *self._hidden(np.random.default_rng((_TEST, 1)), windows, HIDDEN), windows

    def predict(self, model: Any, backend: str | None = None) -> Ids:
        """Scores [texts, classes] of the held-out texts."""
        return _in_parts(ng.jit(lambda model, ids: self.class_scores(model, ids), backend=backend).bind(model), self.test_ids)

    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        right = self.predict(model, backend).argmax(1) == self.texts.test_labels
        ids, places, labels, weights, _ = self._test_windows()
        run = self._guessing(model, backend)
        guessed = _in_parts(run, ids, places)
        return [Score(self.metric, 100 * float(right.mean())),
                Score("hidden tokens guessed, %", 100 * float((guessed == labels)[weights > 0].mean()))]

    def _guessing(self, model: Any, backend: str | None) -> Any:
        """The function (ids, places) -> the likeliest tokens there."""
        return ng.jit(lambda model, ids, places: ng.numpy.argmax(self.guesses(model, ids, places), axis=-1), backend=backend).bind(model)

    def baselines(self) -> Iterator[Score]:
        t = self.texts
        yield Score("chance: the commonest class", 100 * baselines.chance(t.train_labels, t.test_labels))
        yield Score("TF-IDF with logistic regression", 100 * baselines.text_regression(t.train, t.train_labels, t.test, t.test_labels))
        ids, places, labels, weights, _ = self._test_windows()
        found = np.take_along_axis(Neighbours(self.read_ids, self.tokenizer.size).guess(ids), places, -1)
        yield Score("hidden tokens by their neighbours (trigrams), %", 100 * float((found == labels)[weights > 0].mean()))

    def describe(self) -> str:
        t = self.texts
        return (f"{len(self.read_ids):,} tokens of {self.source}, {self.tokenizer.size:,} word pieces; {len(t.train):,} texts of "
                f"{len(self.names)} classes, {len(t.test):,} more held out")

    def showcase(self, model: Any, backend: str | None = None) -> Iterator[Text | Matrix]:
        """A text with hidden tokens and what the model guesses, and which classes it takes for which."""
        ids, places, labels, weights, _ = self._test_windows()
        run = self._guessing(model, backend)
        guessed = ng.to_numpy(run(ids[:1], places[:1]))[0]
        pairs = [f"{self.tokenizer.decode([g])!r}{'' if g == w else f' for {self.tokenizer.decode([w])!r}'}"
                 for g, w, counts in zip(guessed, labels[0], weights[0]) if counts]
        yield Text("Held-out text with hidden tokens, and the guesses in their order",
                   self.tokenizer.decode(ids[0, 1:-1]) + "\n", iter(["  ".join(pairs)]))
        said = self.predict(model, backend).argmax(1)
        counts = np.zeros((len(self.names),) * 2)
        np.add.at(counts, (self.texts.test_labels, said), 1)
        yield Matrix("confusion", "Held-out texts by class (rows) and what they are taken for", counts, list(self.names), list(self.names))

    def notes(self) -> list[str]:
        note = "Held out are whole files. Names give packages away, so that counting words is a strong baseline."
        return [note] if self.default else []

    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        table, head = (shapes.get(f"state.model.{n}", ()) for n in ("token.table", "classifier.weight"))
        wanted = (self.tokenizer.size, self.recipe.width), (self.recipe.width, len(self.names))
        if (table, head) != wanted:
            raise CheckpointError(f"{folder}: its tensors are not those of its recipe: embedding {list(table)} and classifier "
                                  f"{list(head)}; the recipe asks for {list(wanted[0])} and {list(wanted[1])}")


def _in_parts(run: Any, *arrays: Ids) -> Ids:
    """The function on EVALUATED rows at a time, the last part filled up: one shape, one compilation."""
    found = []
    for first in range(0, len(arrays[0]), EVALUATED):
        parts = [a[first:first + EVALUATED] for a in arrays]
        missing = EVALUATED - len(parts[0])
        found.append(ng.to_numpy(run(*(np.concatenate([p, np.repeat(p[-1:], missing, 0)]) for p in parts)))[:EVALUATED - missing])
    return np.concatenate(found)
