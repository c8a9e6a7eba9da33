"""Errors of tracing: the message states the rule, the values, the line and the cure; tracebacks show the user's frames alone."""

import pathlib
import re
import subprocess
import sys
import traceback
from dataclasses import dataclass

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import LeakedTracerError, MissingRuleError, NagraphError, SignatureError, TracerError, TypeRuleError
from nagraph.ir.builder import active_stack
from nagraph.ir.location import is_internal
from nagraph.ops.base import Elementwise, Linear
from tests.support import caught

X = np.arange(6, dtype=np.float32).reshape(2, 3)
V = np.arange(3, dtype=np.float32)
S = np.float32(2)
N = np.array(1)
HERE = pathlib.Path(__file__).name


def if_(x):
    if x.sum() > 0:  # <-
        return x
    return -x


def while_(x):
    while x < 3:  # <-
        x = x + 1
    return x


def and_(x):
    return (x > 0) and (x < 1)  # <-


def assign(x):
    x[0] = 1  # <-
    return x


def assign_slice(x):
    x[:, 1:] += 1  # <-
    return x


def in_place(x):
    x += 1  # <-
    return x


def in_place_on_an_array(x):
    total = np.zeros(3, np.float32)
    total += x  # <-
    return total


def out(x):
    y = np.zeros(3, np.float32)
    np.exp(x, out=y)  # <-
    return y


def out_of_a_function(x):
    y = np.zeros((), np.float32)
    return np.sum(x, out=y)  # <-


def for_range(n):
    total = 0
    for i in range(n):  # <-
        total = total + i
    return total


def nested(x):
    def inner(y):
        return float(y)  # <-

    return inner(x * 2)


def under_grad(x):
    return ng.grad(lambda y: y * (1.0 if y > 0 else 2.0))(x)  # <-


CURES = {
    if_: (X, TracerError, ["truth", "`if`", "bool[]", "ng.where(", "ng.cond"]),
    while_: (S, TracerError, ["`while`", "ng.while_loop"]),
    and_: (S, TracerError, ["`and`", "ng.where"]),
    assign: (V, TracerError, ["assigned to in place", "f32[3]", "ng.numpy.set_at(x, index, value)"]),
    assign_slice: (X, TracerError, ["in place", "add_at"]),
    in_place: (V, TracerError, ["in-place operator", "f32[3]", "x = x + y"]),
    in_place_on_an_array: (V, TracerError, ["np.add", "in place", "x = x + y"]),
    out: (V, TracerError, ["np.exp", "out=", "in place", "use the returned value"]),
    out_of_a_function: (V, TracerError, ["np.sum", "out=", "use the returned value"]),
    for_range: (N, TracerError, ["range needs a number", "i64[]", "ng.scan"]),
    nested: (S, TracerError, ["float() needs a number", "return it"]),
    under_grad: (S, TracerError, ["truth", "ng.where"]),
}
W = np.ones((4, 3), np.float32)
LINES = [
    (lambda x: float(x), S, TracerError, ["float() needs a number", "f32[]"]),
    (lambda x: int(x), S, TracerError, ["int() needs a number", ".astype("]),
    (lambda x: bool(x), S, TracerError, ["truth", "ng.where"]),
    (lambda x: complex(x), S, TracerError, ["complex()"]),
    (lambda x: not x, S, TracerError, ["truth", "`not`", "ng.where"]),
    (lambda x: x in [1.0, 2.0], S, TracerError, ["truth", "ng.where"]),
    (lambda x: max(x, 0), S, TracerError, ["truth", "ng.where"]),
    (lambda x: x.item(), S, TracerError, [".item() needs a number", "return the value"]),
    (lambda x: x.tolist(), V, TracerError, [".tolist()", "return the value"]),
    (lambda n: [1, 2, 3][n], N, TracerError, ["index", "ng.numpy.take(array, index)"]),
    (lambda n: W[n], N, TracerError, ["ng.numpy.take(", "i64[]"]),
    (lambda n: W[:, n], N, TracerError, ["ng.numpy.take("]),
    (lambda x: np.asarray(x), V, TracerError, ["not known while tracing", "f32[3]"]),
    (lambda x: np.array([x, x]), V, TracerError, ["ng.numpy.stack("]),
    (lambda x: np.array([x, x]), S, TracerError, ["ng.numpy.stack("]),
    (lambda x: np.float32(x), S, TracerError, ["astype"]),
    (lambda x: W.dot(x), V, TracerError, ["ng.numpy.dot("]),
    (lambda n: W.take(n), N, TracerError, ["ng.numpy.take("]),
    (lambda x: np.full(3, x), S, TracerError, ["not known while tracing"]),
    (lambda x: np.r_[x, x], V, TracerError, ["ng.numpy.stack("]),
    (lambda x: x.sort(), V, TracerError, ["in place", "x = np.sort(x)"]),
    (lambda x: x.fill(0), V, TracerError, ["in place", "np.full_like"]),
    (lambda x: np.median(x), V, TracerError, ["np.median is not traced", "docs"]),
    (lambda x: np.hypot(x, x), V, TracerError, ["np.hypot is not traced"]),
    (lambda x: x @ x, X, TypeRuleError, ["dot", "sizes differ", "f32[2,3]", "3", "2"]),
    (lambda x: np.dot(x, W), V, TypeRuleError, ["sizes differ", "f32[3]", "f32[4,3]"]),
    (lambda x: x + W, X, TypeRuleError, ["add", "broadcast", "f32[2,3]", "f32[4,3]", "2 and 4"]),
    (lambda x: np.where(x > 0, x, W), X, TypeRuleError, ["broadcast", "2 and 4"]),
    (lambda x: np.concatenate([x, W], axis=1), X, TypeRuleError, ["concatenate", "f32[2,3]", "f32[4,3]"]),
    (lambda x: x.reshape(4, 4), X, TypeRuleError, ["reshape", "f32[2,3]", "4"]),
    (lambda x: x.sum(axis=2), X, TypeRuleError, ["sum", "axis 2 is out of range"]),
    (lambda x: np.transpose(x, (0, 0)), X, TypeRuleError, ["transpose", "0"]),
    (lambda x: x[5], V, TypeRuleError, ["5", "3"]),
    (lambda x: x[0, 0], V, TypeRuleError, ["f32[3]|3|rank|axes", "2"]),
    (lambda x: x[1.5], V, TypeRuleError, ["1.5"]),
    (lambda x: x[x], V, TypeRuleError, ["float|f32|integer", "index"]),
    (lambda x: x[x > 0], V, TypeRuleError, ["mask|bool", "where"]),
    (lambda x: x & x, V, TypeRuleError, ["and", "f32[3]", "dtype f32"]),
    (lambda x: ~x, V, TypeRuleError, ["dtype f32"]),
    (lambda x: x << 1, V, TypeRuleError, ["f32|float"]),
    (lambda x: np.einsum("ij,jk->ik", x, x), X, TypeRuleError, ["einsum|dot", "3", "2"]),
    (lambda x: x + "text", V, (NagraphError, TypeError), ["dtype <U4"]),
    (lambda x: ng.cond(x, lambda: 1.0, lambda: 2.0), V, TypeRuleError, ["cond", "predicate|bool", "f32[3]"]),
    (lambda x: ng.cond(x.sum() > 0, lambda: x, lambda: (x, x)), V, NagraphError, ["cond", "different structures"]),
    (lambda x: ng.cond(x.sum() > 0, lambda: x, lambda: x[0]), V, TypeRuleError, ["cond", "f32[3]", "f32[]"]),
    (lambda x: ng.scan(lambda c, r: (c, r), x, None), V, SignatureError, ["scan", "length"]),
    (lambda x: ng.scan(lambda c, r: (c[:1], r), x, x), V, TypeRuleError, ["scan", "f32[3]", "f32[1]"]),
    (lambda x: ng.scan(lambda c, r: c, x, x), V, NagraphError, ["scan", "(carry, y)"]),
    (lambda x: ng.while_loop(lambda c: c, lambda c: c, x), V, TypeRuleError, ["while_loop|condition", "bool", "f32[3]"]),
    (lambda x: ng.while_loop(lambda c: c.sum() < 1, lambda c: (c, c), x), V, NagraphError, ["while_loop", "structure"]),
    (lambda x: ng.grad(lambda y: y * 2)(x), V, SignatureError, ["grad", "scalar", "f32[3]", "sum or mean"]),
    (lambda x: ng.grad(lambda y: (y.sum(), y))(x), V, SignatureError, ["grad", "one scalar", "has_aux=True"]),
    (lambda x: ng.grad(lambda y: y.sum(), argnums=1)(x), V, SignatureError, ["argnums 1", "1 positional"]),
    (lambda n: ng.grad(lambda y: y * 1.0)(n), N, SignatureError, ["grad", "no floating leaf"]),
    (lambda x: ng.vmap(lambda a: a, in_axes=3)(x), V, SignatureError, ["vmap", "axis 3", "f32[3]"]),
    (lambda x: ng.vmap(lambda a, b: a + b)(x, x[:2]), V, SignatureError, ["vmap", "common size", "2, 3"]),
    (lambda x: ng.vmap(lambda a: a, in_axes=(0, 0))(x), V, SignatureError, ["in_axes has 2 entries for 1"]),
    (lambda x: ng.vjp(lambda a: a * 2, x)[1](x[:2]), V, SignatureError, ["cotangent", "f32[3]", "f32[2]"]),
    (lambda x: ng.jvp(lambda a: a * 2, (x,), (x, x)), V, NagraphError, ["jvp", "1 primal", "2 tangent"]),
    (lambda x: ng.jacobian(lambda a: (a, a))(x), V, SignatureError, ["jacobian", "one array"]),
]


@pytest.mark.parametrize("fn", CURES, ids=lambda f: f.__name__.strip("_"))
def test_the_message_has_line_rule_and_cure(fn):
    x, kind, parts = CURES[fn]
    source, first = pathlib.Path(__file__).read_text().splitlines(), fn.__code__.co_firstlineno
    line = next(n for n in range(first, len(source)) if source[n - 1].endswith("# <-"))
    error = caught(lambda: ng.jit(fn)(x), kind)
    assert str(error).endswith(f"({HERE}:{line})"), error
    for part in parts:
        assert part in str(error)


@pytest.mark.parametrize("fn,x,kind,parts", LINES, ids=[f"line-{case[0].__code__.co_firstlineno}" for case in LINES])
def test_each_line_is_named(fn, x, kind, parts):
    error = caught(lambda: ng.jit(fn)(x), kind)
    if isinstance(error, NagraphError):
        assert f"({HERE}:{fn.__code__.co_firstlineno})" in str(error), error
    for part in parts:
        assert any(choice in str(error) for choice in part.split("|")), (part, str(error))


@pytest.mark.parametrize("how", [ng.jit, lambda f: lambda x: ng.trace(f, x), lambda f: ng.grad(f), lambda f: ng.vmap(f),
                                 lambda f: lambda x: ng.eval_shape(f, x), lambda f: lambda x: ng.jvp(f, (x,), (x,)),
                                 lambda f: lambda x: ng.vjp(f, x), lambda f: ng.jacobian(f), lambda f: ng.checkpoint(f),
                                 lambda f: lambda x: ng.cond(True, f, f, x), lambda f: lambda x: ng.jit(f).lower(x)])
def test_every_way_to_trace_says_the_same_and_leaves_nothing_behind(how):
    def fn(x):
        return x * (2.0 if x.sum() > 0 else 3.0)

    with pytest.raises(TracerError, match=r"`if`.*ng\.where.*ng\.cond.*\(" + re.escape(HERE)):
        how(fn)(V)
    assert active_stack() == ()
    np.testing.assert_array_equal(ng.jit(lambda x: x * 2)(V), V * 2)


def test_other_errors_of_the_function_pass_through_unchanged_and_leave_nothing_behind():
    f = ng.jit(lambda x: x * {}["missing"])
    for _ in range(2):
        with pytest.raises(KeyError, match="missing"):
            f(V)
        assert active_stack() == ()
    assert f.cache_info().size == 0


def test_a_function_that_failed_works_again():
    flag = [True]

    def fn(x):
        return float(x) if flag[0] else x * 2

    f = ng.jit(fn)
    caught(lambda: f(S), TracerError)
    flag[0] = False
    assert f(S) == 4
    assert f.cache_info().size == 1


def test_numbers_may_be_updated_with_operators_that_rebind():
    def fn(x):
        total = 0
        for row in x:
            total += row.sum()
        return total

    assert ng.jit(fn)(X) == X.sum()


def test_comparing_with_is_and_hash_works():
    def fn(x):
        return x * 2 if x is not None and x in {x} and {x: 1}[x] else x

    np.testing.assert_array_equal(ng.jit(fn)(V), V * 2)


# -- leaks ------------------------------------------------------------------------------------------


def test_a_value_used_after_its_trace():
    kept = []

    def keep(x):
        kept.append(x * 2)
        return x

    ng.jit(keep)(V)
    error = caught(lambda: ng.jit(lambda x: x + kept[0])(V), LeakedTracerError)
    for part in ("f32[3]", "outside the trace that made it", "return it", HERE):
        assert part in str(error)


def test_a_value_used_outside_of_every_trace():
    kept = []
    ng.jit(lambda x: kept.append(x) or x)(V)
    for use in (lambda: kept[0] + 1, lambda: np.exp(kept[0]), lambda: kept[0][0], lambda: kept[0].sum()):
        with pytest.raises(LeakedTracerError, match=r"traced value.*outside the trace that made it.*\(" + re.escape(HERE)):
            use()
    with pytest.raises(TracerError):
        float(kept[0])


def test_a_leaked_value_as_argument():
    kept = []
    ng.jit(lambda x: kept.append(x) or x)(V)
    error = caught(lambda: ng.jit(lambda x: x)(kept[0]), LeakedTracerError)
    assert "outside the trace that made it" in str(error)


def test_a_value_of_an_inner_function_that_the_outer_one_uses():
    kept = []

    def inner(y):
        kept.append(y * 3)
        return y.sum()

    def outer(x):
        g = ng.grad(inner)(x)
        return g + kept[0]

    error = caught(lambda: ng.jit(outer)(V), LeakedTracerError)
    assert f"({HERE}:" in str(error)


def test_values_of_an_outer_function_may_be_used_inside():
    def outer(x):
        return ng.grad(lambda y: (y * x).sum())(x) + ng.vmap(lambda r: r + x[0])(x)

    np.testing.assert_array_equal(ng.jit(outer)(V), V + V + V[0])


def test_a_value_of_another_thread_is_foreign():
    import threading

    seen = []

    def fn(x):
        def work():
            try:
                seen.append(x + 1)
            except NagraphError as error:
                seen.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        return x

    ng.jit(fn)(V)
    assert isinstance(seen[0], LeakedTracerError)


# -- derivatives that do not exist ------------------------------------------------------------------


def test_an_op_without_a_derivative_is_named_with_its_line():
    @dataclass(frozen=True, eq=False, repr=False)
    class Bumped(Elementwise):  # outside the registry, which other tests go through
        """The next number towards 0."""

        name = "bumped"

        def reference(self, x):
            return np.nextafter(x, 0)

    def loss(x):
        bumped = Bumped()(x)
        return bumped.sum()

    for call in (lambda: ng.grad(loss)(V), lambda: ng.jit(ng.grad(loss))(V), lambda: ng.jvp(loss, (V,), (V,))):
        error = caught_loosely(call, MissingRuleError)
        assert "bumped" in str(error) and "derivative" in str(error)
        assert f"({HERE}:{loss.__code__.co_firstlineno + 1})" in str(error)


def test_a_linear_op_without_an_adjoint_is_named_with_its_line():
    @dataclass(frozen=True, eq=False, repr=False)
    class Halved(Linear):  # outside the registry
        """x / 2."""

        name = "halved"

        def infer(self, x):
            return x

        def reference(self, x):
            return x / 2

    def loss(x):
        return Halved()(x).sum()

    error = caught_loosely(lambda: ng.grad(loss)(V), MissingRuleError)
    assert f"op halved declares itself linear but has no adjoint ({HERE}:{loss.__code__.co_firstlineno + 1})" in str(error)


def caught_loosely(call, kind):
    """The error, where transforms stand between: no frames of nagraph's after the user's."""
    with pytest.raises(kind) as found:
        call()
    frames = [is_internal(f.filename) for f in traceback.extract_tb(found.value.__traceback__)]
    assert frames == sorted(frames), "user frames first, then at most the boundary"
    return found.value


def test_while_without_max_steps_says_what_reverse_mode_needs():
    def loss(x):
        return ng.while_loop(lambda c: c < 100, lambda c: c * 2, x)

    with pytest.raises(MissingRuleError, match=r"while_loop.*max_steps.*\(" + re.escape(HERE)):
        ng.grad(loss)(S)
    assert ng.jvp(loss, (S,), (np.float32(1),)) == (128, 64)


# -- what people see --------------------------------------------------------------------------------


def test_python_prints_the_users_lines_alone(tmp_path):
    script = tmp_path / "model.py"
    script.write_text("import numpy as np\nimport nagraph as ng\n\n"
                      "def inner(x):\n    return x if x > 0 else -x\n\n"
                      "def loss(x):\n    return inner(x) * 2\n\n"
                      "ng.jit(ng.grad(loss))(np.float32(1))\n")
    text = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, cwd=pathlib.Path(__file__).parents[1],
                          env={"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}).stderr
    assert re.findall(r'File "(.*?)", line (\d+)', text) == [(str(script), "10"), (str(script), "8"), (str(script), "5")]
    assert re.search(r"TracerError: .*ng\.where.*\(model\.py:5\)\s*$", text)


def test_python_prints_other_errors_as_before(tmp_path):
    script = tmp_path / "model.py"
    script.write_text("import nagraph as ng\nng.jit(lambda x: 1 / 0)(2.0)\n")
    text = subprocess.run([sys.executable, str(script)], capture_output=True, text=True,
                          env={"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}).stderr
    assert "ZeroDivisionError" in text and "jitted.py" in text
