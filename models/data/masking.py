"""Masked language modelling: which tokens are to be guessed, and what the model sees in their place. Source: Devlin et al. 2019."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from nagraph.errors import DataError

Ids = np.ndarray[Any, Any]
#: Of the tokens chosen, this share is replaced by the mask, and this one by a random token; the rest stay as they are.
MASKED, RANDOM = 0.8, 0.1


class Masked(NamedTuple):
    """Masked text is what the model sees, and what it has to guess.

    ids: int32 [..., time], what it sees. labels: int32 [..., time], what was there. weights: float32 [..., time], 1 to guess.
    """

    ids: Ids
    labels: Ids
    weights: Ids


def mask_tokens(rng: np.random.Generator, ids: Ids, mask: int, size: int, special: Sequence[int] = (), share: float = 0.15) -> Masked:
    """Choose a share of each row's tokens to guess, at least one: 80 % become `mask`, 10 % a random token, 10 % stay.

    ids: whole numbers below `size` [..., time]. Special tokens are never chosen, nor drawn in another's place; a row of them
    alone has no weights. A function of the generator's state and the arguments. DataError for ids that are no tokens.
    """
    ids = np.asarray(ids)
    if not 0 < share <= 1:
        raise DataError(f"the share of tokens to guess must lie above 0 and at most at 1, got {share}")
    if ids.ndim < 1 or ids.dtype.kind not in "iu":
        raise DataError(f"masking takes rows of whole numbers, got {ids.dtype} of shape {list(ids.shape)}")
    if ids.size and (ids.min() < 0 or ids.max() >= size):
        raise DataError(f"masking takes ids from 0 to {size - 1}, got {ids.min()} to {ids.max()}")
    if not 0 <= mask < size:
        raise DataError(f"the mask must be one of {size:,} tokens, got {mask}")
    ordinary = np.setdiff1d(np.arange(size), [mask, *special])
    if not len(ordinary):
        raise DataError(f"all {size:,} tokens are special, so there is none to guess")
    free = ~np.isin(ids, [mask, *special])
    count = free.sum(-1, keepdims=True)
    wanted = np.where(count > 0, np.maximum(np.rint(share * count), 1), 0)
    places = np.where(free, rng.random(ids.shape), 2.0)  # special tokens come last
    chosen = np.argsort(np.argsort(places, axis=-1), axis=-1) < wanted
    fate = rng.random(ids.shape)
    drawn = rng.choice(ordinary, ids.shape)
    seen = np.where(chosen & (fate < MASKED), mask, ids)
    seen = np.where(chosen & (fate >= MASKED) & (fate < MASKED + RANDOM), drawn, seen)
    return Masked(seen.astype(np.int32), ids.astype(np.int32), chosen.astype(np.float32))


def chosen_positions(masked: Masked, most: int) -> tuple[Ids, Ids, Ids]:
    """The first `most` positions to guess in each row, so that the loss needs no logits elsewhere.

    positions, labels: int32 [..., most], weights: float32 [..., most], 0 where a row has fewer.
    """
    order = np.argsort(-masked.weights, axis=-1, kind="stable")[..., :most]
    labels, weights = np.take_along_axis(masked.labels, order, -1), np.take_along_axis(masked.weights, order, -1)
    return order.astype(np.int32), labels, weights
