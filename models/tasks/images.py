"""Classifiers of images: which class an image is of, learnt from augmented batches."""

from __future__ import annotations

import pathlib
from abc import abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.models.data import baselines, images
from nagraph.models.data.augment import Augmentation, normalise, statistics
from nagraph.models.data.loader import Loader
from nagraph.models.training.fields import not_negative, share, whole
from nagraph.models.training.recipe import Recipe
from nagraph.models.training.task import Facts, Grid, Score, Task
from nagraph.nn import functional as F

Array = Any
Pixels = np.ndarray[Any, Any]

#: Training images of the baselines, where there are more: they are not what a run waits for.
BASELINE_IMAGES = 10_000
#: Images of an evaluation that are computed at once, and those of the grid of predictions.
EVALUATED, SHOWN = 256, 32


@dataclass(frozen=True)
class ImageRecipe(Recipe):
    """A recipe for images says how they are varied, and how sure the model may be."""

    image: int = whole(0, 0, "Side of the square that pictures in class folders are brought to; 0 takes them as they are.")
    shift: int = whole(1, 0, "Pixels by which images are moved.")
    rotation: float = not_negative(10.0, "Degrees by which they are turned.")
    scale: float = not_negative(0.1, "Share by which they are made larger or smaller.")
    mirror: int = whole(0, 0, "1 mirrors every other image.")
    crop: int = whole(0, 0, "Pixels of mirrored border from which a window is cut.")
    smoothing: float = share(0.1, "Share of the target that is spread over all classes.")


class ImageTask(Task):
    """A task of images is to name their classes. The facts are these names, an image's shape, and mean and deviation of its channels."""

    item: ClassVar[str] = "images"
    unit: ClassVar[str] = "nats an image"
    metric: ClassVar[str] = "accuracy, %"
    split: images.Split

    def __init__(self, recipe: Any, facts: Facts):
        super().__init__(recipe, facts)
        self.names: tuple[str, ...] = tuple(map(str, facts["names"]))
        self.channels, self.height, self.width = map(int, facts["shape"])
        self.mean, self.std = (np.array(facts[x], np.float32) for x in ("mean", "std"))

    @classmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> ImageTask:
        return cls.of(recipe, images.load(data, recipe.image or None))

    @classmethod
    def of(cls, recipe: Any, split: images.Split) -> ImageTask:
        """The task on images."""
        mean, std = statistics(split.train.pixels)
        facts = {"names": list(split.train.names), "shape": list(split.train.pixels.shape[1:]), "mean": mean.tolist(), "std": std.tolist()}
        task = cls(recipe, facts)
        task._take(split)
        return task

    def read(self, data: pathlib.Path | None) -> None:
        split = images.load(data, self.recipe.image or None)
        found, wanted = split.train.pixels.shape[1:], (self.channels, self.height, self.width)
        if found != wanted or split.train.names != self.names:
            raise DataError(f"the model knows images {list(wanted)} of {len(self.names)} classes ({_few(self.names)}); "
                            f"{split.source} has images {list(found)} of {len(split.train.names)} ({_few(split.train.names)})")
        self._take(split)

    def _take(self, split: images.Split) -> None:
        self.split, self.source, self.sha256 = split, split.source, split.sha256
        r = self.recipe
        augment = Augmentation(r.shift, r.rotation, r.scale, bool(r.mirror), r.crop)
        self._loader = Loader(split.train, r.batch, r.seed, augment)

    def batch(self, number: int) -> tuple[Pixels, ...]:
        """Images [batch, channels, height, width], standardised, and labels [batch]."""
        pixels, labels = self._loader(number)
        return normalise(pixels, self.mean, self.std).astype(self.recipe.dtype), labels

    @classmethod
    def stand_in(cls) -> Facts:
        return {"names": [str(i) for i in range(10)], "shape": [1, 8, 8], "mean": [0.0], "std": [1.0]}

    def random_batch(self, rng: np.random.Generator) -> tuple[Pixels, ...]:
        count = self.recipe.batch
        pixels = rng.standard_normal((count, self.channels, self.height, self.width), np.float32).astype(self.recipe.dtype)
        return pixels, rng.integers(0, len(self.names), count, np.int32)

    def inputs(self) -> tuple[Any, ...]:
        return (ng.spec((ng.Dim("batch"), self.channels, self.height, self.width), self.recipe.dtype),)

    def forward(self, model: Any, *batch: Array) -> Array:
        return self.logits(model, batch[0])

    def mean_loss(self, logits: Array, labels: Array) -> Array:
        """Mean cross entropy with targets (1 - s) of the label + s of all classes alike."""
        return ng.numpy.mean(F.cross_entropy(logits, labels, smoothing=self.recipe.smoothing, ignore_index=None))

    @abstractmethod
    def logits(self, model: Any, images: Array) -> Array:
        """Scores of the classes [batch, classes], traced, as at test time."""

    def predict(self, model: Any, pixels: Pixels, backend: str | None = None) -> Pixels:
        """Scores [n, classes] of images in [0, 1]."""
        run = ng.jit(self.logits, backend=backend).bind(model)
        found = []
        for first in range(0, len(pixels), EVALUATED):
            part = pixels[first:first + EVALUATED]
            padded = np.concatenate([part, np.zeros((EVALUATED - len(part), *part.shape[1:]), part.dtype)])  # one shape, one compilation
            found.append(ng.to_numpy(run(normalise(padded, self.mean, self.std).astype(self.recipe.dtype)))[:len(part)])
        return np.concatenate(found)

    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        held_out = self.split.held_out
        right = self.predict(model, held_out.pixels, backend).argmax(1) == held_out.labels
        return [Score(self.metric, 100 * float(right.mean()))]

    def baselines(self) -> Iterator[Score]:
        split = self.split
        yield Score("chance: the commonest class", 100 * baselines.chance(split.train.labels, split.held_out.labels))
        for name, of in (("logistic regression", baselines.logistic_regression), ("3 nearest neighbours", baselines.nearest_neighbours)):
            yield Score(name, 100 * of(split, BASELINE_IMAGES))

    def describe(self) -> str:
        train, out = len(self.split.train), len(self.split.held_out)
        return (f"{train:,} images of {self.source}, {self.height} x {self.width}, {len(self.names)} classes; {out:,} more held out; "
                f"an epoch is {train / (self.recipe.batch * self.recipe.accumulate):.1f} steps")

    def showcase(self, model: Any, backend: str | None = None) -> Iterator[Grid]:
        """Held-out images: those that the model has wrong, then others."""
        held_out = self.split.held_out
        said = self.predict(model, held_out.pixels, backend).argmax(1)
        right = said == held_out.labels
        chosen = np.argsort(right, kind="stable")[:SHOWN]
        shown = held_out.pixels[chosen].transpose(0, 2, 3, 1)
        words = [self.names[s] if ok else f"{self.names[s]}, not {self.names[t]}"
                 for s, t, ok in zip(said[chosen], held_out.labels[chosen], right[chosen])]
        yield Grid(f"{int((~right).sum())} of {len(right)} held-out images wrong", shown[..., 0] if self.channels == 1 else shown,
                   words, right[chosen].tolist())

    def notes(self) -> list[str]:
        count = len(self.split.held_out)
        return [f"One image more or less is {100 / count:.2f} points: {count} images can't tell apart models that are closer than about "
                f"{100 / count ** 0.5 * 0.2:.1f}."] if count < 2000 else []

    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        head = shapes.get("state.model.head.weight", ())
        if len(head) != 2 or head[1] != len(self.names):
            raise CheckpointError(f"{folder}: its tensors are not those of its recipe: a head {list(head)} for {len(self.names)} classes")


def _few(names: tuple[str, ...]) -> str:
    return ", ".join(names[:4]) + (", ..." if len(names) > 4 else "")
