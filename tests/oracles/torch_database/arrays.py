"""Entries of PyTorch's operator database that reduce, move, join, index, sort or multiply arrays, and our answers."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

import nagraph.numpy as np_
from nagraph.nn import functional as F
from tests.oracles.tolerance import is_float
from tests.oracles.torch_database.counterpart import fitting, unoffered

# -- reductions and scans -----------------------------------------------------------------------------


def axes(dim: Any) -> Any:
    """PyTorch's `dim`: an empty one stands for all axes."""
    return None if dim is None or dim == () or dim == [] else tuple(dim) if isinstance(dim, (tuple, list)) else dim


def reduction(fn: Any) -> Any:
    def reduced(x: Any, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:
        options = {} if dtype is None else {"dtype": dtype}
        return fn(x, axis=on_scalar(x, axes(dim)), keepdims=keepdim, **options)

    return reduced


def on_scalar(x: Any, axis: Any) -> Any:
    """PyTorch lets a scalar have an axis 0 and -1; NumPy does not."""
    return () if not x.shape and axis in (0, -1, (0,), (-1,)) else axis


def spread(fn: Any) -> Any:
    def spread_of(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        ddof = correction if correction is not None else 1 if unbiased is None else int(unbiased)
        return fn(x, axis=axes(dim), ddof=ddof, keepdims=keepdim)

    return spread_of


def with_mean(fn: Any) -> Any:
    one = spread(fn)

    def both(x: Any, dim: Any = None, unbiased: Any = None, keepdim: bool = False, *, correction: Any = None) -> Any:
        found = None if isinstance(dim, bool) else axes(dim)
        return one(x, dim, unbiased, keepdim, correction=correction), np_.mean(x, axis=found, keepdims=keepdim)

    return both


def extremum(value: Any, place: Any) -> Any:
    """Values and places of the largest or smallest along an axis."""
    def both(x: Any, dim: int, keepdim: bool = False) -> Any:
        if not x.shape:
            return value(x), place(x)
        return value(x, axis=dim, keepdims=keepdim), place(x, axis=dim, keepdims=keepdim)

    return both


def place_of(fn: Any) -> Any:
    return lambda x, dim=None, keepdim=False: fn(x, axis=None if not x.shape else dim, keepdims=keepdim and bool(x.shape))


def aminmax(x: Any, *, dim: Any = None, keepdim: bool = False) -> Any:
    axis = on_scalar(x, dim)
    return np_.min(x, axis=axis, keepdims=keepdim), np_.max(x, axis=axis, keepdims=keepdim)


def scan(fn: Any) -> Any:
    def scanned(x: Any, dim: int, *, dtype: Any = None) -> Any:
        row = np_.reshape(x, x.shape or (1,))
        return np_.reshape(fn(row, axis=dim) if dtype is None else fn(row, axis=dim, dtype=dtype), x.shape)

    return scanned


def norm(x: Any, p: Any = 2, dim: Any = None, keepdim: bool = False) -> Any:
    if p not in (2, 2.0, None, "fro"):
        unoffered("norms other than the Euclidean one")
    if not x.shape:
        return np_.abs(x)
    axis = axes(dim)
    if isinstance(axis, tuple) and len(axis) > 2:
        found = np_.linalg.norm(np_.reshape(np_.moveaxis(x, axis, range(-len(axis), 0)), (*remaining(x, axis), -1)), axis=-1)
        return np_.expand_dims(found, axis) if keepdim else found
    return np_.linalg.norm(x, axis=axis, keepdims=keepdim)


def remaining(x: Any, axis: Any) -> tuple[int, ...]:
    """The sizes of the other axes."""
    return tuple(s for a, s in enumerate(x.shape) if a not in {i % len(x.shape) for i in axis})


def norm_of_matrix(x: Any, ord: Any = None, dim: Any = None, keepdim: bool = False) -> Any:  # noqa: A002
    if ord == 2 and (len(x.shape) == 2 if dim is None else isinstance(dim, tuple) and len(dim) == 2):
        unoffered("norms other than the Euclidean one")
    return norm(x, ord, dim, keepdim)


def vector_norm(x: Any, ord: Any = 2, dim: Any = None, keepdim: bool = False, *, dtype: Any = None) -> Any:  # noqa: A002
    return norm(x if dtype is None else np_.astype(x, dtype), ord, dim, keepdim)


# -- movement and joining -------------------------------------------------------------------------------


def sizes(shape: Any) -> tuple[int, ...]:
    return tuple(shape[0]) if len(shape) == 1 and isinstance(shape[0], (tuple, list)) else tuple(shape)


def expand(x: Any, *shape: Any) -> Any:
    wanted = sizes(shape)
    old = (1,) * (len(wanted) - len(x.shape)) + tuple(x.shape)
    return np_.broadcast_to(x, tuple(o if w == -1 else w for o, w in zip(old, wanted)))


def flatten(x: Any, start_dim: int = 0, end_dim: int = -1) -> Any:
    if not x.shape:
        return np_.reshape(x, (1,))
    first, last = start_dim % len(x.shape), end_dim % len(x.shape)
    return np_.reshape(x, (*x.shape[:first], math.prod(x.shape[first:last + 1]), *x.shape[last + 1:]))


def unflatten(x: Any, dim: int, shape: Any) -> Any:
    at = dim % len(x.shape)
    known = -math.prod(s for s in shape if s != 0 or -1 not in shape)
    whole = tuple(x.shape[at] // known if s == -1 and known else s for s in shape)
    return np_.reshape(x, (*x.shape[:at], *whole, *x.shape[at + 1:]))


def squeeze(x: Any, *dims: Any) -> Any:
    if not dims:
        return np_.squeeze(x)
    chosen = sizes(dims)
    return np_.squeeze(x, tuple({d % len(x.shape) for d in chosen if x.shape[d] == 1}) if x.shape else ())


def swapped(x: Any, a: int, b: int) -> Any:
    return np_.swapaxes(x, a, b) if x.shape else x


def repeat(x: Any, *reps: Any) -> Any:
    wanted = sizes(reps)
    return np_.tile(np_.reshape(x, (1,) * (len(wanted) - len(x.shape)) + tuple(x.shape)), wanted)


def roll(x: Any, shifts: Any, dims: Any = None) -> Any:
    return np_.roll(x, shifts, dims)


def chunk(x: Any, chunks: int, dim: int = 0) -> Any:
    size = -(-x.shape[dim] // chunks)
    return np_.split(x, list(range(size, x.shape[dim], size)), axis=dim)


def split(x: Any, size: Any, dim: int = 0) -> Any:
    if isinstance(size, int):
        return np_.split(x, list(range(size, x.shape[dim], size)), axis=dim)
    return np_.split(x, list(np.cumsum(size)[:-1]), axis=dim)


def tensor_split(x: Any, parts: Any, dim: int = 0) -> Any:
    if hasattr(parts, "dtype"):
        unoffered("places of a split that are a traced array")
    return np_.array_split(x, parts if isinstance(parts, int) else list(parts), axis=dim)


def diagonal(x: Any, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Any:
    return np_.diagonal(x, offset, dim1, dim2)


def narrow(x: Any, dim: int, start: Any, length: int) -> Any:
    if hasattr(start, "dtype"):
        starts = [start if a == dim % len(x.shape) else 0 for a in range(len(x.shape))]
        if (np.asarray(start) < 0).any() if isinstance(start, np.ndarray) else False:
            unoffered("a traced start that counts from the end")
        return np_.dynamic_slice(x, starts, [length if a == dim % len(x.shape) else s for a, s in enumerate(x.shape)])
    start = start + x.shape[dim] if start < 0 else start
    return np_.asarray(x)[(slice(None),) * (dim % len(x.shape)) + (slice(start, start + length),)]


def take_slice(x: Any, dim: int = 0, start: Any = None, end: Any = None, step: int = 1) -> Any:
    return x[(slice(None),) * (dim % len(x.shape)) + (slice(start, end, step),)]


def cat(xs: Any, dim: int = 0) -> Any:
    kept = [x for x in xs if tuple(x.shape) != (0,)] or list(xs[:1])
    return np_.concatenate(kept, axis=dim)


def move(x: Any, source: Any, destination: Any) -> Any:
    return np_.moveaxis(x, source, destination)


def unbind(x: Any, dim: int = 0) -> Any:
    return [np_.take(x, i, axis=dim) for i in range(x.shape[dim])]


# -- indexing ---------------------------------------------------------------------------------------------


def gather(x: Any, dim: int, index: Any) -> Any:
    """PyTorch's index may be shorter than x along the other axes."""
    if not x.shape:
        return np_.reshape(np_.take(np_.reshape(x, (1,)), np_.reshape(index, (-1,)), axis=0), index.shape)
    if len(index.shape) != len(x.shape):
        return np_.zeros(index.shape, x.dtype) if 0 in index.shape else unoffered("an index of another rank")
    cut = tuple(slice(None) if a == dim % len(x.shape) else slice(0, s) for a, s in enumerate(index.shape))
    return np_.take_along_axis(x[cut], index, axis=dim)


def places(shape: Any, dim: int, index: Any) -> tuple[Any, ...]:
    """The index expression of x[...index[i, j] in the place of `dim`...]."""
    grids = np.meshgrid(*(np.arange(s) for s in index.shape), indexing="ij", sparse=True)
    return tuple(index if a == dim % len(shape) else g for a, g in enumerate(grids))


def scatter(x: Any, dim: int, index: Any, source: Any, *, reduce: Any = None) -> Any:
    update = {None: np_.set_at, "add": np_.add_at}.get(reduce)
    if update is None:
        unoffered("scatter by products")
    if not x.shape:
        return update(np_.reshape(x, (1,)), np_.reshape(index, (-1,)), np_.reshape(source, (-1,)))[0] if index.shape else \
            update(np_.reshape(x, (1,)), index, source)[0]
    if hasattr(source, "shape"):
        source = source[tuple(slice(0, s) for s in index.shape)]
    return update(x, places(x.shape, dim, index), source)


def scatter_add(x: Any, dim: int, index: Any, source: Any) -> Any:
    return scatter(x, dim, index, source, reduce="add")


def scatter_extremum(update: Any) -> Any:
    def scattered(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
        if not include_self:
            unoffered("scatter without what was there")
        if not x.shape:
            return update(np_.reshape(x, (1,)), np_.reshape(index, (-1,)), np_.reshape(source, (-1,)))[0]
        return update(x, places(x.shape, dim, index), source[tuple(slice(0, s) for s in index.shape)])

    return scattered


def along(x: Any, dim: int, index: Any) -> tuple[Any, ...]:
    return (slice(None),) * (dim % len(x.shape)) + (index,)


def index_update(update: Any) -> Any:
    def updated(x: Any, dim: int, index: Any, source: Any, *, alpha: float = 1) -> Any:
        source = source if alpha == 1 else np_.multiply(source, fitting(alpha, source.dtype))
        if not x.shape:
            return update(np_.reshape(x, (1,)), index, np_.reshape(source, (-1,)))[0]
        return update(x, along(x, dim, index), source)

    return updated


def index_reduce(update: Any) -> Any:
    def reduced(x: Any, dim: int, index: Any, source: Any, reduce: str, *, include_self: bool = True) -> Any:
        return index_update(update)(x, dim, index, source) if include_self else unoffered("a reduction without what was there")

    return reduced


def index_fill(x: Any, dim: int, index: Any, value: Any) -> Any:
    if not x.shape:
        return np_.set_at(np_.reshape(x, (1,)), index, value)[0]
    return np_.set_at(x, along(x, dim, index), value)


def index_put(x: Any, indices: Any, values: Any, *, accumulate: bool = False) -> Any:
    return (np_.add_at if accumulate else np_.set_at)(x, no_masks(indices), values)


def put(x: Any, index: Any, source: Any, accumulate: bool = False) -> Any:
    flat = (np_.add_at if accumulate else np_.set_at)(np_.ravel(x), np_.ravel(index), np_.ravel(source))
    return np_.reshape(flat, x.shape)


def take_along(x: Any, index: Any, dim: Any = None) -> Any:
    if dim is None:
        return np_.take_along_axis(np_.ravel(x), np_.ravel(index), axis=0)
    rest = np.broadcast_shapes(*(tuple(1 if a == dim % len(x.shape) else s for a, s in enumerate(v.shape)) for v in (x, index)))
    wide = [np_.broadcast_to(v, tuple(v.shape[dim] if a == dim % len(x.shape) else s for a, s in enumerate(rest))) for v in (x, index)]
    return np_.take_along_axis(*wide, axis=dim)


def no_masks(index: Any) -> Any:
    return unoffered("masks that are traced") if any(getattr(i, "dtype", None) == np.dtype(bool) for i in index) else tuple(index)


def getitem(x: Any, index: Any) -> Any:
    return x[no_masks(index if isinstance(index, tuple) else (index,))]


# -- sorting ----------------------------------------------------------------------------------------------


def sort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    if descending:
        unoffered("descending order")
    if not x.shape:
        return x, np.zeros((), np.int64)
    return np_.sort(x, axis=dim), np_.argsort(x, axis=dim)


def argsort(x: Any, dim: int = -1, descending: bool = False, stable: bool = False) -> Any:
    return sort(x, dim, descending, stable)[1]


def topk(x: Any, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:  # noqa: A002
    if not largest:
        unoffered("the smallest k")
    if not x.shape:
        return x
    return np_.moveaxis(np_.top_k(np_.moveaxis(x, dim, -1), k)[0], -1, dim)


# -- products ----------------------------------------------------------------------------------------------


def affine(product: Any) -> Any:
    """beta x + alpha (a @ b); what is multiplied by 0 is not looked at."""
    def computed(x: Any, a: Any, b: Any, *, beta: float = 1, alpha: float = 1) -> Any:
        if not is_float(x.dtype) and any(type(v) is float or x.dtype == bool and v != 1 for v in (alpha, beta)):
            unoffered("integers scaled by fractions")
        scaled = product(a, b) if alpha == 1 else np_.multiply(product(a, b), alpha)
        return np_.add(np_.zeros_like(x) if beta == 0 else x if beta == 1 else np_.multiply(x, beta), scaled)

    return computed


def sum_of_products(a: Any, b: Any) -> Any:
    return np_.sum(np_.matmul(a, b), axis=0, dtype=a.dtype)


def meshgrid(*xs: Any, indexing: str) -> Any:
    if indexing == "xy" and len(xs) > 1:
        unoffered("grids in the order x, y")
    at = [tuple(slice(None) if a == n else None for a in range(len(xs))) for n in range(len(xs))]
    return np_.broadcast_arrays(*(np_.reshape(x, (-1,))[i] for x, i in zip(xs, at)))


def of_integers(numbers: Any, dtype: Any) -> bool:
    """Whether PyTorch rounds fractions among the bounds of a range first, where NumPy rounds what it computed."""
    return dtype is not None and np.dtype(dtype).kind in "iu" and any(isinstance(v, float) and v != int(v) for v in numbers)


def arange(start: Any, *stop: Any, end: Any = None, dtype: Any = None) -> Any:
    bounds = (start, *stop, *(() if end is None else (end,)))
    if of_integers(bounds, dtype):
        unoffered("a range of integers between fractions")
    for v in bounds:
        fitting(v, dtype or int)
    return np_.arange(start, *stop, *(() if end is None else (end,)), dtype=dtype)


def linspace(start: float, end: float, steps: int, *, dtype: Any = None) -> Any:
    """Integers by PyTorch's rule, towards zero between rounded bounds; NumPy's are rounded down."""
    if of_integers((start, end), dtype) or dtype is not None and np.dtype(dtype).kind == "i" and min(start, end) < 0:
        return np_.astype(np_.linspace(int(start), int(end), steps, dtype="f64"), dtype)
    return np_.linspace(start, end, steps, dtype=dtype)


def eye(n: int, m: int | None = None, *, dtype: Any = None) -> Any:
    return np_.eye(n, m, dtype=dtype)


def einsum(xs: Any, equation: str) -> Any:
    if "..." in equation.split("->")[0] and "->" in equation and "..." not in equation.split("->")[1]:
        unoffered("sums over the axes of an ellipsis")
    return np_.einsum(equation, *xs)


def tensordot(x: Any, y: Any, *, dims: Any) -> Any:
    if not isinstance(dims, int) and any(x.shape[a] != y.shape[b] for a, b in zip(*dims)):
        unoffered("contracted sizes that broadcast")
    return np_.tensordot(x, y, dims if isinstance(dims, int) else tuple(dims))


def cast(dtype: Any) -> Any:
    return lambda x: np_.astype(x, dtype)


def with_dtype(fn: Any) -> Any:
    return lambda x, dim, *, dtype=None: fn(x if dtype is None else np_.astype(x, dtype), dim)


def softmax_along(fn: Any, sign: int = 1) -> Any:
    def computed(x: Any, dim: int) -> Any:
        y = x if sign == 1 else -x
        return fn(y, axis=dim) if x.shape else np_.reshape(fn(np_.reshape(y, (1,)), axis=0), ())

    return with_dtype(computed)


COUNTERPARTS = {
    "all": reduction(np_.all), "amax": reduction(np_.amax), "amin": reduction(np_.amin), "any": reduction(np_.any),
    "mean": reduction(np_.mean), "prod": reduction(np_.prod), "sum": reduction(np_.sum), "std": spread(np_.std),
    "std.unbiased": spread(np_.std), "var": spread(np_.var), "var.unbiased": spread(np_.var), "std_mean": with_mean(np_.std),
    "std_mean.unbiased": with_mean(np_.std), "var_mean": with_mean(np_.var), "var_mean.unbiased": with_mean(np_.var),
    "argmax": place_of(np_.argmax), "argmin": place_of(np_.argmin), "aminmax": aminmax,
    "max.reduction_no_dim": np_.max, "min.reduction_no_dim": np_.min, "max.reduction_with_dim": extremum(np_.max, np_.argmax),
    "min.reduction_with_dim": extremum(np_.min, np_.argmin), "cumsum": scan(np_.cumsum), "cumprod": scan(np_.cumprod),
    "cummax": scan(np_.cummax), "cummin": scan(np_.cummin),
    "logsumexp": lambda x, dim, keepdim=False: F.logsumexp(x, on_scalar(x, axes(dim)), keepdim), "norm": norm, "norm.fro": norm,
    "linalg.vector_norm": vector_norm, "linalg.norm.subgradients_at_zero": norm_of_matrix,
    "count_nonzero": lambda x, dim=None: np_.sum(np_.not_equal(x, 0), axis=on_scalar(x, axes(dim))), "trace": np_.trace,
    "softmax": softmax_along(F.softmax), "softmax.with_dtype": softmax_along(F.softmax), "log_softmax": softmax_along(F.log_softmax),
    "log_softmax.with_dtype": softmax_along(F.log_softmax), "nn.functional.softmin": softmax_along(F.softmax, -1),
    "nn.functional.softmin.with_dtype": softmax_along(F.softmax, -1),
    "broadcast_to": np_.broadcast_to, "broadcast_tensors": lambda *xs: np_.broadcast_arrays(*xs), "expand": expand,
    "expand_copy": expand, "expand_as": lambda x, y: np_.broadcast_to(x, y.shape), "flip": lambda x, dims: np_.flip(x, tuple(dims)),
    "fliplr": lambda x: np_.flip(x, 1), "flipud": lambda x: np_.flip(x, 0), "flatten": flatten, "unflatten": unflatten,
    "permute": np_.transpose, "permute_copy": np_.transpose, "ravel": np_.ravel, "reshape": lambda x, s: np_.reshape(x, s),
    "view": lambda x, s: np_.reshape(x, s), "view_copy": lambda x, s: np_.reshape(x, s),
    "reshape_as": lambda x, y: np_.reshape(x, y.shape), "view_as": lambda x, y: np_.reshape(x, y.shape), "squeeze": squeeze,
    "squeeze_copy": squeeze, "squeeze.multiple": squeeze, "unsqueeze": np_.expand_dims, "unsqueeze_copy": np_.expand_dims,
    "transpose": swapped, "transpose_copy": swapped, "T": np_.transpose, "mT": lambda x: np_.swapaxes(x, -1, -2), "t": np_.transpose,
    "t_copy": np_.transpose, "repeat": repeat, "tile": np_.tile, "roll": roll, "movedim": move, "chunk": chunk, "unsafe_chunk": chunk,
    "split": split, "split.list_args": split, "unsafe_split": split, "split_with_sizes": split, "split_with_sizes_copy": split,
    "tensor_split": tensor_split, "hsplit": lambda x, n: tensor_split(x, n, 1 if len(x.shape) > 1 else 0),
    "vsplit": lambda x, n: tensor_split(x, n, 0), "dsplit": lambda x, n: tensor_split(x, n, 2), "diagonal": diagonal,
    "diagonal_copy": diagonal, "linalg.diagonal": lambda x, *, offset=0, dim1=-2, dim2=-1: np_.diagonal(x, offset, dim1, dim2),
    "tril": np_.tril, "triu": np_.triu, "narrow": narrow, "narrow_copy": narrow, "slice": take_slice, "cat": cat, "unbind": unbind,
    "unbind_copy": unbind, "stack": lambda xs, dim=0: np_.stack(xs, dim), "hstack": np_.hstack, "vstack": np_.vstack,
    "select": lambda x, dim, index: x[along(x, dim, index)], "clone": lambda x: np_.array(x), "contiguous": lambda x: np_.array(x),
    "zeros_like": lambda x, *, dtype=None: np_.zeros_like(x, dtype), "ones_like": lambda x, *, dtype=None: np_.ones_like(x, dtype),
    "full_like": lambda x, v, *, dtype=None: np_.full_like(x, fitting(v, dtype or x.dtype), dtype), "repeat_interleave":
        lambda x, *, repeats, dim=None, output_size=None: unoffered("counts that are an array") if hasattr(repeats, "dtype")
        else np_.repeat(x, repeats, axis=dim),
    "gather": gather, "scatter": scatter, "scatter_add": scatter_add, "scatter_reduce.amax": scatter_extremum(np_.max_at),
    "scatter_reduce.amin": scatter_extremum(np_.min_at), "scatter_reduce.sum": scatter_extremum(np_.add_at),
    "index_select": lambda x, dim, index: np_.take(x if x.shape else np_.reshape(x, (1,)), index, axis=dim) if x.shape
        else np_.reshape(x, ()), "index_add": index_update(np_.add_at), "index_copy": index_update(np_.set_at), "index_fill": index_fill,
    "index_reduce.amax": index_reduce(np_.max_at), "index_reduce.amin": index_reduce(np_.min_at), "index_put": index_put, "put": put,
    "take": lambda x, index: np_.take(x, index), "take_along_dim": take_along, "__getitem__": getitem,
    "select_scatter": lambda x, y, dim, index: np_.set_at(x, along(x, dim, index), y),
    "slice_scatter": lambda x, y, dim, start, end, step: np_.set_at(x, along(x, dim, slice(start, end, step)), y),
    "sort": sort, "argsort": argsort, "msort": lambda x: np_.sort(x, axis=0), "topk": topk,
    "matmul": np_.matmul, "__rmatmul__": lambda x, y: np_.matmul(y, x), "mm": np_.matmul, "bmm": np_.matmul, "mv": np_.matmul,
    "bmm.triton_optimized": np_.matmul, "dot": np_.dot, "vdot": np_.vdot, "inner": np_.inner, "outer": np_.outer, "einsum": einsum,
    "tensordot": tensordot, "addmm": affine(np_.matmul), "addmm.decomposed": affine(np_.matmul), "addmv": affine(np_.matmul),
    "addr": affine(np_.outer), "baddbmm": affine(np_.matmul), "addbmm": affine(sum_of_products),
    "linalg.multi_dot": lambda xs: functools.reduce(np_.matmul, xs),
    "linalg.vecdot": lambda x, y, *, dim=-1: np_.sum(np_.multiply(x, y), axis=dim),
    "meshgrid.variadic_tensors": meshgrid, "meshgrid.list_of_tensors": lambda xs, *, indexing: meshgrid(*xs, indexing=indexing),
    "arange": arange, "linspace": linspace, "eye": eye, "zeros": lambda shape, *, dtype=None: np_.zeros(shape, dtype),
    "ones": lambda shape, *, dtype=None: np_.ones(shape, dtype), "full": lambda shape, v, *, dtype=None: np_.full(shape, v, dtype),
    "dist": lambda x, y, p=2: np_.ravel(norm(x - y, p))[0], "kron": lambda x, y: np_.reshape(
        np_.einsum("ij,kl->ikjl", x, y), (x.shape[0] * y.shape[0], x.shape[1] * y.shape[1])),
    "bfloat16": cast("bf16"), "bool": cast("bool"), "byte": cast("u8"), "char": cast("i8"), "double": cast("f64"), "float": cast("f32"),
    "half": cast("f16"), "int": cast("i32"), "long": cast("i64"), "short": cast("i16"),
}
