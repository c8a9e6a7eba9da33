"""Types: one object for each dtype and shape, however it was written down, for as long as anybody has it."""

import copy
import gc
import pickle
import random
import threading

import numpy as np
import pytest

import nagraph as ng
from nagraph.ir import types
from nagraph.ir.types import DTYPES, TensorType


def test_equal_types_are_one_object_and_others_are_not():
    rng = random.Random(0)
    found = {}
    for _ in range(2000):
        dtype, shape = rng.choice(list(DTYPES.values())), tuple(rng.choice((0, 1, 2, 3)) for _ in range(rng.randrange(4)))
        written = tuple(rng.choice((int, np.int64, np.uint8, float))(s) for s in shape)
        same = rng.choice((dtype, np.dtype(dtype.type), pickle.loads(pickle.dumps(dtype))))
        t = TensorType(same, written)
        assert found.setdefault((dtype, shape), t) is t
        assert t.dtype is dtype and t.shape == shape and all(type(s) is int for s in t.shape)
        assert pickle.loads(pickle.dumps(t)) is copy.copy(t) is copy.deepcopy(t) is t
    assert len(set(found.values())) == len(found) == len(set(map(str, found.values())))


def test_a_type_does_not_change():
    t = ng.spec((2, 3))
    with pytest.raises(AttributeError, match="with_shape"):
        t.shape = (3, 2)


def test_types_that_nobody_has_are_not_kept():
    kept = [ng.spec((7, n)) for n in range(0, 20000, 1000)]
    for n in range(20000):
        ng.spec((7, n))
    gc.collect()
    assert len(types._KNOWN) < 12000 and all(ng.spec(t.shape) is t for t in kept)


def test_threads_that_make_a_type_at_once_have_one():
    found = [[] for _ in range(4)]
    start = threading.Barrier(4)

    def work(mine):
        start.wait()
        mine += [ng.spec((11, 13, n)) for n in range(500)]

    crew = [threading.Thread(target=work, args=(mine,)) for mine in found]
    for t in crew:
        t.start()
    for t in crew:
        t.join()
    assert all(len({id(t) for t in same}) == 1 for same in zip(*found))
