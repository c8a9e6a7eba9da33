"""Paddings of parts that lie side by side are joined where derivatives meet, and only there."""

import itertools

import numpy as np

from nagraph.ir.builder import Builder
from nagraph.ir.interpret import interpret
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops.slicing import Pad, side_by_side

F64 = DTYPES["f64"]


def test_joined_paddings_are_their_sum():
    rng = np.random.default_rng(0)
    joined = 0
    for n, m, a, b, u, v, rank in itertools.product((0, 1, 2), (0, 1, 3), (0, 1, 2), (0, 2), (0, 1, 2), (0, 1), (1, 2)):
        lead = (2,) * (rank - 1)
        x, y = rng.normal(size=(*lead, n)), rng.normal(size=(*lead, m))
        none = (0,) * (rank - 1)
        first, second = Pad((*none, a), (*none, b), (*none, 0)), Pad((*none, u), (*none, v), (*none, 0))
        with Builder() as builder:
            values = [builder.input(TensorType(F64, z.shape)) for z in (x, y)]
            found = side_by_side(first, values[0], second, values[1])
            if found is None:
                continue
            graph = builder.graph("joined", [found])
        joined += 1
        np.testing.assert_array_equal(interpret(graph, [x, y])[0], first(x) + second(y))
    assert joined > 20
