"""ng.debug.print: each time, in order, as it stands; what goes wrong there is not lost."""

import contextlib
import io

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import SignatureError
from nagraph.ops.identities import DebugPrint
from tests.support import CPU_BACKENDS

backends = pytest.mark.parametrize("backend", CPU_BACKENDS)


@backends
def test_it_prints_each_time_and_keeps_its_order(backend, capsys):
    def f(x):
        y = ng.debug.print("x is {}", x)
        ng.debug.print("unused {}", y * 2)
        return y + 1

    g = ng.jit(f, backend=backend)
    g(np.array(1.0))
    g(np.array(2.0))
    assert capsys.readouterr().out == "x is 1.0\nunused 2.0\nx is 2.0\nunused 4.0\n"
    assert ng.grad(f)(3.0) == 1.0
    assert "x is 3.0" in capsys.readouterr().out
    assert f(5.0) == 6.0
    assert capsys.readouterr().out == "x is 5.0\nunused 10.0\n"


@backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.int32, np.uint8, bool])
def test_it_shows_views_and_every_dtype(backend, dtype, capsys):
    x = (np.arange(6) % 3).reshape(2, 3).astype(dtype)
    ng.jit(lambda x: ng.debug.print("{}", x.T[::-1]), backend=backend)(x)
    ng.jit(lambda x: ng.debug.print("{} {}", x[:0]), backend=backend)(x)
    assert capsys.readouterr().out == f"{x.T[::-1]}\n[] []\n"


@backends
def test_in_bodies_of_loops_and_branches(backend, capsys):
    def step(c, x):
        c = ng.debug.print("carry {}", c + x)
        c = ng.cond(c[0] > 1, lambda c: ng.debug.print("large {}", c), lambda c: ng.debug.print("small {}", c), c)
        return c, ng.debug.print("turned {}", c[::-1])

    def f(c, xs):
        c, ys = ng.scan(step, c, xs)
        n = ng.while_loop(lambda n: ng.debug.print("asked {}", n) < 2, lambda n: ng.debug.print("done {}", n + 1), np.int64(0))
        return c, ys, n

    c, ys, n = ng.jit(f, backend=backend)(np.array([0, 5]), np.arange(3))
    assert capsys.readouterr().out.splitlines() == [
        "carry [0 5]", "small [0 5]", "turned [5 0]", "carry [1 6]", "small [1 6]", "turned [6 1]",
        "carry [3 8]", "large [3 8]", "turned [8 3]", "asked 0", "done 1", "asked 1", "done 2", "asked 2"]
    assert c.tolist() == [3, 8] and ys.tolist() == [[5, 0], [6, 1], [8, 3]] and n == 2


@backends
def test_loops_that_print_keep_their_order_and_number(backend, capsys):
    """Equal ones are not one, those without a use stay, and none overtakes another."""
    def loop(text, x):
        return ng.scan(lambda c, t: (ng.debug.print(text, c) + t, None), x, np.arange(2))[0]

    def f(x):
        loop("a {}", x)
        loop("b {}", x + 5)
        y = loop("a {}", x)
        loop("c {}", y[:1])
        ng.debug.print("end {}", y)
        return y

    ng.jit(f, backend=backend)(np.zeros(2, np.int64))
    assert capsys.readouterr().out.splitlines() == [
        "a [0 0]", "a [0 0]", "b [5 5]", "b [5 5]", "a [0 0]", "a [0 0]", "c [1]", "c [1]", "end [1 1]"]


@backends
def test_a_loop_that_does_nothing_but_print(backend, capsys):
    def f(x, w):
        y = x @ w

        def body(carry, row):
            ng.debug.print("row {}", row.sum())
            return carry, None

        ng.scan(body, (), y)
        return y * 2

    x, w = np.arange(6.0).reshape(2, 3), np.ones((3, 4))
    np.testing.assert_array_equal(ng.jit(f, backend=backend)(x, w), x @ w * 2)
    assert capsys.readouterr().out == "row 12.0\nrow 48.0\n"


@backends
def test_a_region_does_not_close_around_the_order_of_prints(backend, capsys):
    """One kernel for n and its product would have to run before the first print and after the second."""
    def f(x, y):
        n = np.exp(x)
        ng.debug.print("{}", n[0])
        return n * ng.debug.print("{}", y)[:, None]

    x = np.zeros((400, 400))
    found = ng.jit(f, backend=backend)(x, np.arange(400.0))
    assert capsys.readouterr().out == f"{np.ones(400)}\n{np.arange(400.0)}\n"
    np.testing.assert_array_equal(found, np.ones((400, 400)) * np.arange(400.0)[:, None])


@backends
def test_what_printing_raises_comes_out_of_the_call(backend, capsys):
    """Donated arrays are as they were, and the next call is as ever."""
    class Closed(io.StringIO):
        def write(self, text):
            raise ValueError("closed")

    @ng.jit(backend=backend, donate_argnames=("x",))
    def f(x):
        return ng.scan(lambda c, _: (ng.debug.print("{}", c + 1), None), x, None, length=3)[0]

    x = np.zeros(2, np.int64)
    for _ in range(3):
        with contextlib.redirect_stdout(Closed()), pytest.raises(ValueError, match="closed"):
            f(x)
        assert x.tolist() == [0, 0]
    assert f(x) is x and x.tolist() == [3, 3]
    assert capsys.readouterr().out == "[1 1]\n[2 2]\n[3 3]\n"


@pytest.mark.parametrize("given", [("loss",), (np.ones(2),), (np.ones(2), "loss {}")], ids=["text", "value", "exchanged"])
def test_a_text_and_a_value_are_wanted(given):
    for call in (lambda x: ng.debug.print(*given), ng.jit(lambda x: (ng.debug.print(*given), x)[1])):
        with pytest.raises(SignatureError, match="debug.print takes a text and the value for its {}, as in"):
            call(np.ones(2))


def test_what_it_shows_is_a_copy(monkeypatch):
    """Whoever keeps it sees it as it was."""
    kept = []
    monkeypatch.setattr(DebugPrint, "reference", lambda self, x: (kept.append(x), x)[1])
    f = ng.jit(lambda x: ng.scan(lambda c, _: (ng.debug.print("", c * 2), None), x, None, length=4)[0], backend="llvm")
    f(np.ones(2))
    f(np.ones(2))
    assert [x[0] for x in kept] == [2.0, 4.0, 8.0, 16.0] * 2
