"""Constants, and numbers that only look random: they follow from the seed of their node."""

from __future__ import annotations

from typing import Any

import numpy as np

from nagraph import numpy as F
from nagraph import random
from nagraph.errors import OnnxError
from nagraph.onnx.operators.shapes import possible
from nagraph.onnx.registry import Floats, Ints, SparseTensor, Strings, Tensor, operator
from nagraph.tracing.tracer import as_value


@operator("Constant", since=1, formats="given")
def constant(*, value: Tensor | None = None, sparse_value: SparseTensor | None = None, value_float: float | None = None,
             value_floats: Floats | None = None, value_int: int | None = None, value_ints: Ints | None = None,
             value_string: str | None = None, value_strings: Strings | None = None, call: Any) -> Any:
    every = value, sparse_value, value_float, value_floats, value_int, value_ints, value_string, value_strings
    given = [v for v in every if v is not None]
    if len(given) != 1:
        raise OnnxError(f"it has {len(given)} values, but must have one")
    if value is not None:
        return call.constant(value)
    if sparse_value is not None:
        return call.sparse(sparse_value)
    if value_string is not None or value_strings is not None:
        raise OnnxError("it holds strings, which a graph can't hold")
    floats = value_float is not None or value_floats is not None
    return np.array(given[0], np.float32 if floats else np.int64)


@operator("Dropout", since=7)
def dropout_of_inference(x: Any, *, ratio: float = 0.5, call: Any) -> Any:
    """x itself: before version 12 nodes did not say whether they train."""
    return (x, F.ones(x.shape, np.bool_))[:call.outputs]


@operator("Dropout", since=12)
def dropout(x: Any, ratio: Any = None, training_mode: Any = None, *, seed: int | None = None, call: Any) -> Any:
    """x itself, but for training; then zeros with the probability `ratio`, by random bits of nagraph's own."""
    training = None if training_mode is None else call.known(training_mode)
    if training_mode is not None and training is None:
        raise call.needs_value("whether it trains", training_mode)
    share = np.asarray(0.5) if ratio is None else call.known(ratio)
    if share is None:
        raise call.needs_value("its ratio", ratio)
    p = float(share.reshape(-1)[0])
    if training is None or not bool(training.reshape(-1)[0]) or p == 0:
        return (x, F.ones(x.shape, np.bool_))[:call.outputs]
    if not 0 <= p < 1:
        raise OnnxError(f"its ratio is {p}, but must be from 0 to below 1")
    mask = random.bernoulli(_key(seed), 1 - p, x.shape)
    return (F.where(mask, x / (1 - p), F.zeros_like(x)), mask)[:call.outputs]


def _key(seed: float | None) -> Any:
    return random.key(as_value(np.asarray(0 if seed is None else seed, np.float32).view(np.uint32)))


@operator("RandomNormal")
def random_normal(*, shape: Ints, dtype: int = 1, mean: float = 0.0, scale: float = 1.0, seed: float | None = None, call: Any) -> Any:
    possible(np.float32, shape)
    return F.astype(random.normal(_key(seed), shape) * scale + mean, call.dtype(dtype))


@operator("RandomUniform")
def random_uniform(*, shape: Ints, dtype: int = 1, low: float = 0.0, high: float = 1.0, seed: float | None = None, call: Any) -> Any:
    possible(np.float32, shape)
    return F.astype(random.uniform(_key(seed), shape, low=low, high=high), call.dtype(dtype))


@operator("RandomNormalLike")
def random_normal_like(x: Any, *, dtype: int | None = None, mean: float = 0.0, scale: float = 1.0, seed: float | None = None,
                       call: Any) -> Any:
    drawn = random_normal(shape=x.shape, mean=mean, scale=scale, seed=seed, call=call)
    return F.astype(drawn, x.dtype if dtype is None else call.dtype(dtype))


@operator("RandomUniformLike")
def random_uniform_like(x: Any, *, dtype: int | None = None, low: float = 0.0, high: float = 1.0, seed: float | None = None,
                        call: Any) -> Any:
    drawn = random_uniform(shape=x.shape, low=low, high=high, seed=seed, call=call)
    return F.astype(drawn, x.dtype if dtype is None else call.dtype(dtype))


@operator("Bernoulli")
def bernoulli(p: Any, *, dtype: int | None = None, seed: float | None = None, call: Any) -> Any:
    return F.astype(random.bernoulli(_key(seed), p, p.shape), p.dtype if dtype is None else call.dtype(dtype))
