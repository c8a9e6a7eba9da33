"""What tracing costs, in calls of Python functions: they are the same on every machine. And what is kept to save some is right."""

import gc
import itertools
import random

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError, TypeRuleError
from nagraph.ir import location
from nagraph.ir.builder import Builder
from nagraph.ir.location import Location
from nagraph.ir.op import REGISTRY, op
from nagraph.ir.types import TensorType
from nagraph.ops.base import Elementwise
from nagraph.ops.elementwise import Unary
from nagraph.tracing.tracer import Tracer, trace_leaves
from tests.support import call_counts, own_ops

X = np.linspace(-1, 1, 16, dtype=np.float32).reshape(4, 4)


def calls(run):
    """How many Python functions a second run calls."""
    run()
    return call_counts(run)[0]


#: A function, and how many calls tracing it may take; comprehensions are calls in Python 3.11.
FUNCTIONS = {
    "x * x": (lambda x: x * x, 18),
    "-x": (lambda x: -x, 18),
    "x + 0.5": (lambda x: x + 0.5, 30),
    "np.tanh(x)": (np.tanh, 18),
    "np.maximum(x, 0)": (lambda x: np.maximum(x, 0), 32),
    "np.where(x > 0, x, 0)": (lambda x: np.where(x > 0, x, 0), 75),
    "x.reshape(2, 8).reshape(4, 4)": (lambda x: x.reshape(2, 8).reshape(4, 4), 75),
    "x @ x": (lambda x: x @ x, 42),
    "x - x.mean(axis=-1, keepdims=True)": (lambda x: x - x.mean(axis=-1, keepdims=True), 150),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_node_takes_few_calls(name):
    f, most = FUNCTIONS[name]

    def chain(count):
        def run(x):
            for _ in range(count):
                x = f(x)
            return x
        return lambda: trace_leaves(run, [X], "f")

    assert (calls(chain(24)) - calls(chain(4))) / 20 <= most


def test_an_eager_gradient_takes_few_calls_beside_those_of_its_nodes():
    few, more = (ng.grad(f) for f in (lambda x: (np.sin(x) * x).sum(), lambda x: (np.sin(x) * x * x * x).sum()))
    assert calls(lambda: few(X)) <= 150 and calls(lambda: more(X)) - calls(lambda: few(X)) <= 2 * 15


def results(function, operands):
    """What an op makes of operands in a graph of its own: nodes and types, or what is wrong."""
    def made(*leaves):
        given = iter(leaves)
        return function(*[next(given) if isinstance(o, TensorType) else o for o in operands])

    try:
        return trace_leaves(made, [o for o in operands if isinstance(o, TensorType)], "f")[0]
    except NagraphError as error:
        return str(error).partition(" (test_")[0]


#: Types, and numbers of each kind, of which the first is harmless.
TYPES = ((3,), "bf16"), ((), "f32"), ((3,), "f32"), ((3,), "f64"), ((2, 3), "i8"), ((), "bool")
KINDS = [*((ng.spec(shape, dtype),) for shape, dtype in TYPES),
         (True, False), (2, -7, 300), (0.5, 0.0, -0.0), (np.float32(2),)]
OPS = [cls for cls in own_ops().values() if issubclass(cls, Elementwise) and not cls._fields()]


@pytest.mark.parametrize("cls", OPS, ids=lambda cls: cls.name)
@pytest.mark.filterwarnings("ignore:.*float64 scalar")
def test_an_op_that_knows_its_operands_does_as_a_new_one(cls):
    """Whatever it has met before: other dtypes, other numbers of the same Python type."""
    rng, known = random.Random(cls.name), cls()
    rows = [row for row in itertools.product(KINDS, repeat=cls.count()) if any(isinstance(k[0], TensorType) for k in row)]
    for row in rng.sample(rows, min(len(rows), 84)):
        for i in range(3):
            operands = [kind[i % len(kind)] for kind in row]
            assert results(known, operands) == results(cls(), operands), operands


def test_attributes_that_have_no_hash_are_an_error():
    @op
    class Listed(Unary):
        table: list
        reference = staticmethod(np.negative)

    try:
        with pytest.raises(TypeRuleError, match=r"listed: attributes must be hashable .*table=\[1, 2\].*test_tracing_cost.py"):
            ng.trace(lambda x: Listed([1, 2])(x), X)
    finally:
        del REGISTRY["listed"]


def test_lines_are_those_of_python():
    for code in (location.user_frames.__code__, FUNCTIONS["x * x"][0].__code__, test_lines_are_those_of_python.__code__,
                 results.__code__, Builder.emit.__code__, Tracer.__init__.__code__, random.Random.sample.__code__):
        for i, (line, *_) in enumerate(code.co_positions()):
            assert Location(code, 2 * i).line == (line or code.co_firstlineno)


def test_an_eager_call_leaves_nothing_for_the_garbage_collector():
    a = X * 2
    for gradient in (ng.grad(lambda x: (np.sin(x) * a + 0.5).sum()), ng.grad(lambda x: ng.vmap(lambda r: (r * 2).sum())(x).sum())):
        gradient(X)
        gc.collect()
        gc.disable()
        try:
            gradient(X)
            assert not gc.collect()
        finally:
            gc.enable()
