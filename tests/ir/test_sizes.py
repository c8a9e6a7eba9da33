"""Sizes that are known later: arithmetic, normal form, bounds, order, text, and what they are in a call."""

import copy
import operator
import random

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import ParseError, SizeError, TypeRuleError, VerifyError
from nagraph.ir.builder import Builder
from nagraph.ir.graph import Graph, Value
from nagraph.ir.size_binding import bound
from nagraph.ir.size_bounds import at_least, bounds
from nagraph.ir.sizes import Size, dims, larger, same, smaller, substituted, typical, whole_quotient
from nagraph.ir.types import DTYPES, TensorType
from nagraph.ops.movement import Reshape
from nagraph.ops.size_numbers import SizeNumber

Dim = ng.Dim
n, m, k = Dim("n", max=128), Dim("m"), Dim("k", min=2, max=9)
F32 = DTYPES["f32"]


def made(rng, depth):
    """A random expression, as a size or an int and as a function of what the dimensions are."""
    if depth == 0 or rng.random() < 0.15:
        if rng.random() < 0.3:
            c = rng.randint(-3, 7)
            return c, lambda at: c
        d = rng.choice((n, m, k))
        return d, lambda at: at[d]
    x, f = made(rng, depth - 1)
    if rng.random() < 0.3:
        by, g = rng.choice([(c, lambda at, c=c: c) for c in (1, 2, 3, 8)] + [(m, lambda at: at[m]), (k + 1, lambda at: at[k] + 1)])
        how = rng.choice((operator.floordiv, operator.mod))
        return how(x, by), lambda at: how(f(at), g(at))
    y, g = made(rng, depth - 1)
    how, plain = rng.choice(((operator.add,) * 2, (operator.sub,) * 2, (operator.mul,) * 2, (smaller, min), (larger, max)))
    return how(x, y), lambda at: plain(f(at), g(at))


def chosen(rng):
    return {n: rng.choice((1, 2, 5, rng.randint(1, 128), 128)), m: rng.choice((1, 2, 3, rng.randint(1, 500))), k: rng.randint(2, 9)}


@pytest.mark.parametrize("seed", range(4))
def test_expressions_are_what_python_computes_of_their_values(seed):
    """Whatever is simplified: the value, the bounds, what follows from them, and the text."""
    rng = random.Random(seed)
    for _ in range(40):
        x, f = made(rng, rng.randint(1, 3))
        low, high = bounds(x)
        for _ in range(6):
            at = chosen(rng)
            value = f(at)
            assert substituted(x, at) == value, (x, at)
            assert (low is None or low <= value) and (high is None or value <= high), (x, at)
            partly = substituted(x, {m: at[m]})
            assert substituted(partly, at) == value and m not in dims(partly)
            for least in (-1, 0, 1, 3):
                assert value >= least or not at_least(x, least), (x, least, at)
        if isinstance(x, Size):
            assert parsed(x) is x or parsed(x) == x
            assert copy.deepcopy(x) is x and hash(parsed(x)) == hash(x)


def parsed(size):
    """The size as the text form writes and reads it, among attributes, where it may have any sign."""
    declared = "".join(f"dim {d.name}{{min={d.min}{'' if d.max is None else f', max={d.max}'}}}\n" for d in dims(size))
    inputs = ", ".join(f"%{d.name}: f32[{d.name}]" for d in dims(size))
    text = f"{declared}graph @g({inputs}) -> (f64[]) {{\n %0: f64[] = size{{size={size}, dtype=f64}}()\n return %0 }}"
    return ng.parse(text).nodes[0].op.size


@pytest.mark.parametrize(("x", "text"), [
    (1 + n, "n+1"), ((n + 1) * (m - 1), "m*n+m-n-1"), (4 * n // 4, "n"), ((4 * n + 1) // 4, "n"), ((5 * n + 1) // 4, "n+floordiv(n+1,4)"),
    (n // 129, "0"), (2 * n // 4, "floordiv(n,2)"), (n // 2 // 3, "floordiv(n,6)"), (n % 2, "n-2*floordiv(n,2)"), (n - n, "0"),
    ((n * m + n) // (m + 1), "n"), (whole_quotient(n, 3), "n/3"), (whole_quotient(n, 3) * 3, "n"), (whole_quotient(24 * n, 3), "8*n"),
    (whole_quotient(n * m + n, m + 1), "n"), (whole_quotient(2 * n + m, 3), "(m+2*n)/3"), (smaller(n, 128), "n"),
    (smaller(n, 64), "min(64,n)"), (larger(n - 1, 0), "n-1"), (larger(n - 5, 0), "max(0,n-5)"), (smaller(m, smaller(3, n)), "min(3,m,n)"),
    (abs(n), "n"), (n ** 2, "n*n"), (-n + m, "m-n"), (divmod(n, 3)[0], "floordiv(n,3)"), (np.minimum(n, 64), "min(64,n)"),
    (np.int64(3) * n, "3*n"), (round(n), "n"), (typical(n * m + k), str(64 * 64 + 9)),
])
def test_normal_form(x, text):
    assert str(x) == text


def test_equality_is_that_of_structure_and_total():
    assert n + m == m + n and n * (m + 1) == n * m + n and n != m and n != 1 and 1 != n and (n == "n") is False
    assert n == Dim("n", max=128) and n != Dim("n") and len({n + 1, 1 + n, n}) == 2
    assert TensorType(F32, (n + m,)) is TensorType(F32, (m + n,)) and TensorType(F32, (n,)).symbolic and not TensorType(F32, (3,)).symbolic


def test_order_follows_from_bounds():
    assert n > 0 and n <= 128 and n < 129 and 0 < n and n * m >= n and n - n // 2 >= 0 and n - smaller(n, 64) >= 0
    assert larger(n - 5, 0) <= n and k * k > 3 and bool(n) and not n > 128 and smaller(n, m) <= n
    assert same(n, n) and not same(n, n + 1) and not same(n, 0) and not same(n, 129)


BOUNDS = "n from 1 to 128"


@pytest.mark.parametrize(("ask", "message"), [
    (lambda: n < 5, rf"it is not known whether n < 5 \({BOUNDS}\); give the dimension bounds that tell"),
    (lambda: same(n, m), rf"whether the sizes n and m are equal \({BOUNDS}, m from 1\); write sizes that are always equal with one"),
    (lambda: same(1, n, "add"), "add: it is not known whether the sizes n and 1 are equal .*; an axis that broadcasts has the literal"),
    (lambda: same(n, 8), "give the dimension bounds that tell, or the argument the size 8"),
    (lambda: bool(n - 1), "whether the sizes n-1 and 0 are equal"),
    (lambda: int(n), rf"int\(\) needs a number, and the size n is known later \({BOUNDS}\); .*graph.specialise"),
    (lambda: float(2 * n), r"float\(\) needs a number, and the size 2\*n is known later"),
    (lambda: range(n), "an index, a range or a plain array needs a number"),
    (lambda: np.zeros((n, 2)), "an index, a range or a plain array needs a number"),
    (lambda: complex(n), "needs a number"),
    (lambda: n // (n - 1), "n // n-1: a size is divided by what is at least 1"),
    (lambda: whole_quotient(2 * n + 1, 2), r"2\*n\+1 does not divide by 2"),
    (lambda: whole_quotient(n, m + 1), r"not known whether n divides by m\+1 .*write the size so that one sees it"),
    (lambda: whole_quotient(n, 0), "not known whether n divides by 0"),
    (lambda: substituted(whole_quotient(n, 3), {n: 7}), "the size n/3 is no whole number where n = 7"),
    (lambda: n / 2, r"the size n is a number in traced functions alone: here only whole sizes are made of it, with \+"),
    (lambda: (n + m + k) ** 64 * (n + m), "a size is an expression of few terms and factors"),
    (lambda: Dim("max"), "a name is letters, digits and _, and no word of the text form such as max"),
    (lambda: Dim("a b"), "a name is letters, digits and _"),
    (lambda: Dim("n", 4, 4), "max one that is larger.*got min=4, max=4; write the size 4"),
    (lambda: Dim("n", -1), "min is a whole number of at least 0"),
    (lambda: Dim("n", 1.0), "min is a whole number of at least 0"),
])
def test_errors_say_the_rule_the_bounds_and_the_cure(ask, message):
    with pytest.raises(SizeError, match=message):
        ask()


# -- types and text ---------------------------------------------------------------------------------


def test_specs_and_types():
    found = ng.spec((n, 4 * m + 1), "f16")
    assert str(found) == "f16[n,4*m+1]" and found.size == 4 * m * n + n and found.nbytes == 8 * m * n + 2 * n and found.possible
    with pytest.raises(TypeRuleError, match=rf"sizes are at least 0, and n-5 may be less \({BOUNDS}\): give the dimension a larger min"):
        ng.spec((n - 5,))
    with pytest.raises(TypeRuleError, match="no array has the type"):
        ng.spec((Dim("big", min=1 << 40), 1 << 40))


TEXT = """dim n{min=1, max=128}
dim m{min=1}
graph @f(%x: f32[n,4*m+1], %y: f32[m*n+2]) -> (f32[4*m*n+n], f32[n-min(5,n),1]) {
  %0: f32[4*m*n+n] = reshape{shape=[4*m*n+n]}(%x)
  %1: f32[n-min(5,n),1] = slice{start=[min(5,n),0], stop=[n,1], step=[1,1]}(%x)
  return %0, %1
}"""


def test_graphs_print_and_parse():
    graph = ng.parse(TEXT)
    ng.verify(graph)
    assert str(graph) == TEXT and ng.parse(str(graph)) == graph and graph.dims == (n, m)
    spaced = TEXT.replace("4*m*n+n", " n * (1 + m*4) ").replace("n-min(5,n)", "- min(n, 5) + n")
    assert ng.parse(spaced) == graph


@pytest.mark.parametrize(("right", "wrong", "message"), [
    ("dim m{min=1}\n", "", r"no dimension m is declared; write dim m\{min=1\} before the first graph"),
    ("dim m{min=1}", "dim m{min=1}\ndim m{}", "the dimension m is declared above already"),
    ("dim m{min=1}", "dim m{least=1}", "a dimension has min and max, each once, not least"),
    ("dim m{min=1}", "dim m{min=1.5}", "a size is a whole number that is not negative, not 1.5"),
    ("dim m{min=1}", "dim m{min=3, max=2}", "max one that is larger"),
    ("m*n+2", "m*n+", "expected a size"),
    ("m*n+2", "floordiv(n)", "floordiv takes two sizes, got 1"),
    ("m*n+2", "n/0", "not known whether n divides by 0"),
    ("m*n+2", "-3", "a size is a whole number that is not negative, not -3"),
    ("m*n+2", "(" * 70 + "n" + ")" * 70, "nested more than 64 deep"),
    ("m*n+2", "*".join(["(n+m)"] * 80), "too many"),
    ("stop=[n,1]", "stop=[n+1,1]", r"needs 0 <= start min\(5,n\) <= stop n\+1 <= n"),
    ("%0: f32[4*m*n+n] =", "%0: f32[4*m*n+1] =", r"reshape gives \(f32\[4\*m\*n\+n\]\), but the line says \(f32\[4\*m\*n\+1\]\)"),
])
def test_wrong_text_is_refused_with_its_place(right, wrong, message):
    with pytest.raises(ParseError, match=message):
        ng.parse(TEXT.replace(right, wrong, 1))


def test_the_verifier_knows_each_dimension_by_its_name_and_from_an_input():
    other = Value(TensorType(F32, (Dim("n"), n)), "x")
    with pytest.raises(VerifyError, match="two dimensions are named n"):
        ng.verify(Graph("f", [other], [], [other]))
    with Builder() as b:
        b.emit(SizeNumber(m + 1, F32), ())
        graph = b.graph("f", [b.nodes[0].results[0]])
    with pytest.raises(VerifyError, match="graph f: the dimension m is in the type of no input, so no call says what it is"):
        ng.verify(graph)
    wrong = Value(TensorType(F32, (n - 500,)), "x")
    with pytest.raises(VerifyError, match="no type that a graph can hold"):
        ng.verify(Graph("f", [wrong], [], [wrong]))


# -- known sizes ------------------------------------------------------------------------------------


def test_specialising_replaces_dimensions_in_types_attributes_and_regions():
    graph = ng.trace(lambda x: (ng.scan(lambda c, r: (c + r, c), x[0], x)[1].reshape(-1), x.shape[0] * x), ng.spec((n, m)))
    made = graph.specialise({"n": 3, "m": 4})
    ng.verify(made)
    assert made.output_types == (ng.spec((12,)), ng.spec((3, 4))) and not made.dims and "size{" not in str(made) and "dim " not in str(made)
    assert made == ng.trace(lambda x: (ng.scan(lambda c, r: (c + r, c), x[0], x)[1].reshape(-1), x.shape[0] * x), ng.spec((3, 4)))
    half = graph.specialise({"m": 4})
    assert half.dims == (n,) and half.specialise({"n": 3}) == made and graph.specialise({}) is graph
    assert [a.location for a in graph.nodes] == [a.location for a in made.nodes]


@pytest.mark.parametrize(("sizes", "message"), [
    ({"nn": 3}, "there is no dimension 'nn' .did you mean n"), ({"n": 0}, "the dimension n is a whole number, n from 1 to 128; got 0"),
    ({"n": 129}, "got 129"), ({"n": 2.0}, "got 2.0"), ({"n": 7}, r"the size n/2 is no whole number where n = 7 \(test_sizes.py:\d+\)"),
])
def test_specialising_refuses_what_does_not_fit(sizes, message):
    graph = ng.trace(lambda x: x.reshape(2, -1), ng.spec((n,)))
    with pytest.raises(SizeError, match=message):
        graph.specialise(sizes)


def test_sizes_follow_from_shapes():
    assert bound([(n, 4 * m + 1)], [(3, 9)], ["x"]) == {"n": 3, "m": 2}
    assert bound([(n * m,), (2 * n,)], [(12,), (6,)], ["x", "y"]) == {"n": 3, "m": 4}
    assert bound([(whole_quotient(n, 2), 5)], [(3, 5)], ["x"]) == {"n": 6}
    for expected, shapes, message in [
        ([(n,), (n,)], [(3,), (4,)], "y, axis 0 has the size 4, and should have n = 3 with n = 3"),
        ([(4 * m + 1,)], [(8,)], r"x, axis 0 has the size 8, and should have 4\*m\+1 with m from 1"),
        ([(n,)], [(129,)], "x, axis 0 has the size 129, and should have n with n from 1 to 128"),
        ([(n, 5)], [(3, 6)], "x, axis 1 has the size 6, and should have 5"),
        ([(n * m,)], [(12,)], "the sizes of m, n do not follow from the arguments"),
    ]:
        with pytest.raises(SizeError, match=message):
            bound(expected, shapes, ["x", "y"][:len(shapes)])


def test_reshape_asks_for_sizes_of_which_one_sees_that_they_are_equal():
    x = ng.spec((n, 6))
    assert Reshape((2 * n, 3)).infer(x).shape == (2 * n, 3)
    with pytest.raises(SizeError, match=r"reshape: it is not known whether the sizes 12\*floordiv\(n,2\) and 6\*n are equal"):
        Reshape((n // 2, 12)).infer(x)
    with pytest.raises(TypeRuleError, match="reshape: .* elements"):
        Reshape((n + 1, 6)).infer(x)
