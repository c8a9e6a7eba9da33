"""Calls like one before: the fast path gives what the full one gives, and is left where anything differs."""

import gc
import sys
import threading
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nagraph as ng
from nagraph import arrays as arrays_of_kinds
from nagraph import sanitizing, tree
from nagraph.compiler.flattening import taker
from nagraph.errors import SignatureError, TreeError
from tests.support import CPU_BACKENDS, call_counts


class Pair(NamedTuple):
    left: Any
    right: Any


@dataclass
class Layer(ng.nn.Module):
    weight: Any
    bias: Any
    scale: float = 0.5
    name: str = "layer"


@dataclass(frozen=True, slots=True)
class Slotted:
    x: Any
    y: Any
    kind: str = "slotted"


@dataclass
class Setter:
    """A field that the class handles itself."""

    x: Any
    n: int = field(default=3)

    @property
    def y(self):
        return self.x


def arrays(draw, shapes=((), (3,), (2, 3))):
    return np.full(draw(st.sampled_from(shapes)), draw(st.integers(-5, 5)), draw(st.sampled_from(["f4", "f8"])))


def is_tree(x):
    """A dataclass may not hold a list of no arrays, such as [()]."""
    try:
        tree.flatten(x)
    except TreeError:
        return False
    return True


def trees(depth=3):
    return some(depth).filter(is_tree)


@st.composite
def some(draw, depth):
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        return None if draw(st.integers(0, 5)) == 0 else arrays(draw)
    kind = draw(st.sampled_from(["dict", "list", "tuple", "pair", "layer", "slotted", "setter"]))
    part = some(depth - 1)
    match kind:
        case "dict":
            return {k: draw(part) for k in draw(st.lists(st.sampled_from("abcd"), unique=True, max_size=3))}
        case "list" | "tuple":
            return {"list": list, "tuple": tuple}[kind](draw(st.lists(part, max_size=3)))
        case "pair":
            return Pair(draw(part), draw(part))
        case "layer":
            scale, name = draw(st.sampled_from([0.5, -0.0, 0.0, float("nan")])), draw(st.sampled_from(["layer", "b"]))
            return Layer(draw(part), draw(part), scale, name)
        case "slotted":
            return Slotted(draw(part), draw(part))
        case _:
            return Setter(draw(part), draw(st.sampled_from([1, True, 3])))


def nones(leaves):
    return iter([x is None for x in leaves])


@given(trees())
def test_a_tree_is_taken_apart_and_put_together(t):
    leaves, structure = tree.flatten(t)
    found = []
    assert taker(structure, nones(leaves))(t, found)
    kept = [x for x in leaves if x is not None]
    assert len(found) == len(kept) and all(a is b for a, b in zip(found, kept))
    again, same = tree.flatten(tree.unflatten(structure, leaves))
    assert same == structure and all(a is b for a, b in zip(again, leaves, strict=True))


@given(trees(), trees())
def test_a_tree_of_another_structure_is_refused(t, other):
    """Or its leaves are no arrays, which is looked at afterwards."""
    leaves, structure = tree.flatten(t)
    found: list[Any] = []
    taken = taker(structure, nones(leaves))(other, found)
    other_leaves, other_structure = tree.flatten(other)
    arrays_alone = taken and all(isinstance(x, np.ndarray) for x in found)
    assert arrays_alone == (structure == other_structure and list(nones(leaves)) == list(nones(other_leaves)))
    if arrays_alone:
        assert all(a is b for a, b in zip(found, [x for x in other_leaves if x is not None], strict=True))


class Odd(np.ndarray):
    """A subclass of arrays."""


CHANGES = {
    "nothing": lambda a: a, "dtype": lambda a: a.astype("i4"), "swapped": lambda a: a.astype(a.dtype.newbyteorder()),
    "shape": lambda a: np.stack([a, a]), "strided": lambda a: np.repeat(a[..., None], 2, -1)[..., 0], "order": np.asfortranarray,
    "read-only": lambda a: np.frombuffer(a.tobytes(), a.dtype).reshape(a.shape), "subclass": lambda a: a.view(Odd),
    "scalar": lambda a: 2.0, "generic": lambda a: np.float32(1.5), "none": lambda a: None, "view": lambda a: a[...],
    "unaligned": lambda a: np.frombuffer(b"x" + a.tobytes(), a.dtype, offset=1).reshape(a.shape),
}


@pytest.mark.parametrize("backend", CPU_BACKENDS)
@settings(deadline=None, max_examples=60)
@given(data=st.data(), donate=st.booleans())
def test_a_call_that_differs_in_one_leaf_is_not_taken_for_one_before(backend, data, donate):
    t = data.draw(trees(2))

    def f(t, x):
        return tree.map(lambda v: None if v is None else v * 2 + 1, t), x

    jitted = ng.jit(f, backend=backend, donate_argnames="t" if donate else ())
    x = np.arange(3.0)
    for _ in range(3):
        leaves, structure = tree.flatten(t)
        changed = list(leaves)
        if any(a is not None for a in leaves):
            at = data.draw(st.sampled_from([i for i, a in enumerate(leaves) if a is not None]))
            changed[at] = CHANGES[data.draw(st.sampled_from(sorted(CHANGES)))](leaves[at])
        other = tree.unflatten(structure, changed)
        if not is_tree(other):  # a field that has no array now is static, and a dict is not
            continue
        wanted, _ = f(other, x)
        found, same = jitted(other, x)
        np.testing.assert_array_equal(same, x)
        assert tree.structure(found) == tree.structure(wanted)
        for a, b in zip(tree.leaves(found), tree.leaves(wanted), strict=True):
            assert a is b is None or type(a) is np.ndarray
            if a is not None:
                np.testing.assert_allclose(a, b, rtol=1e-6)
        for a, b in zip(leaves, tree.leaves(t)):
            assert a is b
        t = tree.map(lambda a: None if a is None else np.array(a), t)


# -- the fast path is gone -----------------------------------------------------------------------------


def long_ways(jitted, monkeypatch):
    """Counts the calls that were taken apart in full."""
    count = []
    bind = type(jitted)._bind
    monkeypatch.setattr(type(jitted), "_bind", lambda self, *a: (count.append(1), bind(self, *a))[1])
    return count


def test_steps_of_training_go_the_short_way_and_update_in_place(monkeypatch):
    def step(params, state, x):
        params = tree.map(lambda p, m: p - m * x.sum(), params, state["m"])
        return params, {"m": tree.map(lambda m: m * 2, state["m"]), "none": None}

    jitted = ng.jit(step, donate_argnames=("params", "state"))
    params = {"a": np.ones((2, 3)), "b": Layer(np.ones(3), None)}
    state = {"m": tree.map(lambda p: None if p is None else np.full_like(p, 0.5), params), "none": None}
    x = np.ones(4)
    params, state = {"a": params["a"], "b": Layer(params["b"].weight, np.ones(2))}, state
    state["m"] = tree.map(lambda p: np.full_like(p, 0.5), params)
    jitted(tree.map(np.copy, params), tree.map(lambda a: None if a is None else a.copy(), state), x)
    count = long_ways(jitted, monkeypatch)
    places = [a.ctypes.data for a in tree.leaves((params, state["m"]))]
    for _ in range(3):
        params, state = jitted(params, state, x)
    assert not count and jitted.cache_info().hits == 3 and state["none"] is None
    assert [a.ctypes.data for a in tree.leaves((params, state["m"]))] == places, "each array in its own place"
    np.testing.assert_array_equal(params["b"].bias, np.full(2, 1 - 4 * (0.5 + 1 + 2)))
    assert params["b"].scale == 0.5 and type(params["b"]) is Layer


def test_batches_that_are_slices_go_the_short_way_unless_they_show_what_is_written(monkeypatch):
    jitted = ng.jit(lambda params, x, y: tree.map(lambda p: p + x.sum() - y.sum(), params), donate_argnames="params")
    data = np.arange(40.0).reshape(10, 4)
    params = {"a": np.ones(8), "b": np.ones((3, 4))}
    params = jitted(params, data[:2], data[1:3])
    count = long_ways(jitted, monkeypatch)
    place = params["a"].ctypes.data
    for i in range(3):
        wanted = tree.map(lambda p: p + data[i:i + 2].sum() - data[1:3].sum(), params)  # noqa: B023
        params = jitted(params, data[i:i + 2], data[1:3])
        tree.map(np.testing.assert_array_equal, params, wanted)
    assert not count and params["a"].ctypes.data == place, "slices that meet one another do no harm"
    shown, kept = params["b"][:2], params["b"].copy()
    whole = params["b"][...]
    wanted = tree.map(lambda p: p + shown.sum() - whole[:2].sum(), params)
    found = jitted(params, shown, whole[:2])
    tree.map(np.testing.assert_array_equal, found, wanted)
    assert len(count) == 1
    np.testing.assert_array_equal(params["b"], kept)


def test_outputs_in_another_order_take_the_inputs_of_their_places():
    jitted = ng.jit(lambda p, s: ({"b": s["b"] + 1, "a": s["a"] + 2}, {"a": p["a"] * 2, "b": p["b"] * 3}), donate_argnames=("s", "p"))
    p, s = ({"a": np.full(3, 1.0 + n), "b": np.full(3, 2.0 + n)} for n in (0, 10))
    first = {id(p["a"]): "p.a", id(p["b"]): "p.b", id(s["a"]): "s.a", id(s["b"]): "s.b"}
    found = jitted(p, s)
    assert {first[id(x)][2:] for x in (found[0]["a"], found[1]["a"])} == {"a"}
    assert {first[id(x)][2:] for x in (found[0]["b"], found[1]["b"])} == {"b"}
    np.testing.assert_array_equal([found[0]["a"][0], found[0]["b"][0], found[1]["a"][0], found[1]["b"][0]], [13, 13, 2, 6])


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_donated_arrays_that_overlap_or_can_not_be_written_are_not_harmed(backend):
    jitted = ng.jit(lambda a, b: (a + b, b * 2), backend=backend, donate_argnames=("a", "b"))
    for _ in range(2):
        jitted(np.ones(4), np.ones(4))
    a = np.arange(4.0)
    found = jitted(a, a)
    np.testing.assert_array_equal(found[0], [0, 2, 4, 6])
    np.testing.assert_array_equal(found[1], [0, 2, 4, 6])
    base = np.arange(5.0)
    found = jitted(base[:4], base[1:])
    np.testing.assert_array_equal(found[0], [1, 3, 5, 7])
    np.testing.assert_array_equal(base, np.arange(5.0))
    fixed = np.ones(4)
    fixed.flags.writeable = False
    jitted(fixed, np.ones(4))
    assert fixed.tolist() == [1] * 4


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_static_values_keywords_and_defaults(backend, monkeypatch):
    jitted = ng.jit(lambda x, n=1, *rest, flag=False, **more: sum(rest, x * n) + (100 if flag else 0) + sum(more.values()),
                    backend=backend, static_argnames=("n", "flag"))
    x = np.ones(3)
    calls = [((x,), {}, 1), ((x, 2), {}, 2), ((x, True), {}, 1), ((x, 2.0), {}, 2), ((x,), {"flag": True}, 101), ((x, 2, x, x), {}, 4),
             ((), {"x": x, "n": 3}, 3), ((), {"n": 3, "x": x}, 3), ((x,), {"b": x, "a": x}, 3), ((x, 2), {"flag": 1}, 102)]
    for _ in range(2):
        for args, kwargs, wanted in calls:
            assert jitted(*args, **kwargs).tolist() == [wanted] * 3
    misses = jitted.cache_info().misses
    count = long_ways(jitted, monkeypatch)
    for args, kwargs, wanted in calls[-3:] * 2:
        assert jitted(*args, **kwargs).tolist() == [wanted] * 3
    assert jitted.cache_info().misses == misses and not count


@dataclass(unsafe_hash=True)
class Setting:
    n: int


def test_a_static_object_that_changes_is_another_value():
    setting = Setting(2)
    jitted = ng.jit(lambda x, s, layer: x * s.n + layer.scale.n, static_argnames="s")
    layer = Layer(np.ones(2), np.ones(2), Setting(1))
    for n in (2, 2, 5, 5, 2):
        setting.n = n
        assert jitted(np.ones(3), setting, layer).tolist() == [n + 1] * 3
    for n in (1, 7, 7):
        layer.scale.n = n
        assert jitted(np.ones(3), setting, layer).tolist() == [2 + n] * 3


def counted(run):
    """Calls of Python functions and of C functions in one run, and the blocks of memory that its result takes."""
    run(), run()
    counts = call_counts(run)
    gc.collect()
    gc.disable()
    try:
        kept, begin = [None] * 100, sys.getallocatedblocks()
        for i in range(100):
            kept[i] = run()
        blocks = sys.getallocatedblocks() - begin
    finally:
        gc.enable()
    return *counts, blocks / 100


X8 = np.ones(8, np.float32)
#: A hot call, its arguments, and the most calls of Python's and of C's functions and blocks of memory; these of a run include its lambda.
HOT = {
    "arrays": (lambda a, b: a + b, (X8, X8), (), (19, 11, 1.5)),
    "a tree": (lambda t: {"y": t["a"] + t["b"][0]}, ({"a": X8, "b": [X8, None]},), (), (28, 20, 3.5)),
    "donated": (lambda s, x: s + x, (X8.copy(), X8), "s", (20, 12, 0.5)),
}


@pytest.mark.skipif(sanitizing.is_on(), reason="guarded calls copy")
@pytest.mark.parametrize("name", HOT)
def test_a_hot_call_asks_nobody_where_its_arrays_live(name, monkeypatch):
    function, args, donated, most = HOT[name]
    jitted = ng.jit(function, donate_argnames=donated)
    jitted(*args)
    for asked in ("kind_of", "is_elsewhere", "put", "gathered"):
        monkeypatch.setattr(arrays_of_kinds, asked, lambda *a: pytest.fail("it was asked"))
    assert all(found <= bound for found, bound in zip(counted(lambda: jitted(*args)), most, strict=True)), counted(lambda: jitted(*args))


def test_results_are_fresh_arrays():
    jitted = ng.jit(lambda x: {"y": x, "z": x * 2})
    x = np.ones(3)
    first = jitted(x)
    second = jitted(x)
    assert not np.shares_memory(first["y"], x) and not np.shares_memory(first["y"], second["y"])
    second["y"][:] = 7
    assert first["y"].tolist() == x.tolist() == [1] * 3


def test_several_threads_call_at_once():
    jitted = ng.jit(lambda t, x: {"s": t["a"] @ t["b"] + x})
    t = {"a": np.ones((40, 40)), "b": np.ones((40, 40))}
    jitted(t, np.zeros(40))
    wrong = []

    def work(n):
        x = np.full(40, float(n))
        for _ in range(200):
            if (jitted(t, x)["s"] != 40 + n).any():
                wrong.append(n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for th in threads:
        th.start()
    for th in threads:
        th.join()
    assert not wrong and jitted.cache_info().hits >= 795


# -- bind --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", CPU_BACKENDS)
def test_bound_arguments_are_taken_apart_once(backend, monkeypatch):
    jitted = ng.jit(lambda model, x, k=1: model["layer"].weight * x * model["layer"].scale + k, backend=backend)
    model = {"layer": Layer(np.ones(3), np.zeros(3)), "other": [np.ones(2), None]}
    bound = jitted.bind(model)
    x = np.full(3, 2.0)
    assert bound(x, np.ones(3)).tolist() == [2.0] * 3
    assert bound(x, k=np.ones(3)).tolist() == [2.0] * 3
    count = long_ways(jitted, monkeypatch)
    monkeypatch.setattr(tree, "_flatten", lambda *a: pytest.fail("taken apart"))
    bound(x, np.ones(3))
    model["layer"].weight[:] = 5  # written in place: seen
    assert bound(x, np.ones(3)).tolist() == [6.0] * 3
    model["layer"] = Layer(np.zeros(3), np.zeros(3), scale=9.0)  # replaced: not seen
    assert bound(x, np.ones(3)).tolist() == [6.0] * 3
    assert bound(x, k=np.ones(3)).tolist() == [6.0] * 3
    monkeypatch.undo()
    assert jitted(model, x, np.ones(3)).tolist() == [1.0] * 3
    assert bound(x, np.ones(3)).tolist() == [6.0] * 3
    assert bound(x.astype(np.float32), np.ones(3)).tolist() == [6.0] * 3
    assert not count


def test_bound_static_and_constant_arguments():
    jitted = ng.jit(lambda n, table, x: x * n + table["t"], static_argnames="n", constant_argnames="table")
    table = {"t": np.arange(3.0)}
    for _ in range(2):
        assert jitted.bind(2, table)(np.ones(3)).tolist() == [2, 3, 4]
        assert jitted.bind(3, table)(np.ones(3)).tolist() == [3, 4, 5]
    assert jitted.cache_info().misses == 2


def test_bound_arguments_can_not_be_donated():
    jitted = ng.jit(lambda state, x: state + x, donate_argnames="state")
    with pytest.raises(SignatureError, match="'state' is donated"):
        jitted.bind(np.ones(3))


def test_bind_inside_of_a_trace():
    inner = ng.jit(lambda w, x: w["w"] * x)
    assert ng.jit(lambda w, x: inner.bind({"w": w})(x) + 1)(np.full(3, 2.0), np.ones(3)).tolist() == [3.0] * 3
