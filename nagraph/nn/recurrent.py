"""RNN, LSTM, GRU: a cell run by `scan` over x [batch, time, inputs]. Gate layouts and equations are PyTorch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import nagraph as ng
from nagraph.nn import functional as F
from nagraph.nn import initializers
from nagraph.nn.module import Module

Array = Any


class _Recurrent(Module):
    """A recurrent layer has weights of `gates` stacked gates: input [in, gates · width], hidden [width, gates · width]."""

    input_weight: Array
    hidden_weight: Array
    input_bias: Array
    hidden_bias: Array

    @classmethod
    def _init(cls, key: Array, inputs: int, width: int, gates: int, dtype: Any) -> Any:
        draw = initializers.uniform(1 / math.sqrt(width))
        ks = ng.random.split(key, 4)
        n = gates * width
        return cls(draw(ks[0], (inputs, n), dtype), draw(ks[1], (width, n), dtype), draw(ks[2], (n,), dtype),
                   draw(ks[3], (n,), dtype))

    @property
    def width(self) -> int:
        return int(self.hidden_weight.shape[0])

    def _zeros(self, x: Array) -> Array:
        return ng.numpy.zeros((x.shape[0], self.width), self.hidden_weight.dtype)

    def _projected(self, x: Array) -> Array:
        """The inputs' share of all gates for all steps at once, time in front."""
        return ng.numpy.swapaxes(ng.numpy.matmul(x, self.input_weight) + self.input_bias, 0, 1)

    def _hidden(self, h: Array) -> Array:
        return ng.numpy.matmul(h, self.hidden_weight) + self.hidden_bias


class RNN(_Recurrent):
    """h[t] = tanh(x[t] Wi + bi + h[t-1] Wh + bh). Returns (outputs [batch, time, width], last h)."""

    @classmethod
    def init(cls, key: Array, inputs: int, width: int, *, dtype: Any = np.float32) -> RNN:
        result: RNN = cls._init(key, inputs, width, 1, dtype)
        return result

    def __call__(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        def step(h: Array, x_t: Array) -> tuple[Array, Array]:
            h = ng.numpy.tanh(x_t + self._hidden(h))
            return h, h

        last, ys = ng.scan(step, self._zeros(x) if state is None else state, self._projected(x))
        return ng.numpy.swapaxes(ys, 0, 1), last


class LSTM(_Recurrent):
    """i, f, o = σ(...), g = tanh(...); c = f c + i g; h = o tanh(c). Returns (outputs, (last h, last c)).

    Gates in the order i, f, g, o. Source: Hochreiter and Schmidhuber 1997; Gers et al. 2000.
    """

    @classmethod
    def init(cls, key: Array, inputs: int, width: int, *, dtype: Any = np.float32) -> LSTM:
        result: LSTM = cls._init(key, inputs, width, 4, dtype)
        return result

    def __call__(self, x: Array, state: tuple[Array, Array] | None = None) -> tuple[Array, tuple[Array, Array]]:
        n = self.width

        def step(carry: tuple[Array, Array], x_t: Array) -> tuple[tuple[Array, Array], Array]:
            h, c = carry
            gates = x_t + self._hidden(h)
            i, f, g, o = (gates[:, k * n:(k + 1) * n] for k in range(4))
            c = F.sigmoid(f) * c + F.sigmoid(i) * ng.numpy.tanh(g)
            h = F.sigmoid(o) * ng.numpy.tanh(c)
            return (h, c), h

        start = (self._zeros(x), self._zeros(x)) if state is None else state
        last, ys = ng.scan(step, start, self._projected(x))
        return ng.numpy.swapaxes(ys, 0, 1), last


class GRU(_Recurrent):
    """r, z = σ(...); n = tanh(x Wn + r (h Un + b)); h = (1 - z) n + z h. Returns (outputs, last h).

    Gates in the order r, z, n. Source: Cho et al. 2014.
    """

    @classmethod
    def init(cls, key: Array, inputs: int, width: int, *, dtype: Any = np.float32) -> GRU:
        result: GRU = cls._init(key, inputs, width, 3, dtype)
        return result

    def __call__(self, x: Array, state: Array | None = None) -> tuple[Array, Array]:
        n = self.width

        def step(h: Array, x_t: Array) -> tuple[Array, Array]:
            u = self._hidden(h)
            r = F.sigmoid(x_t[:, :n] + u[:, :n])
            z = F.sigmoid(x_t[:, n:2 * n] + u[:, n:2 * n])
            fresh = ng.numpy.tanh(x_t[:, 2 * n:] + r * u[:, 2 * n:])
            h = (1 - z) * fresh + z * h
            return h, h

        last, ys = ng.scan(step, self._zeros(x) if state is None else state, self._projected(x))
        return ng.numpy.swapaxes(ys, 0, 1), last
