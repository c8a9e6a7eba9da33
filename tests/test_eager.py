"""Outside of traces every transform computes what its function says now, whatever that reads and however it was changed."""

from __future__ import annotations

import contextvars
import functools
import os
import threading
import types

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LabelError
from nagraph.transforms import eager

X = np.linspace(-1, 1, 40)
OLD, NEW = np.linspace(1, 2, 40), np.cos(np.arange(40.0))

# -- what a function reads: (a function that reads it, a function that changes it) -------------------------------------------------------

factor = OLD.copy()
table = {"x": OLD.copy(), "deep": [OLD.copy()]}
context = contextvars.ContextVar("context", default=OLD)


def helper():
    return inner_helper() * 1.0


def inner_helper():
    return factor


def a_global_of_a_helper():
    def change():
        global factor
        factor = NEW.copy()

    def back():
        global factor
        factor = OLD.copy()

    back()
    return helper, change


def a_closure():
    now = OLD

    def change():
        nonlocal now
        now = NEW

    return lambda: now, change


def an_attribute():
    config = types.SimpleNamespace(x=OLD)
    return lambda: config.x, lambda: setattr(config, "x", NEW)


def a_number():
    config = types.SimpleNamespace(x=2.0)
    return lambda: OLD * config.x, lambda: setattr(config, "x", 3.0)


def an_integer_that_is_equal():
    config = types.SimpleNamespace(x=True)
    return lambda: OLD * (2 if config.x is True else 3), lambda: setattr(config, "x", 1)


def an_entry():
    table["x"] = OLD
    return lambda: table["x"], lambda: table.update(x=NEW)


def an_entry_of_a_list_in_a_dict():
    table["deep"][0] = OLD
    return lambda: table["deep"][0], lambda: table["deep"].__setitem__(0, NEW)


def a_module():
    module = types.ModuleType("settings")
    module.x = OLD
    return lambda: module.x, lambda: setattr(module, "x", NEW)


def a_property():
    class Holder:
        kept = OLD

        @property
        def x(self):
            return self.kept * 1

    holder = Holder()
    return lambda: holder.x, lambda: setattr(Holder, "kept", NEW)


def a_large_array_in_place():
    a = OLD.copy()
    return lambda: a, lambda: np.copyto(a, NEW)


def a_part_of_an_array_in_place():
    a = OLD.copy()
    return lambda: a[::-1], lambda: np.copyto(a[3:5], 7)


def a_small_array_in_place():
    a = np.array([1.0, 2.0])
    return lambda: np.repeat(a, 20), lambda: np.copyto(a, [3, 4])


def one_element_in_place():
    a = np.array(1.5)
    return lambda: OLD * a, lambda: np.copyto(a, 3)


def a_default():
    def read(x=OLD):
        return x

    return read, lambda: setattr(read, "__defaults__", (NEW,))


def a_keyword_default():
    def read(*, x=OLD):
        return x

    return read, lambda: read.__kwdefaults__.update(x=NEW)


def code():
    def read():
        return OLD

    def other():
        return NEW

    return read, lambda: setattr(read, "__code__", other.__code__)


def a_context():
    context.set(OLD)
    return context.get, lambda: context.set(NEW)


def a_partial():
    a = OLD.copy()
    return functools.partial(lambda a: a, a), lambda: np.copyto(a, NEW)


def an_object_that_is_called():
    class Callable:
        def __call__(self):
            return self.x

    found = Callable()
    found.x = OLD
    return found, lambda: setattr(found, "x", NEW)


def the_environment():
    os.environ["NAGRAPH_TEST_FACTOR"] = "2"
    return lambda: OLD * float(os.environ["NAGRAPH_TEST_FACTOR"]), lambda: os.environ.update(NAGRAPH_TEST_FACTOR="3")


def cells():
    """Of a notebook: a helper is defined again, which the function names."""
    space = {"np": np, "OLD": OLD, "NEW": NEW}
    exec("def part(): return OLD\ndef read(): return part()", space)
    return space["read"], lambda: exec("def part(): return NEW", space)


def cells_with_an_array():
    space = {"np": np, "a": OLD.copy(), "NEW": NEW}
    exec("def part(): return a\ndef read(): return part() * 1", space)
    return space["read"], lambda: exec("a *= NEW", space)


def cells_with_a_number():
    space = {"OLD": OLD, "rate": 0.5}
    exec("def read(): return OLD * rate", space)
    return space["read"], lambda: exec("rate = 0.25", space)


SOURCES = [a_global_of_a_helper, a_closure, an_attribute, a_number, an_integer_that_is_equal, an_entry, an_entry_of_a_list_in_a_dict,
           a_module, a_property, a_large_array_in_place, a_part_of_an_array_in_place, a_small_array_in_place, one_element_in_place,
           a_default, a_keyword_default, code, a_context, a_partial, an_object_that_is_called, the_environment, cells,
           cells_with_an_array, cells_with_a_number]


# -- what is made of it: once, and then called; f has one array and gives a number --------------------------------------------------------


def with_vjp_of_its_own(f):
    g = ng.custom_vjp(f)
    g.defvjp(lambda x: (f(x), x), lambda x, ct: (ng.grad(f)(x) * ct,))
    return g


WAYS = {
    "grad": ng.grad,
    "value_and_grad": ng.value_and_grad,
    "grad with aux": lambda f: ng.grad(lambda x: (f(x), {"f": f(2 * x)}), has_aux=True),
    "vjp": lambda f: lambda x: ng.vjp(f, x)[1](1.5)[0],
    "value of vjp": lambda f: lambda x: ng.vjp(f, x)[0],
    "jvp": lambda f: lambda x: ng.jvp(f, (x,), (x + 1,)),
    "hvp": lambda f: lambda x: ng.hvp(f, x, x + 1),
    "vmap": lambda f: lambda x, g=ng.vmap(f): g(np.stack([x, x + 1])),
    "vmap of grad": lambda f: lambda x, g=ng.vmap(ng.grad(f), in_axes=1): g(np.stack([x, x + 1], 1)),
    "jacobian": lambda f: lambda x, g=ng.jacobian(lambda x: f(x) * x[:3]): g(x),
    "hessian": ng.hessian,
    "grad of grad": lambda f: ng.grad(lambda x: (ng.grad(f)(x) ** 2).sum()),
    "checkpoint": ng.checkpoint,
    "grad of checkpoint": lambda f: ng.grad(ng.checkpoint(f)),
    "composite": ng.composite,
    "custom_vjp": with_vjp_of_its_own,
    "scan": lambda f: lambda x: ng.scan(lambda c, v: (c + f(v), f(v)), 0.0, np.stack([x, x + 1])),
    "scan that carries": lambda f: lambda x: ng.scan(lambda c, _: (c * 0.5 + f(c), None), x, length=3)[0],
    "cond": lambda f: lambda x: ng.cond(True, f, lambda x: x.sum(), x),
    "cond, the other side": lambda f: lambda x: ng.cond(False, lambda x: x.sum(), f, x),
    "while_loop": lambda f: lambda x: ng.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] + f(x)), (0, 0.0))[1],
    "condition of while_loop": lambda f: lambda x: ng.while_loop(lambda s: s < f(x), lambda s: s + 0.01, 0.0),
}


@pytest.mark.parametrize("source", SOURCES, ids=lambda s: s.__name__)
@pytest.mark.parametrize("way", WAYS)
def test_what_a_function_reads_is_read_at_every_call(way, source):
    read, change = source()

    def fn(read):
        return lambda x: (np.tanh(x) * read() * x).sum()

    def fresh():
        values = read().copy()
        return ng.tree.leaves(WAYS[way](fn(lambda: values))(X))

    made = WAYS[way](fn(read))
    first = fresh()
    for _ in range(2):
        np.testing.assert_array_equal(ng.tree.leaves(made(X))[0], first[0])
    change()
    second = fresh()
    assert not np.array_equal(first[0], second[0])
    for found, expected in zip(ng.tree.leaves(made(X)), second, strict=True):
        np.testing.assert_array_equal(found, expected)


def kept() -> int:
    return len(eager.KEPT.entries)


def test_other_numbers_in_large_arrays_compile_nothing():
    a, b = OLD.copy(), np.arange(400.0).reshape(20, 20)
    config = types.SimpleNamespace(a=a)

    def defined():
        def f(x):
            return (np.sin(x * config.a) * 7).sum() + ng.scan(lambda c, _: (c + (b * c[:20]).sum(), None), x, length=2)[0].sum()

        return ng.grad(f)

    gradient = defined()
    gradient(X)
    count = kept()
    for n in range(3):
        a += n
        np.multiply(b, 0.5, out=b)
        config.a = a + 1
        np.testing.assert_array_equal(gradient(X), defined()(X))
    assert kept() == count, "a function that is defined again has the same graph, and other arrays are other operands"


def test_another_key_of_random_numbers_compiles_nothing():
    count = 0
    for n in range(5):
        key = ng.random.key(n)
        found = ng.grad(lambda x: (x * ng.random.normal(key, (40,), np.float64)).sum())(X)  # noqa: B023
        np.testing.assert_allclose(found, ng.random.normal(key, (40,), np.float64), rtol=1e-12)
        count = count if n else kept()
        assert kept() == count


def test_what_is_kept_is_bounded_in_bytes(monkeypatch):
    monkeypatch.setattr(eager, "MOST_NBYTES", 1 << 20)
    x = np.ones((256, 256))
    for n in range(3, 8):
        np.testing.assert_allclose(ng.grad(lambda x: (np.sort(x * n, 0) @ x).sum())(x)[0, 0], n * 512)  # noqa: B023
        assert kept() < 4 or sum(e.executable.arena_nbytes for e in eager.KEPT.entries.values()) <= 1 << 20


def test_an_array_that_the_function_changes_itself():
    """Captured, changed, captured again: each use has what the array held then, on every call."""
    a = np.ones(40)

    def f(x):
        y = (x * a).sum()
        np.add(a, 1, out=a)
        return y + 10 * (x * a).sum()

    gradient = ng.grad(f)
    for n in range(1, 4):
        np.testing.assert_array_equal(gradient(X), np.full(40, n + 10.0 * (n + 1)))


def test_the_pullback_is_of_the_function_and_arguments_as_they_were():
    a, x = OLD.copy(), X.copy()
    config = types.SimpleNamespace(scale=2.0)

    def f(x):
        return (np.sin(x) * a * config.scale).sum()

    expected = np.cos(x) * a * config.scale
    value, pull = ng.vjp(f, x)
    held = value.copy()
    a[:], config.scale, x[:] = 0, 5.0, 9
    np.testing.assert_allclose(pull(1.0)[0], expected, rtol=1e-12)
    np.testing.assert_allclose(ng.jit(lambda ct: pull(ct)[0])(3.0), 3 * expected, rtol=1e-12)
    np.testing.assert_array_equal(value, held)


def test_the_kept_executables_are_the_last_used(monkeypatch):
    monkeypatch.setattr(eager, "MOST", 4)
    functions = [ng.grad(lambda x, n=n: (x ** n).sum()) for n in range(3, 9)]
    for f in functions:
        f(X)
        functions[0](X)
        assert kept() <= 4
    entry = next(reversed(eager.KEPT.entries.values()))
    functions[0](X)
    assert next(reversed(eager.KEPT.entries.values())) is entry, "it was used all the time, so it is there still"
    for n, f in enumerate(functions, 3):
        np.testing.assert_allclose(f(X), n * X ** (n - 1), rtol=1e-12)


def test_threads_have_their_own_values():
    wrong = []

    def work(k):
        config = types.SimpleNamespace(a=np.full(40, float(k)))
        gradient = ng.grad(lambda x: (x * config.a * k).sum())
        for n in range(30):
            config.a = np.full(40, float(k + n))
            if not np.array_equal(gradient(X), config.a * k):
                wrong.append((k, n))

    crew = [threading.Thread(target=work, args=(k,)) for k in range(1, 5)]
    for t in crew:
        t.start()
    for t in crew:
        t.join()
    assert not wrong


def test_choices_are_part_of_the_key():
    gradient = ng.grad(lambda x: (np.exp(x) * 3).sum())
    gradient(X)
    count = kept()
    with ng.choices.using("forbid=fuse"):
        gradient(X)
    assert kept() == count + 1


def test_an_error_names_the_line_of_the_function_that_was_called():
    """Though the executable was compiled for another function of the same graph."""
    x, good, bad = np.zeros((3, 5), np.float32), np.zeros(3, int), np.array([0, 5, 0])

    def one(x, labels):
        return ng.nn.losses.cross_entropy(x, labels)

    def two(x, labels):
        return ng.nn.losses.cross_entropy(x, labels)

    for f in (one, two, one):
        ng.grad(f)(x, good)
        with pytest.raises(LabelError, match=rf"test_eager.py:{f.__code__.co_firstlineno + 1}\)"):
            ng.grad(f)(x, bad)


def test_python_numbers_and_arrays_of_one_value_are_told_apart():
    f = ng.grad(lambda x, k: (x * k).sum())
    assert f(np.ones(2, np.float32), 2.0).dtype == np.float32
    assert ng.vmap(lambda x, k: x * k, in_axes=(0, None))(np.ones(2, np.float32), 2.0).dtype == np.float32
    assert ng.vmap(lambda x, k: x * k, in_axes=(0, None))(np.ones(2, np.float32), np.float64(2.0)).dtype == np.float64


def test_results_that_are_no_arrays_of_the_graph():
    """Constants, None, and what the function returns of its own."""
    found = ng.grad(lambda x: (x.sum(), {"n": 3, "none": None, "a": OLD}), has_aux=True)(X)
    assert found[1]["n"] == 3 and found[1]["none"] is None
    np.testing.assert_array_equal(found[1]["a"], OLD)
