"""Language models: token ids in, scores of the next token out, for a whole text at once or for what follows a cache."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Any

import nagraph as ng
from nagraph.models.cache import Cache
from nagraph.nn import functional as F
from nagraph.nn.layers import dropout
from nagraph.nn.module import Module

Array = Any


class LanguageModel(Module):
    """A language model gives scores of the next token at every position of a text, from the tokens up to that position.

    A subclass has `blocks` and a `config` with `vocabulary`, `context`, `layers` and `dropout`, and says what comes before its blocks
    (`embed`), beside their input (`positions`) and after them (`scores`). Reading is written here, once: with a cache or without.
    A block is called as block(x, *positions, cache, start, key=key) and gives x and its cache; `cache.attend` does both in attention.
    """

    if TYPE_CHECKING:
        blocks: tuple[Any, ...]
        config: Any

    @abstractmethod
    def embed(self, ids: Array, start: Array) -> Array:
        """What the first block reads, [..., time, width], of ids [..., time] at the positions from `start` on."""

    def positions(self, start: Array, time: int) -> tuple[Array, ...]:
        """What each block is given of the positions start ... start + time - 1, beside x: rotations, for example, or nothing."""
        return ()

    @abstractmethod
    def scores(self, x: Array) -> Array:
        """Logits [..., time, vocabulary] of the last block's result."""

    @abstractmethod
    def empty_cache(self, batch: int) -> Cache:
        """The cache before the first position, for `batch` texts."""

    @property
    def has_head(self) -> bool:
        """Whether `scores` are those of tokens: a model can be read for its last layer alone."""
        return True

    def __call__(self, ids: Array, *, key: Array | None = None) -> Array:
        """Logits [..., time, vocabulary] of token ids [..., time]; a key turns dropout on."""
        return self._read(ids, None, 0, key)[0]

    def extend(self, ids: Array, cache: Cache, start: Array) -> tuple[Array, Cache]:
        """Logits [batch, n, vocabulary] of ids [batch, n] at the positions from `start` on, after those that the cache holds.

        Also the cache with these n; start + n is at most the context. As model(all ids)[..., start:start + n, :].
        """
        scores, layers = self._read(ids, cache, start, None)
        return scores, Cache(layers)

    def _read(self, ids: Array, cache: Cache | None, start: Array, key: Array | None) -> tuple[Array, tuple[Any, ...]]:
        time, n = ids.shape[-1], len(self.blocks)
        if time > self.config.context:
            raise ng.errors.TypeRuleError(f"{type(self).__name__}: {time} positions do not fit its context of {self.config.context}")
        keys = [None] * (1 + n) if key is None else ng.random.split(key, 1 + n)
        beside = self.positions(start, time)
        x = dropout(self.embed(ids, start), self.config.dropout, keys[0])
        layers: list[Any] = [None] * n if cache is None else list(cache.layers)
        for i, block in enumerate(self.blocks):
            x, layers[i] = block(x, *beside, layers[i], start, key=keys[1 + i])
        return self.scores(x), tuple(layers)


def next_token_loss(model: LanguageModel, ids: Array, *, key: Array | None = None) -> Array:
    """Mean cross entropy (nats a token) of ids[..., 1:] given ids[..., :-1]."""
    return ng.numpy.mean(F.cross_entropy(model(ids[..., :-1], key=key), ids[..., 1:], ignore_index=None))
