"""Linear, Embedding, Dropout, Sequential."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.nn import initializers
from nagraph.nn.module import Module
from nagraph.ops.width import widened

Array = Any


class Linear(Module):
    """y = x W + b, with weight [in, out]."""

    weight: Array
    bias: Array | None

    @classmethod
    def init(cls, key: Array, inputs: int, outputs: int, *, bias: bool = True, weight_init: Any = initializers.fan_in_uniform,
             dtype: Any = np.float32) -> Linear:
        k1, k2 = ng.random.split(key, 2)
        bound = initializers.uniform(1 / math.sqrt(inputs))
        return cls(weight_init(k1, (inputs, outputs), dtype), bound(k2, (outputs,), dtype) if bias else None)

    def __call__(self, x: Array) -> Array:
        y = ng.numpy.matmul(x, self.weight)
        return y if self.bias is None else y + self.bias


class Embedding(Module):
    """y = table[ids], with table [count, width]."""

    table: Array

    @classmethod
    def init(cls, key: Array, count: int, width: int, *, table_init: Any = initializers.normal(1.0), dtype: Any = np.float32
             ) -> Embedding:
        return cls(table_init(key, (count, width), dtype))

    def __call__(self, ids: Array) -> Array:
        return ng.numpy.take(self.table, ids, axis=0)

    def attend(self, x: Array) -> Array:
        """Scores of every entry, for a head tied to the embedding: x tableᵀ."""
        return ng.numpy.matmul(x, ng.numpy.swapaxes(self.table, 0, 1))


def dropout(x: Array, rate: float, key: Array | None) -> Array:
    """x with each element zeroed with probability `rate`, the others divided by 1 - rate; x itself without a key."""
    if not 0 <= rate < 1:
        raise ValueError(f"dropout: rate must be at least 0 and less than 1, got {rate}")
    if key is None or rate == 0:
        return x
    keep = ng.random.bernoulli(key, 1 - rate, x.shape)
    return ng.where(keep, widened(ng.numpy.multiply)(x, 1 / (1 - rate)), 0)


class Dropout(Module):
    """Dropout zeroes elements with probability `rate`; `key=None` means inference."""

    rate: float = 0.5

    def __call__(self, x: Array, *, key: Array | None = None) -> Array:
        return dropout(x, self.rate, key)


class Function(Module):
    """A function as a layer without arrays: y = fn(x)."""

    fn: Callable[[Any], Any]

    def __call__(self, x: Array) -> Array:
        return self.fn(x)


class Sequential(Module):
    """Sequential calls layers or functions one after another. Modules that take a key get it folded by their index.

    Each is called for its result alone: BatchNorm uses its running statistics here.
    """

    layers: tuple[Any, ...]

    def __post_init__(self) -> None:
        # A function inside a tuple would count as a leaf of the tree; inside a module it is a static field.
        object.__setattr__(self, "layers", tuple(x if isinstance(x, Module) else Function(x) for x in self.layers))

    def __call__(self, x: Array, *, key: Array | None = None) -> Array:
        for i, layer in enumerate(self.layers):
            if key is not None and "key" in inspect.signature(type(layer).__call__).parameters:
                x = layer(x, key=ng.random.fold_in(key, i))
            else:
                x = layer(x)
        return x


def sequential(*layers: Module | Callable[[Array], Array]) -> Sequential:
    """Sequential of the layers given."""
    return Sequential(tuple(layers))
