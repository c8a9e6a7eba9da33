"""Pytrees: containers taken apart and put together."""

import dataclasses
from collections import OrderedDict, namedtuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import nagraph as ng
from nagraph.errors import TreeError

Pair = namedtuple("Pair", "first second")
A = np.arange(3.0)


@dataclasses.dataclass(frozen=True)
class Layer:
    w: object
    b: object = None
    name: str = "layer"
    sizes: tuple = (1, 2)
    inner: object = None


class Model(ng.nn.Module):
    layers: list
    seen: object = ng.nn.buffer()
    heads: int = 4


def trees():
    leaves = st.sampled_from([1, 2.5, True, None, "word"]) | st.integers(0, 9).map(lambda n: np.arange(n))
    names = st.text("abc", min_size=1, max_size=2)
    return st.recursive(leaves, lambda t: st.lists(t, max_size=3) | st.lists(t, max_size=3).map(tuple)
                        | st.dictionaries(names, t, max_size=3)
                        | st.tuples(t, t).map(lambda p: Pair(*p)) | t.map(lambda x: {"layer": Layer(A, x)} if ng.tree.is_array(x) else [x]),
                        max_leaves=12)


def same(a, b):
    if isinstance(a, np.ndarray):
        return a is b
    if dataclasses.is_dataclass(a):
        return type(a) is type(b) and all(same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a))
    if isinstance(a, dict):
        return type(b) is dict and a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return a is b or a == b


@given(trees())
def test_flatten_and_unflatten_are_inverse(tree):
    leaves, structure = ng.tree.flatten(tree)
    assert same(ng.tree.unflatten(structure, leaves), tree)
    assert structure.leaf_count == len(leaves) == len(ng.tree.paths(structure)) == len(ng.tree.buffer_flags(structure))
    again = ng.tree.structure(tree)
    assert again == structure and hash(again) == hash(structure)
    assert len(set(ng.tree.paths(structure, "x"))) == len(leaves)


@given(trees())
def test_map_is_map_of_the_leaves(tree):
    leaves, seen = ng.tree.leaves(tree), []
    numbered = ng.tree.map(lambda x: seen.append(x) or np.array(len(seen)), tree)
    assert len(seen) == len(leaves) and all(a is b for a, b in zip(seen, leaves))
    assert ng.tree.leaves(numbered) == list(range(1, len(leaves) + 1))
    assert ng.tree.structure(numbered) == ng.tree.structure(tree)
    pairs = []
    ng.tree.map(lambda x, n: pairs.append((x, n)) or A, tree, numbered)
    assert [int(n) for _, n in pairs] == list(range(1, len(leaves) + 1)) and all(a is b for (a, _), b in zip(pairs, leaves))


def test_the_order_of_leaves():
    tree = {"b": [1, (2, 3)], "a": Pair(4, {"z": 5, "y": 6}), "c": None}
    assert ng.tree.leaves(tree) == [4, 6, 5, 1, 2, 3, None]
    assert ng.tree.paths(ng.tree.structure(tree)) == ["a.first", "a.second.y", "a.second.z", "b.0", "b.1.0", "b.1.1", "c"]
    assert ng.tree.paths(ng.tree.structure(3), "x") == ["x"]
    assert ng.tree.leaves({"b": 1, "a": 2}) == ng.tree.leaves({"a": 2, "b": 1})


def test_empty_containers_have_no_leaves_and_come_back():
    for tree in ([], (), {}, [[], ({},)], {"a": []}):
        assert ng.tree.leaves(tree) == []
        assert ng.tree.unflatten(ng.tree.structure(tree), []) == tree


def test_none_is_a_leaf():
    assert ng.tree.leaves([None, 1]) == [None, 1]
    assert ng.tree.map(lambda x: 0 if x is None else x, {"a": None, "b": 2}) == {"a": 0, "b": 2}


def test_dataclasses_hold_arrays_as_children_and_the_rest_as_structure():
    layer = Layer(A, None, "one", (3, 4), inner=Layer([A, {"x": A}]))
    leaves, structure = ng.tree.flatten(layer)
    assert len(leaves) == 6 and leaves[0] is A
    assert ng.tree.paths(structure) == ["w", "b", "inner.w.0", "inner.w.1.x", "inner.b", "inner.inner"]
    assert ng.tree.unflatten(structure, leaves).name == "one"
    for other in (Layer(A, None, "two", (3, 4)), Layer(A, None, "one", (3, 5)), Layer(A, None, "one", (3, True))):
        assert ng.tree.structure(other) != ng.tree.structure(Layer(A, None, "one", (3, 4)))
    assert ng.tree.structure(dataclasses.replace(layer, w=A + 1)) == structure


def test_static_values_compare_by_type_too():
    assert ng.tree.structure(Layer(A, sizes=1)) != ng.tree.structure(Layer(A, sizes=True))
    assert ng.tree.structure(Layer(A, sizes=1)) != ng.tree.structure(Layer(A, sizes=1.0))
    assert ng.tree.structure(Layer(A, sizes=(1, (0,)))) != ng.tree.structure(Layer(A, sizes=(1, (False,))))
    assert ng.tree.structure(Layer(A, sizes=0.0)) != ng.tree.structure(Layer(A, sizes=-0.0))
    assert ng.tree.structure(Layer(A, sizes=float("nan"))) == ng.tree.structure(Layer(A, sizes=float("nan")))


def test_modules_and_buffers():
    model = Model([Layer(A), Layer(A)], A)
    structure = ng.tree.structure(model)
    flags = dict(zip(ng.tree.paths(structure), ng.tree.buffer_flags(structure)))
    assert flags["seen"] and not flags["layers.0.w"]
    doubled = ng.tree.map(lambda x: None if x is None else x * 2, model)
    assert type(doubled) is Model and doubled.heads == 4
    np.testing.assert_array_equal(doubled.layers[1].w, A * 2)
    nested = ng.tree.structure({"m": Model([], {"mean": A, "var": A})})
    assert ng.tree.buffer_flags(nested) == [True, True]


def test_structures_that_differ():
    for a, b in (([1, 2], (1, 2)), ([1], [1, 2]), ({"a": 1}, {"b": 1}), (Pair(1, 2), (1, 2)), ([1], [[1]]), ({"a": {}}, {"a": []})):
        assert ng.tree.structure(a) != ng.tree.structure(b)
        with pytest.raises(TreeError, match="differ in structure"):
            ng.tree.map(lambda x, y: x, a, b)


def test_errors():
    with pytest.raises(TreeError, match=r"structure list\(0: \*, 1: \*\) has 2 leaves, got 3"):
        ng.tree.unflatten(ng.tree.structure([1, 2]), [1, 2, 3])
    with pytest.raises(TreeError, match="dict keys must be sortable"):
        ng.tree.leaves({1: 2, "a": 3})
    with pytest.raises(TreeError, match=r"Layer\.sizes holds no array, so it must be hashable; got \[1\]: use a tuple"):
        ng.tree.leaves(Layer(A, sizes=[1]))


def test_other_mappings_are_leaves_that_jit_refuses_by_name():
    tree = OrderedDict(a=A)
    assert ng.tree.leaves(tree) == [tree]
    with pytest.raises(ng.errors.SignatureError, match="argument x: OrderedDict is no array"):
        ng.jit(lambda x: x)(tree)


def test_is_array():
    for x in (A, np.float32(1), ng.spec((2,)), ng.trace(lambda x: x, A).inputs[0]):
        assert ng.tree.is_array(x)
    for x in (1, 1.0, None, [A], "a", np.float32):
        assert not ng.tree.is_array(x)
