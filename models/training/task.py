"""Tasks: what a model learns from what, and how it is told whether it has."""

from __future__ import annotations

import pathlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np

from nagraph.models.training.recipe import Recipe
from nagraph.nn.module import Module

Array = Any
Facts = dict[str, Any]


class Score(NamedTuple):
    """A score is one figure of an evaluation, or of a baseline on the same split."""

    name: str
    value: float


@dataclass(frozen=True)
class Text:
    """A text to look at is what the model wrote after what it was given."""

    title: str
    given: str
    written: Iterator[str]


@dataclass(frozen=True, eq=False)
class Grid:
    """A grid to look at is images, [n, h, w] or [n, h, w, 3] in [0, 1], what the model says of each, and whether that is right."""

    title: str
    images: np.ndarray[Any, Any]
    said: list[str]
    right: list[bool]


@dataclass(frozen=True, eq=False)
class Matrix:
    """A matrix to look at is scores of rows beside columns, with what each of them is. name: what they are, in a word."""

    name: str
    title: str
    values: np.ndarray[Any, Any]
    rows: list[str]
    columns: list[str]


class Task(ABC):
    """A task is a model with its data. Batches are functions of the step alone, so that a run can go on from any step.

    `begin` reads the data and decides what depends on it, the `facts` (symbols, classes, sizes), which the checkpoint keeps.
    """

    #: What it is called on the command line and in checkpoints.
    name: ClassVar[str]
    #: One sentence on what is learned from what by default.
    about: ClassVar[str]
    Recipe: ClassVar[type[Recipe]]
    #: Steps of a default run.
    steps: ClassVar[int]
    #: The unit of the loss; what a step counts, and how many of them an example has.
    unit: ClassVar[str] = "nats"
    item: ClassVar[str] = "examples"
    #: The name of the figure that counts, and whether more of it is better.
    metric: ClassVar[str]
    higher: ClassVar[bool] = True
    #: Parameters whose gradient is zero by construction: a part of their path, and why.
    still: ClassVar[Mapping[str, str]] = {}
    #: Steps at which what is learned changes.
    starts: tuple[int, ...] = (0,)

    recipe: Any
    facts: Facts
    #: Where the data came from, in words, and the digest of it.
    source: str
    sha256: str

    def __init__(self, recipe: Any, facts: Facts):
        self.recipe, self.facts = recipe, facts

    @classmethod
    @abstractmethod
    def begin(cls, recipe: Any, data: pathlib.Path | None) -> Task:
        """The task on the user's data, or on those that every machine has. DataError says what is wrong with them."""

    @abstractmethod
    def read(self, data: pathlib.Path | None) -> None:
        """Read the data for a task that has its facts already, from a checkpoint. DataError where they do not fit."""

    @abstractmethod
    def init(self, key: Array) -> Module:
        """The model with random weights; needs the facts alone."""

    @abstractmethod
    def batch(self, number: int) -> tuple[np.ndarray[Any, Any], ...]:
        """The arrays of a batch, counted from 0."""

    @abstractmethod
    def loss(self, model: Any, *batch: Array, key: Array) -> tuple[Array, Any]:
        """The mean loss, traced, and the model with its running statistics moved on."""

    @abstractmethod
    def scores(self, model: Any, backend: str | None = None) -> list[Score]:
        """Figures on what was held out; the first is the metric."""

    @abstractmethod
    def baselines(self) -> Iterator[Score]:
        """Chance, and what does without a network, on the same split."""

    @abstractmethod
    def describe(self) -> str:
        """The data in a line."""

    @classmethod
    @abstractmethod
    def stand_in(cls) -> Facts:
        """Facts in the place of those of data, where only sizes count: for commands that compile, show, profile and time."""

    @abstractmethod
    def random_batch(self, rng: np.random.Generator) -> tuple[np.ndarray[Any, Any], ...]:
        """Random arrays with the types of a batch, for the same commands."""

    @abstractmethod
    def forward(self, model: Any, *batch: Array) -> Array:
        """What the model answers to a batch, traced, as at test time."""

    @abstractmethod
    def inputs(self) -> tuple[Any, ...]:
        """The types of what a trained model is given, with the sizes open that may be any: `batch`, and `time` where texts are read."""

    def answering(self, model: Any) -> Any:
        """A function of these inputs that gives what the model is for: the model itself, unless it is called with more than that."""
        return model

    def optimiser(self) -> Any:
        return self.recipe.optimiser()

    def items(self) -> int:
        """What a batch counts."""
        return int(self.recipe.batch)

    def showcase(self, model: Any, backend: str | None = None) -> Iterator[Text | Grid | Matrix]:
        """Things to look at, made with the model."""
        return iter(())

    def notes(self) -> list[str]:
        """What a reader of the figures should know."""
        return []

    @abstractmethod
    def check_claims(self, shapes: Mapping[str, tuple[int, ...]], folder: Any) -> None:
        """CheckpointError unless tensors have the sizes that recipe and facts claim; before memory is asked for."""
