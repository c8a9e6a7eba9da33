"""CLIP on pictures with captions: drawn digits, or the user's own."""

from __future__ import annotations

import pathlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models.clip import CLIP, CLIPConfig, TextConfig, VisionConfig, contrastive_loss
from nagraph.models.data import captions, flickr
from nagraph.models.data.words import END, WordVocabulary
from nagraph.models.training.fields import maybe_whole, not_negative, one_of, positive, share, whole
from nagraph.models.training.recipe import Recipe
from nagraph.models.training.task import Facts, Matrix, Score, Task

Array = Any

#: Galleries in which each picture looks for its caption, and each caption for its picture; and how many pairs are in one.
GALLERIES, GALLERY = 8, 256
#: Captions from which the vocabulary of the drawn digits is made: all wordings are among them.
HEARD = 4000
#: Pairs of the similarity matrix that is drawn.
SHOWN = 20
# Different purposes draw from different streams of the same seed.
_BATCH, _GALLERY, _WORDS = 1, 2, 3


@dataclass(frozen=True)
class CLIPRecipe(Recipe):
    """CLIP's recipe is two small transformers."""

    batch: int = whole(128, 2, "Pairs in one batch.")
    learning_rate: float = positive(1e-3, "Peak learning rate.")
    warm_up: int = whole(100, 1, "Steps in which the learning rate rises.")
    horizon: int | None = maybe_whole(1500, 2, "Let the learning rate fall along a half cosine until this step.")
    weight_decay: float = not_negative(0.05, "Decay of matrices; vectors (biases, norms) do not decay.")
    image: int = whole(32, 8, "Side of the square that pictures of your own are brought to.")
    patch: int = whole(8, 1, "Side of a patch, in pixels.")
    stem: str = one_of("conv", ("conv", "patch"), "What makes vectors of patches: convolutions, or one map of each.")
    layers: int = whole(3, 1, "Transformer blocks of the reader of pictures.")
    heads: int = whole(4, 1, "Attention heads of both readers.")
    width: int = whole(128, 1, "Width of both readers.")
    text_layers: int = whole(2, 1, "Transformer blocks of the reader of captions.")
    context: int = whole(24, 4, "Words of a caption that are read.")
    vocabulary: int = whole(8192, 8, "Different words, at most.")
    projection: int = whole(64, 1, "Width of the space that pictures and captions share.")
    dropout: float = share(0.0, "Share of activations that a step leaves out.")


class CLIPTask(Task):
    """CLIP's task is to find captions by pictures and pictures by captions. The facts are the words and the shape of a picture."""

    name: ClassVar[str] = "clip"
    about: ClassVar[str] = ("digits drawn at places, sizes and polarities, with captions in several wordings (--data: a folder of images "
                            "with a captions file, as Flickr8k has it)")
    Recipe: ClassVar[Any] = CLIPRecipe
    steps: ClassVar[int] = 1500
    item: ClassVar[str] = "pairs"
    unit: ClassVar[str] = "nats a pair"
    metric: ClassVar[str] = "recall at 1, the lower of both ways"

    def __init__(self, recipe: Any, facts: Facts):
        super().__init__(recipe, facts)
        self.words = WordVocabulary(tuple(map(str, facts["words"])))
        self.channels, self.side = int(facts["channels"]), int(facts["side"])
        self._compiled: dict[str | None, Any] = {}

    @classmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> CLIPTask:
        train, held_out = _pairs(recipe, data)
        if data is None:
            heard = train.draw(np.random.default_rng((_WORDS, recipe.seed)), HEARD)[1]
        else:
            heard = [text for texts in train.captions for text in texts]
        words = WordVocabulary.of(heard, recipe.vocabulary)
        channels, side = train.draw(np.random.default_rng(0), 1)[0].shape[1:3]
        task = cls(recipe, {"words": list(words.words), "channels": channels, "side": side})
        task._take(train, held_out, data is None)
        return task

    def read(self, data: pathlib.Path | None) -> None:
        train, held_out = _pairs(self.recipe, data)
        found = train.draw(np.random.default_rng(0), 1)[0].shape[1:]
        if found != (self.channels, self.side, self.side):
            raise DataError(f"the model knows pictures {[self.channels, self.side, self.side]}; {train.source} has {list(found)}")
        self._take(train, held_out, data is None)

    def _take(self, train: Any, held_out: Any, drawn: bool) -> None:
        self.train, self.held_out, self.drawn = train, held_out, drawn
        self.source, self.sha256 = train.source, train.sha256

    @property
    def config(self) -> CLIPConfig:
        r = self.recipe
        both = {"heads": r.heads, "width": r.width, "dropout": r.dropout}
        try:
            return CLIPConfig(
                vision=VisionConfig(image=self.side, patch=r.patch, channels=self.channels, stem=r.stem, layers=r.layers, **both),
                text=TextConfig(vocabulary=self.words.size, context=r.context, layers=r.text_layers, end_of_text=END, **both),
                projection=r.projection)
        except ValueError as error:
            raise DataError(str(error)) from None

    def init(self, key: Array) -> CLIP:
        return CLIP.init(key, self.config, np.dtype(self.recipe.dtype))

    def batch(self, number: int) -> tuple[np.ndarray[Any, Any], ...]:
        """Pictures [batch, channels, side, side], word ids [batch, context], and which pairs say the same, bool [batch, batch]."""
        r = self.recipe
        return self._arrays(*self.train.draw(np.random.default_rng((_BATCH, r.seed, number)), r.batch))

    def _arrays(self, images: Array, texts: list[str], ids: Array) -> tuple[np.ndarray[Any, Any], ...]:
        return _centred(images).astype(self.recipe.dtype), self.words.encode_all(texts, self.recipe.context), ids[:, None] == ids

    def loss(self, model: Any, *arrays: Array, key: Array) -> tuple[Array, Any]:
        images, ids, same = arrays
        return contrastive_loss(model, images, ids, same, key=key if self.recipe.dropout else None), model

    @classmethod
    def stand_in(cls) -> Facts:
        return {"words": [str(i) for i in range(53)], "channels": 1, "side": 32}

    def random_batch(self, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], ...]:
        r, shape = self.recipe, (self.channels, self.side, self.side)
        ids = rng.integers(4, self.words.size, (r.batch, r.context)).astype(np.int32)
        ids[:, -1] = END
        return rng.standard_normal((r.batch, *shape), np.float32).astype(r.dtype), ids, np.eye(r.batch, dtype=bool)

    def inputs(self) -> tuple[Any, ...]:
        return (ng.spec((ng.Dim("images"), self.channels, self.side, self.side), self.recipe.dtype),
                ng.spec((ng.Dim("texts"), ng.Dim("time", max=self.recipe.context)), np.int32))

    def forward(self, model: Any, *batch: Array) -> Array:
        return model(batch[0], batch[1])

    def similarity(self, model: Any, images: Array, texts: list[str], backend: str | None = None) -> np.ndarray[Any, Any]:
        """How well each caption (column) fits each picture (row)."""
        ids = self.words.encode_all(texts, self.recipe.context)
        found: np.ndarray[Any, Any] = ng.to_numpy(self._logits(backend)(model, _centred(images).astype(self.recipe.dtype), ids))
        return found

    def _logits(self, backend: str | None) -> Any:
        if backend not in self._compiled:
            self._compiled[backend] = ng.jit(lambda model, images, ids: model(images, ids), backend=backend)
        return self._compiled[backend]

    def galleries(self) -> Iterator[tuple[Array, list[str], Array]]:
        """Held-out pairs, the same ones for every model."""
        for number in range(GALLERIES):
            yield self.held_out.draw(np.random.default_rng((_GALLERY, number)), GALLERY)

    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        model = model if backend is None else ng.device_put(model, ng.backends.usable(backend).name)
        found = np.array([captions.recall_at_1(self.similarity(model, images, texts, backend), ids)
                          for images, texts, ids in self.galleries()]).mean(0)
        scores = [Score(self.metric, float(found.min())), Score("captions found by pictures", float(found[0])),
                  Score("pictures found by captions", float(found[1]))]
        return [*scores, *([Score("combinations never seen in training", self._unseen(model, backend))] if self.drawn else [])]

    def _unseen(self, model: Any, backend: str | None) -> float:
        """The share of held-out pictures, of combinations that training leaves out, that find their caption."""
        right: list[bool] = []
        for images, texts, ids in self.galleries():
            best = self.similarity(model, images, texts, backend).argmax(1)
            unseen = captions.is_unseen(ids)
            right += (ids[best] == ids)[unseen].tolist()
        return float(np.mean(right)) if right else float("nan")

    def baselines(self) -> Iterator[Score]:
        ids = [ids for _, _, ids in self.galleries()]
        yield Score(f"chance in galleries of {GALLERY}", float(np.mean([captions.chance(i) for i in ids])))
        if self.drawn:
            yield Score("an oracle that sees all but the digit", float(np.mean([captions.blind_oracle(i) for i in ids])))

    def describe(self) -> str:
        return (f"{self.source}, {self.channels} x {self.side} x {self.side}, {self.words.size} words; "
                f"galleries of {GALLERY} held-out pairs")

    def showcase(self, model: Any, backend: str | None = None) -> Iterator[Matrix]:
        images, texts, _ = self.held_out.draw(np.random.default_rng((_GALLERY, GALLERIES)), SHOWN)
        values = self.similarity(model, images, texts, backend)
        yield Matrix("similarity", "Held-out pictures (rows, by their captions) beside captions", values, texts, texts)

    def notes(self) -> list[str]:
        note = "Drawn digits have 540 things to say; what is learnt of them says nothing about photographs."
        return [note] if self.drawn else []

    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        table = shapes.get("state.model.text.token.table", ())
        if table != (self.words.size, self.recipe.width):
            raise CheckpointError(f"{folder}: its tensors are not those of its recipe: words {list(table)}, the recipe asks for "
                                  f"[{self.words.size}, {self.recipe.width}]")


def _pairs(recipe: Any, data: pathlib.Path | None) -> tuple[Any, Any]:
    return captions.digit_pairs() if data is None else flickr.load(data, recipe.image)


def _centred(images: Array) -> Array:
    return images * 2 - 1
