"""The functions of the array API standard that `nagraph.numpy` has, and how Hypothesis draws their arguments.

A row is a strategy of calls. A call is (arrays, ours, theirs): `ours` of NumPy arrays or traced values, `theirs` of arrays of the strict
namespace, both with whatever else was drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import array_api_strict as xp
from hypothesis import strategies as st
from hypothesis.extra.array_api import make_strategies_namespace

import nagraph.numpy as np_

xps = make_strategies_namespace(xp)
Call = tuple[Sequence[Any], Callable[..., Any], Callable[..., Any]]
SHAPES = xps.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=5)
FLOATS, REAL, INTEGERS = xps.floating_dtypes(), xps.real_dtypes(), st.one_of(xps.integer_dtypes(), xps.unsigned_integer_dtypes())
BOOLS, ALL = xps.boolean_dtypes(), st.one_of(xps.boolean_dtypes(), xps.real_dtypes())
#: Names that NumPy writes otherwise, and so do we.
NAMES = {
    "acos": "arccos", "acosh": "arccosh", "asin": "arcsin", "asinh": "arcsinh", "atan": "arctan", "atan2": "arctan2", "atanh": "arctanh",
    "bitwise_invert": "bitwise_not", "bitwise_left_shift": "left_shift", "bitwise_right_shift": "right_shift",
    "cumulative_sum": "cumsum", "cumulative_prod": "cumprod",
}


def ours(name: str) -> Callable[..., Any]:
    """Our function of that name of the standard."""
    found: Callable[..., Any] = getattr(np_, NAMES.get(name, name))
    return found


def same(name: str, arrays: Sequence[Any], *args: Any, **options: Any) -> Call:
    """The same call of both."""
    return arrays, lambda *xs: ours(name)(*xs, *args, **options), lambda *xs: getattr(xp, name)(*xs, *args, **options)


@st.composite
def unary(draw: Any, name: str, dtypes: Any, bounds: dict[str, Any] | None = None) -> Call:
    dtype = draw(dtypes)
    return same(name, [draw(xps.arrays(dtype, SHAPES, elements=bounds))])


@st.composite
def binary(draw: Any, name: str, dtypes: Any, second: dict[str, Any] | None = None) -> Call:
    """Two arrays of one dtype that broadcast; now and then the second is a Python number."""
    dtype = draw(dtypes)
    shapes = draw(xps.mutually_broadcastable_shapes(2, max_dims=3, max_side=4, min_side=0)).input_shapes
    x = draw(xps.arrays(dtype, shapes[0]))
    if second is None and draw(st.integers(0, 4)) == 0:
        y = draw(xps.from_dtype(dtype))
        return [x], lambda v: ours(name)(v, y), lambda v: getattr(xp, name)(v, y)
    return same(name, [x, draw(xps.arrays(dtype, shapes[1], elements=second))])


def axis_of(draw: Any, rank: int, several: bool) -> Any:
    """None, an axis, or a tuple of axes."""
    if rank == 0:
        return None
    one = st.integers(-rank, rank - 1)
    return draw(st.one_of(st.none(), one, xps.valid_tuple_axes(rank, min_size=1)) if several else st.one_of(st.none(), one))


@st.composite
def reduction(draw: Any, name: str, dtypes: Any, several: bool = True, least: int = 0, finite: bool = False) -> Call:
    dtype = draw(dtypes)
    shape = draw(xps.array_shapes(min_dims=0, max_dims=3, min_side=least, max_side=5))
    limits = {"min_value": -100, "max_value": 100} if finite and dtype in (xp.float32, xp.float64) else None
    options: dict[str, Any] = {"axis": axis_of(draw, len(shape), several), "keepdims": draw(st.booleans())}
    if name in ("std", "var"):
        options["correction"] = draw(st.sampled_from([0, 0.0, 1, 0.5]))
    theirs = partial(getattr(xp, name), **options)
    if "correction" in options:
        options["ddof"] = options.pop("correction")
    return [draw(xps.arrays(dtype, shape, elements=limits))], partial(ours(name), **options), theirs


@st.composite
def scanned(draw: Any, name: str) -> Call:
    dtype = draw(REAL)
    shape = draw(xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5))
    limits = {"min_value": -8, "max_value": 8} if dtype in (xp.float32, xp.float64) else None
    return same(name, [draw(xps.arrays(dtype, shape, elements=limits))], axis=draw(st.integers(-len(shape), len(shape) - 1)))


@st.composite
def moved(draw: Any, name: str) -> Call:
    """A function that moves elements, with arguments that fit the shape."""
    shape = draw(xps.array_shapes(min_dims=0 if name in ("expand_dims", "flip", "reshape", "roll", "tile", "broadcast_to") else 1,
                                  max_dims=3, min_side=0, max_side=4))
    rank = len(shape)
    axis = st.integers(-rank, rank - 1) if rank else st.none()
    x = draw(xps.arrays(draw(ALL), shape))
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    if name == "broadcast_to":
        args = (draw(xps.broadcastable_shapes(shape, min_dims=rank, max_dims=4, min_side=0, max_side=4)),)
    elif name == "expand_dims":
        options = {"axis": draw(st.integers(-rank - 1, rank))}
    elif name == "flip":
        options = {"axis": axis_of(draw, rank, True)}
    elif name == "moveaxis":
        args = (draw(axis), draw(axis))
    elif name == "permute_dims":
        args = (tuple(draw(st.permutations(range(rank)))),)
    elif name == "repeat":
        args, options = (draw(st.integers(0, 3)),), {"axis": draw(st.one_of(st.none(), axis))}
    elif name == "reshape":
        args = (draw(st.sampled_from([(-1,) if 0 not in shape else (0,), (*shape, 1), tuple(reversed(shape))])),)
    elif name == "roll":
        several = draw(st.booleans()) and rank > 0
        args = (draw(st.tuples(st.integers(-7, 7), st.integers(-7, 7))),) if several else (draw(st.integers(-20, 20)),)
        options = {"axis": draw(st.tuples(axis, axis)) if several else draw(st.one_of(st.none(), axis))}
    elif name == "squeeze":
        ones = [a for a, s in enumerate(shape) if s == 1]
        options = {"axis": tuple(draw(st.permutations(ones)))}
    elif name == "tile":
        args = (tuple(draw(st.lists(st.integers(0, 3), max_size=4))),)
    elif name in ("tril", "triu"):
        return same(name, [draw(xps.arrays(draw(ALL), xps.array_shapes(min_dims=2, max_dims=4, min_side=0, max_side=4)))],
                    k=draw(st.integers(-5, 5)))
    return same(name, [x], *args, **options)


@st.composite
def joined(draw: Any, name: str) -> Call:
    dtype, count = draw(ALL), draw(st.integers(1, 4))
    shape = draw(xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    shapes = [shape] * count
    if name == "concat":
        sizes = draw(st.lists(st.integers(0, 4), min_size=count, max_size=count))
        shapes = [tuple(s if a == axis % len(shape) else n for a, n in enumerate(shape)) for s in sizes]
    xs = [draw(xps.arrays(dtype, s)) for s in shapes]
    return xs, lambda *v: ours(name)(list(v), axis=axis), lambda *v: getattr(xp, name)(list(v), axis=axis)


@st.composite
def broadcast_arrays(draw: Any, name: str) -> Call:
    shapes = draw(xps.mutually_broadcastable_shapes(draw(st.integers(1, 3)), max_dims=3, min_side=0, max_side=4)).input_shapes
    return same(name, [draw(xps.arrays(draw(ALL), s)) for s in shapes])


@st.composite
def where(draw: Any, name: str) -> Call:
    shapes = draw(xps.mutually_broadcastable_shapes(3, max_dims=3, min_side=0, max_side=4)).input_shapes
    dtype = draw(ALL)
    return same(name, [draw(xps.arrays(xp.bool, shapes[0])), *(draw(xps.arrays(dtype, s)) for s in shapes[1:])])


@st.composite
def clip(draw: Any, name: str) -> Call:
    dtype = draw(REAL)
    x = draw(xps.arrays(dtype, SHAPES))
    low, high = draw(xps.from_dtype(dtype)), draw(xps.from_dtype(dtype))
    chosen = draw(st.sampled_from([(low, high), (low, None), (None, high)]))
    return same(name, [x], *chosen)


@st.composite
def taken(draw: Any, name: str) -> Call:
    shape = draw(xps.array_shapes(min_dims=1, max_dims=3, min_side=1, max_side=5))
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    places = {"min_value": 0, "max_value": shape[axis] - 1}
    wanted = (draw(st.integers(0, 5)),) if name == "take" else tuple(
        draw(st.integers(0, 4)) if a == axis % len(shape) else s for a, s in enumerate(shape))
    return same(name, [draw(xps.arrays(draw(ALL), shape)), draw(xps.arrays(xp.int64, wanted, elements=places))], axis=axis)


@st.composite
def indexed(draw: Any, name: str) -> Call:
    x = draw(xps.arrays(draw(ALL), xps.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5)))
    index = draw(xps.indices(x.shape, allow_newaxis=True))
    return [x], lambda v: v[index], lambda v: v[index]


@st.composite
def sorted_along(draw: Any, name: str) -> Call:
    """Without nan, whose place the standard leaves open, and stable, so that there is one order."""
    dtype = draw(REAL)
    shape = draw(xps.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=7))
    elements = {"allow_nan": False} if dtype in (xp.float32, xp.float64) else None
    return same(name, [draw(xps.arrays(dtype, shape, elements=elements))], axis=draw(st.integers(-len(shape), len(shape) - 1)))


def small(draw: Any, shape: Any) -> Any:
    """Numbers whose products and sums are not beyond any dtype."""
    dtype = draw(REAL)
    unsigned = str(dtype).split(".")[-1].startswith("uint")
    return dtype, lambda s: draw(xps.arrays(dtype, s, elements={"min_value": 0 if unsigned else -3, "max_value": 3}))


@st.composite
def product(draw: Any, name: str) -> Call:
    n, m, k = (draw(st.integers(0, 4)) for _ in range(3))
    _, array = small(draw, ())
    lead = draw(xps.mutually_broadcastable_shapes(2, min_dims=0, max_dims=2, min_side=0, max_side=3)).input_shapes
    if name == "matmul":
        left, right = (*lead[0], n, k), (*lead[1], k, m)
        shapes = draw(st.sampled_from([(left, right), ((k,), right), (left, (k,)), ((k,), (k,))]))
        return same(name, [array(s) for s in shapes])
    if name == "tensordot":
        axes, shapes = draw(st.sampled_from([(0, ((n,), (m, k))), (1, ((n, k), (k, m))), (2, ((n, m, k), (m, k))),
                                             (((0,), (1,)), ((k, n), (m, k))), (((), ()), ((n,), (m,)))]))
        return same(name, [array(s) for s in shapes], axes=axes)
    return same(name, [array((*lead[0], k)), array((*lead[1], k))])


@st.composite
def created(draw: Any, name: str) -> Call:
    """What has no array among its arguments."""
    size = st.integers(0, 6)
    args: tuple[Any, ...] = ()
    options: dict[str, Any] = {}
    if name == "arange":
        start, stop, step = draw(st.integers(-9, 9)), draw(st.integers(-9, 9)), draw(st.sampled_from([-3, -1, 1, 2]))
        args = draw(st.sampled_from([(start,), (start, stop), (start, stop, step), (start / 2, stop / 2)]))
    elif name == "linspace":
        args = (draw(st.integers(-9, 9)), draw(st.integers(-9, 9)), draw(size))
        options = {"endpoint": draw(st.booleans())}
    elif name == "eye":
        n, m, k = draw(size), draw(st.one_of(st.none(), size)), draw(st.integers(-7, 7))
        return [], lambda: np_.eye(n, m, k=k), lambda: xp.eye(n, m, k=k)
    elif name in ("zeros", "ones"):
        args = (draw(st.one_of(size, SHAPES)),)
    else:
        args = (draw(SHAPES), draw(st.one_of(st.booleans(), st.integers(-9, 9), st.floats(-9, 9))))
    return same(name, [], *args, **options)


@st.composite
def like(draw: Any, name: str) -> Call:
    dtype = draw(ALL)
    x = draw(xps.arrays(dtype, SHAPES))
    return same(name, [x], *((draw(xps.from_dtype(dtype)),) if name == "full_like" else ()))


@st.composite
def cast(draw: Any, name: str) -> Call:
    """Numbers that every dtype can hold."""
    dtype = draw(ALL)
    x = draw(xps.arrays(dtype, SHAPES, elements=None if dtype == xp.bool else {"min_value": 0, "max_value": 100}))
    to = draw(ALL)
    wanted = str(to).split(".")[-1]
    return [x], lambda v: np_.astype(v, wanted), lambda v: xp.astype(v, to)


@st.composite
def operator(draw: Any, name: str) -> Call:
    """The operators of arrays, x + y and 2 + x, as Python calls them."""
    import operator as python

    fn = getattr(python, name)
    dtypes = {"and_": st.one_of(BOOLS, INTEGERS), "or_": st.one_of(BOOLS, INTEGERS), "xor": st.one_of(BOOLS, INTEGERS),
              "truediv": FLOATS, "pow": FLOATS, "matmul": REAL}.get(name, REAL)
    dtype = draw(dtypes)
    shapes = draw(xps.mutually_broadcastable_shapes(2, max_dims=3, max_side=4, min_side=0)).input_shapes
    x = draw(xps.arrays(dtype, shapes[0]))
    turn = draw(st.integers(0, 2))
    if turn < 2:
        y = draw(xps.from_dtype(dtype))
        call = (lambda v: fn(v, y)) if turn else (lambda v: fn(y, v))
        return [x], call, call
    return [x, draw(xps.arrays(dtype, shapes[1]))], fn, fn


OF_FLOATS = ("acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2",
             "reciprocal", "sin", "sinh", "sqrt", "tan", "tanh")
ROWS: dict[str, Any] = {
    **{n: unary(n, FLOATS) for n in OF_FLOATS},
    **{n: unary(n, REAL) for n in ("abs", "ceil", "floor", "isfinite", "isinf", "isnan", "negative", "round", "sign", "square", "trunc")},
    "bitwise_invert": unary("bitwise_invert", st.one_of(BOOLS, INTEGERS)), "logical_not": unary("logical_not", BOOLS),
    **{n: binary(n, REAL) for n in ("add", "subtract", "multiply", "maximum", "minimum", "less", "less_equal", "greater", "greater_equal")},
    **{n: binary(n, ALL) for n in ("equal", "not_equal")},
    **{n: binary(n, FLOATS) for n in ("atan2", "copysign", "divide", "nextafter", "pow")},
    **{n: binary(n, REAL) for n in ("floor_divide", "remainder")},
    **{n: binary(n, st.one_of(BOOLS, INTEGERS)) for n in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    **{n: binary(n, INTEGERS, {"min_value": 0, "max_value": 7}) for n in ("bitwise_left_shift", "bitwise_right_shift")},
    **{n: binary(n, BOOLS) for n in ("logical_and", "logical_or", "logical_xor")},
    **{n: reduction(n, REAL, finite=True) for n in ("sum", "prod")}, **{n: reduction(n, REAL, least=1) for n in ("max", "min")},
    **{n: reduction(n, FLOATS, finite=True) for n in ("mean", "std", "var")}, **{n: reduction(n, ALL) for n in ("all", "any")},
    **{n: reduction(n, REAL, several=False, least=1) for n in ("argmax", "argmin")},
    **{n: scanned(n) for n in ("cumulative_sum", "cumulative_prod")},
    **{n: moved(n) for n in ("broadcast_to", "expand_dims", "flip", "moveaxis", "permute_dims", "repeat", "reshape", "roll", "squeeze",
                             "tile", "tril", "triu")},
    "concat": joined("concat"), "stack": joined("stack"), "broadcast_arrays": broadcast_arrays("broadcast_arrays"), "where": where("where"),
    "clip": clip("clip"), "take": taken("take"), "take_along_axis": taken("take_along_axis"), "sort": sorted_along("sort"),
    "argsort": sorted_along("argsort"), "matmul": product("matmul"), "tensordot": product("tensordot"), "astype": cast("astype"),
    **{n: created(n) for n in ("arange", "linspace", "eye", "zeros", "ones", "full")},
    **{n: like(n) for n in ("zeros_like", "ones_like", "full_like")},
}
#: What the standard says of arrays themselves.
METHODS: dict[str, Any] = {
    "x[index]": indexed("getitem"),
    **{f"operator.{n}": operator(n) for n in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow", "and_", "or_", "xor", "lt", "le",
                                              "eq", "ne", "gt", "ge")},
}
