"""Ways to call a function: eagerly and traced, mapped, looped over, differentiated; and ways to write its arguments."""

import numpy as np

import nagraph as ng
from nagraph.errors import NagraphError

#: What a function may raise of arguments that it can't take.
REFUSALS = (NagraphError, TypeError, ValueError, IndexError)


class Static:
    """An argument that is written in the function rather than traced."""

    def __init__(self, value):
        self.value = value


class Slot:
    """The place of a traced argument."""

    def __init__(self, number):
        self.number = number


def each(f, x, kind):
    """f on every argument of this kind, inside lists and tuples too."""
    if isinstance(x, kind) and type(x) is not bool:
        return f(x)
    return type(x)(each(f, v, kind) for v in x) if type(x) in (list, tuple) else x


def written(args, kwargs, f, kind=np.ndarray):
    """The call with f on every argument of this kind."""
    return each(f, list(args), kind), {k: each(f, v, kind) for k, v in kwargs.items()}


def taken_apart(args, kwargs):
    """(arrays, put): put(arrays) is the call again."""
    arrays = []

    def take(x):
        arrays.append(x)
        return Slot(len(arrays) - 1)

    slotted = written(args, kwargs, take, np.ndarray | np.generic)

    def put(tracers):
        args, kwargs = written(*slotted, lambda s: tracers[s.number], Slot)
        return written(args, kwargs, lambda s: s.value, Static)

    return arrays, put


def body_of(function, args, kwargs):
    """(arrays, f): f(*arrays) is the call, as a flat list of its results."""
    arrays, put = taken_apart(args, kwargs)

    def body(*tracers):
        args, kwargs = put(tracers)
        return [x for x in ng.tree.leaves(function(*args, **kwargs)) if x is not None]

    return arrays, body


def every_way(body):
    """f(*arrays) -> the results directly, mapped, looped over and beside a gradient, each with two examples where there are several."""

    def direct(*arrays):
        return body(*arrays)

    def mapped(*arrays):
        return ng.vmap(body)(*(ng.numpy.stack([x, x]) for x in arrays))

    def looped(*arrays):
        return ng.scan(lambda carry, xs: (carry, body(*xs)), np.int32(0), tuple(ng.numpy.stack([x, x]) for x in arrays))[1]

    def differentiated(*arrays):
        def loss(moving, fixed):
            moving, fixed = iter(moving), iter(fixed)
            found = body(*(next(moving if isfloat(x) else fixed) for x in arrays))
            total = sum((ng.numpy.sum(ng.numpy.astype(y, np.float64)) for y in found if type(y) is not int and isfloat(y)), np.zeros(()))
            return total, found

        floats = tuple(x for x in arrays if isfloat(x))
        if not floats:
            return body(*arrays)
        gradient, found = ng.grad(loss, has_aux=True)(floats, tuple(x for x in arrays if not isfloat(x)))
        return found + [g for g in gradient]

    return {"direct": direct, "vmap": mapped, "scan": looped, "grad": differentiated}


def isfloat(x):
    return x.dtype == ng.bfloat16 or x.dtype.kind == "f"


def outcome(f, *args, **kwargs):
    """What a call gives, as a list of arrays, or the exception that it raises."""
    try:
        found = f(*args, **kwargs)
    except Exception as error:
        return error
    return [np.asarray(x) for x in (found if isinstance(found, (list, tuple)) else [found])]
