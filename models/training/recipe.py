"""The recipe: everything that decides a run, with the data."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, TypeVar

import nagraph as ng
from nagraph.errors import CheckpointError, DataError
from nagraph.files import short
from nagraph.models.training import fields
from nagraph.models.training.fields import maybe_whole, not_negative, one_of, positive, share, whole

R = TypeVar("R", bound="Recipe")


@dataclass(frozen=True)
class Recipe:
    """A recipe is learning rate, regularisation and seed; tasks add the sizes of their models.

    Nothing here knows how many steps there will be; a schedule that decays takes an explicit `horizon`.
    DataError for values that no run can have.
    """

    batch: int = whole(16, 1, "Examples in one batch.")
    accumulate: int = whole(1, 1, "Batches whose gradients are averaged in one step.")
    learning_rate: float = positive(3e-3, "Peak learning rate.")
    warm_up: int = whole(100, 1, "Steps in which the learning rate rises.")
    horizon: int | None = maybe_whole(None, 2, "Let the learning rate fall along a half cosine until this step.")
    b1: float = share(0.9, "Decay of the mean of gradients.")
    b2: float = share(0.99, "Decay of the mean of their squares.")
    weight_decay: float = not_negative(0.1, "Decay of matrices; vectors (biases, norms) do not decay.")
    clip: float = positive(1.0, "Largest norm of the gradient.")
    average: float = share(0.998, "Decay of the moving average of the weights, with which models are evaluated.")
    seed: int = whole(0, 0, "Decides initial weights, batches and dropout.")
    dtype: str = one_of("float32", ("float32", "float64"), "What is computed in.")

    def __post_init__(self) -> None:
        fields.check(self)
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


def read_recipe(kind: type[R], found: Any, folder: Any) -> R:
    """The recipe that a checkpoint holds. CheckpointError if it is not one of this kind, or none that can be trained."""
    known = {f.name for f in dataclasses.fields(kind)}
    if not isinstance(found, dict) or set(found) != known:
        odd = ", ".join(sorted(set(found) ^ known)) if isinstance(found, dict) else "there is none"
        raise CheckpointError(f"{folder}: its recipe is not one that this version knows ({short(odd)})")
    try:
        return kind(**found)
    except DataError as error:
        raise CheckpointError(f"{folder}: its recipe is not one that can be trained: {error}") from None
