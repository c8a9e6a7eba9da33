"""The calls of MLX that rules make: its functions by name, its constants, and who listens to them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from nagraph.backends.mps.arrays import KIND, Array, library, mlx_dtype, numpy_dtype
from nagraph.ir.conversion import number
from nagraph.ir.graph import Node
from nagraph.ir.types import DType


class Listener(Protocol):
    """What hears of the nodes that are translated, and of the calls that are made for them."""

    def begin(self, node: Node) -> None:
        """The calls that follow are made for this node, which may be one inside of the node before."""

    def end(self) -> None:
        """The node that was begun last has been translated."""

    def called(self, name: str, args: tuple[Any, ...], options: dict[str, Any], result: Any) -> None:
        """A function of MLX was called."""

    def constant(self, array: Array, value: np.ndarray[Any, Any]) -> None:
        """A constant was asked for."""


class Constants:
    """The constants of a function of MLX, which takes them as arguments, in the order in which they are first asked for.

    A number that MLX finds inside of a function it writes into the text of kernels with seven digits, and -0.0 as 0.
    """

    def __init__(self) -> None:
        self.arrays: list[Array] = []
        self._numbers: dict[tuple[Any, ...], int] = {}

    def index(self, value: np.ndarray[Any, Any]) -> int:
        """The number of the constant of this value, a new one if there was none."""
        held = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        key = (value.dtype, value.shape, held.tobytes() if held.size <= 64 else hashlib.sha256(held).digest())
        found = self._numbers.get(key)
        if found is None:
            found = self._numbers[key] = len(self.arrays)
            self.arrays.append(KIND.from_numpy(value))
        return found


class Calls:
    """MLX's functions by their names, `m.add(x, y)`, for one walk through a graph.

    given: the arrays of the constants, where they are arguments of the function that is traced.
    """

    def __init__(self, constants: Constants, given: Sequence[Array] | None = None, listener: Listener | None = None):
        self._core, self._constants, self._given, self._listener = library(), constants, given, listener
        #: bool[] arrays: whether the labels that were checked are classes.
        self.verdicts: list[Array] = []

    def __getattr__(self, name: str) -> Any:
        return self._heard(name, getattr(self._core, name))

    def fast(self, name: str, *args: Any, **options: Any) -> Array:
        """A function of mlx.core.fast."""
        return self._heard(f"fast.{name}", getattr(self._core.fast, name))(*args, **options)

    def part(self, x: Array, index: tuple[Any, ...]) -> Array:
        """x[index], by slices and integers."""
        return self._heard("part", lambda x, index: x[index])(x, index)

    def put_maximum(self, x: Array, index: Array, updates: Array) -> Array:
        """x with the larger of x and the updates at indices of axis 0, which may repeat."""
        return self._heard("put_maximum", lambda x, index, updates: x.at[index].maximum(updates))(x, index, updates)

    def _heard(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        if self._listener is None:
            return function
        listener = self._listener

        def call(*args: Any, **options: Any) -> Any:
            result = function(*args, **options)
            listener.called(name, args, options, result)
            return result

        return call

    # -- dtypes and constants -----------------------------------------------------------------------------------

    def dtype(self, x: Array) -> DType:
        """The dtype of an array, as graphs have it."""
        return numpy_dtype(x.dtype)

    def to(self, x: Array, dtype: DType) -> Array:
        """x in a dtype, as MLX converts; itself if it has it."""
        wanted = mlx_dtype(dtype)
        return x if x.dtype == wanted else self.astype(x, wanted)

    def shaped(self, x: Array, shape: Sequence[int]) -> Array:
        """x under a shape of the same size; itself if it has it."""
        return x if tuple(x.shape) == tuple(shape) else self.reshape(x, list(shape))

    def ordered(self, x: Array, order: Sequence[int]) -> Array:
        """x with its axes in this order; itself if that is theirs."""
        return x if tuple(order) == tuple(range(x.ndim)) else self.transpose(x, list(order))

    def bits(self, x: Array, dtype: DType) -> Array:
        """The same bits as a dtype of the same width."""
        wanted = mlx_dtype(dtype)
        return x if x.dtype == wanted else self.view(x, wanted)

    def constant(self, value: np.ndarray[Any, Any]) -> Array:
        """An array whose elements are known."""
        index = self._constants.index(value)
        found = (self._constants.arrays if self._given is None else self._given)[index]
        if self._listener is not None:
            self._listener.constant(found, value)
        return found

    def number(self, value: Any, dtype: DType) -> Array:
        """A number of rank 0 in a dtype, rounded once."""
        return self.constant(number(value, dtype))

    def range(self, count: int, dtype: DType) -> Array:
        """0, 1, ... count - 1 in an integer dtype that holds them."""
        return self.arange(count, dtype=mlx_dtype(dtype))
