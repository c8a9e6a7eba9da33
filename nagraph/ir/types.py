"""Tensor types: a dtype and a shape, written `f32[2,3]`."""

from __future__ import annotations

import weakref
from typing import Any

import ml_dtypes
import numpy as np

from nagraph.errors import TypeRuleError
from nagraph.forks import Lock
from nagraph.ir.integers import integers
from nagraph.ir.size_bounds import bounds
from nagraph.ir.sizes import Size, described

DType = np.dtype[Any]

bfloat16: DType = np.dtype(ml_dtypes.bfloat16)

#: The dtypes of the graph and the short names that the text form writes.
SHORT_NAMES: dict[DType, str] = {
    np.dtype(np.bool_): "bool",
    **{np.dtype(f"int{n}"): f"i{n}" for n in (8, 16, 32, 64)},
    **{np.dtype(f"uint{n}"): f"u{n}" for n in (8, 16, 32, 64)},
    np.dtype(np.float16): "f16",
    bfloat16: "bf16",
    np.dtype(np.float32): "f32",
    np.dtype(np.float64): "f64",
}
DTYPES: dict[str, DType] = {name: dtype for dtype, name in SHORT_NAMES.items()}

#: NumPy's own limit.
MAX_RANK = 64

FLOATS = frozenset(DTYPES[n] for n in ("f16", "bf16", "f32", "f64"))
SIGNED = frozenset(DTYPES[n] for n in ("i8", "i16", "i32", "i64"))
UNSIGNED = frozenset(DTYPES[n] for n in ("u8", "u16", "u32", "u64"))
INTEGERS = SIGNED | UNSIGNED
BOOL = DTYPES["bool"]


def as_dtype(like: Any) -> DType:
    """The native-order dtype that `like` names: a short name, a NumPy dtype or scalar type.

    Raises TypeRuleError for dtypes that a graph cannot hold (complex, strings, objects, structures).
    """
    if isinstance(like, np.dtype) and like in SHORT_NAMES:
        return like
    dtype = DTYPES[like] if isinstance(like, str) and like in DTYPES else np.dtype(like)
    if not dtype.isnative:
        dtype = dtype.newbyteorder("=")
    if dtype not in SHORT_NAMES:
        raise TypeRuleError(f"dtype {dtype} is not one that a graph can hold; it holds {', '.join(DTYPES)}")
    return dtype


def is_float(dtype: DType) -> bool:
    """Whether `dtype` is one of f16, bf16, f32, f64 (NumPy itself files bfloat16 under void)."""
    return dtype in FLOATS


class TensorType:
    """What is known of a tensor before it exists: `dtype` and `shape` (sizes per axis, of which some may be known later: `symbolic`).

    One object for each dtype and shape as long as anybody has it, so that types are compared and hashed as objects are. What is no
    type that a graph can hold (`verify` says so) is an object of its own.
    """

    __slots__ = ("dtype", "shape", "symbolic", "__weakref__")
    dtype: DType
    shape: tuple[int, ...]
    symbolic: bool

    def __new__(cls, dtype: DType, shape: tuple[int, ...]) -> TensorType:
        try:
            known = _KNOWN.get((dtype, shape))
        except TypeError:
            known = None
        return known and known() or _TYPES.make(dtype, shape)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"a type does not change: make another one with with_shape or with_dtype, in place of setting .{name}")

    def __reduce__(self) -> Any:
        return TensorType, (self.dtype, self.shape)

    def __repr__(self) -> str:
        return f"TensorType(dtype={self.dtype!r}, shape={self.shape!r})"

    @property
    def rank(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> int:
        n = 1
        for s in self.shape:
            n *= s
        return n

    @property
    def nbytes(self) -> int:
        return self.size * self.dtype.itemsize

    @property
    def possible(self) -> bool:
        """Whether there can be an array of this type: at most 64 axes, less than 2^63 bytes even where a size 0 makes it empty."""
        nbytes = self.dtype.itemsize
        for s in self.shape if not self.symbolic else (bounds(s)[0] or 0 for s in self.shape):
            nbytes *= max(s, 1)
        return self.rank <= MAX_RANK and nbytes < 1 << 63

    def __str__(self) -> str:
        return f"{SHORT_NAMES[self.dtype]}[{','.join(map(str, self.shape))}]"

    def with_shape(self, shape: tuple[int, ...]) -> TensorType:
        return TensorType(self.dtype, shape)

    def with_dtype(self, dtype: Any) -> TensorType:
        return TensorType(as_dtype(dtype), self.shape)


class _Types:
    """The types that somebody has, by dtype and shape; those that nobody has any more are dropped whenever it has doubled."""

    def __init__(self) -> None:
        self.known: dict[tuple[DType, tuple[int, ...]], weakref.ref[TensorType]] = {}
        self._most, self._lock = 4096, Lock()

    def make(self, dtype: DType, shape: tuple[int, ...]) -> TensorType:
        """The type, made if nobody has it: of the dtype object that all graphs have, and Python's integers."""
        canonical = next((d for d in SHORT_NAMES if d == dtype), None) if isinstance(dtype, np.dtype) else None
        sizes = _sizes(shape)
        if canonical is None or sizes is None:
            return _new(dtype, shape)
        dtype, shape = canonical, sizes
        with self._lock:
            known = self.known.get((dtype, shape))
            found = None if known is None else known()
            if found is None:
                found = _new(dtype, shape)
                if len(self.known) >= self._most:
                    for key in [key for key, held in self.known.items() if held() is None]:
                        del self.known[key]
                    self._most = max(4096, 2 * len(self.known))
                self.known[dtype, shape] = weakref.ref(found)
        return found


def _new(dtype: DType, shape: tuple[int, ...]) -> TensorType:
    made = object.__new__(TensorType)
    object.__setattr__(made, "dtype", dtype)
    object.__setattr__(made, "shape", shape)
    object.__setattr__(made, "symbolic", isinstance(shape, tuple) and any([isinstance(s, Size) for s in shape]))
    return made


def _sizes(shape: Any) -> tuple[int, ...] | None:
    """A tuple of sizes and Python's integers that is equal to the shape, if there is one."""
    try:
        found = tuple([s if isinstance(s, Size) else int(s) for s in shape])
        return found if isinstance(shape, tuple) and shape == found else None
    except (TypeError, ValueError, OverflowError):
        return None


_TYPES = _Types()
_KNOWN = _TYPES.known


def spec(shape: Any, dtype: Any = np.float32) -> TensorType:
    """A stand-in for an array that is not there yet: `spec((2, 3), "f32")` has type `f32[2,3]`; sizes may be dimensions (`ng.Dim`)."""
    sizes = integers("spec: shape", shape)
    for s in sizes:
        least = bounds(s)[0]
        if least is None or least < 0:
            raise TypeRuleError(f"sizes are at least 0, got {sizes}" if type(s) is int else
                                f"sizes are at least 0, and {s} may be less ({described(s)}): give the dimension a larger min")
    found = TensorType(as_dtype(dtype), sizes)
    if not found.possible:
        raise TypeRuleError(too_large(found))
    return found


def too_large(type: TensorType) -> str:
    """What is wrong with a type that is not possible."""
    return f"no array has the type {type}: an array has up to {MAX_RANK} axes and less than 2^63 bytes"


def type_of(array: Any) -> TensorType:
    """The type of a NumPy array (or anything with a dtype and a shape)."""
    return TensorType(as_dtype(array.dtype), tuple(array.shape))
