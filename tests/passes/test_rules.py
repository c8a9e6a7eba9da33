"""Every rule against its own definition: random tensors in the holes, both sides compared by type and value."""

import dataclasses
import zlib

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import NagraphError, PassError
from nagraph.ir.builder import Builder
from nagraph.ir.interpret import interpret
from nagraph.ir.op import REGISTRY
from nagraph.ir.types import BOOL, DTYPES, TensorType, is_float
from nagraph.observers import Differential
from nagraph.pipeline import Pipeline
from nagraph.rewrite.greedy import rewrite
from nagraph.rewrite.pattern import Apply, Attribute, Hole, Number, Numeral, holes, op
from nagraph.rewrite.rule import Rule, floats, integers, rules
from nagraph.rewrite.rules import ALL
from tests.passes.random_left_sides import left_side

SAMPLED = [DTYPES[n] for n in ("f32", "f64", "f16", "bf16", "i8", "i32", "i64", "u8", "u32", "bool")]
#: Which of 0.0 and -0.0 is the larger is nobody's promise, so these see zeros of one sign.
ZERO_IS_CHOSEN = {"maximum", "minimum", "max", "min"}
SPECIAL = [0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, 6e4, -1.0, 1.0, 2.0]


def holes_of(pattern):
    """The names of the value holes of a pattern, in order."""
    if isinstance(pattern, Hole):
        return [pattern.name]
    return [n for p in pattern.operands for n in holes_of(p)] if isinstance(pattern, Apply) else []


def left_graph(rule, example, dtype, condition):
    """The graph of the rule's left side for these shapes and attributes, and this dtype in all holes but conditions."""
    names = list(dict.fromkeys(holes_of(rule.left)))
    with Builder() as builder:
        values = {n: builder.input(TensorType(BOOL if n == condition else dtype, example.get(n, (3, 4))), n) for n in names}

        def attribute(wanted):
            found = example[wanted.name] if isinstance(wanted, Attribute) else wanted
            return values["x"].dtype if found == "x" else DTYPES[found] if isinstance(found, str) and found in DTYPES else found

        def build(p):
            if isinstance(p, Hole):
                return values[p.name]
            if isinstance(p, Number):
                return p.value
            if isinstance(p, Numeral):
                return example[p.name]
            cls = REGISTRY[p.name]
            given = {k: attribute(v) for k, v in p.attributes}
            for f in dataclasses.fields(cls):
                if f.name not in given and f"{f.name}0" in example:
                    given[f.name] = example[f"{f.name}0"]
            return cls(**given)(*map(build, p.operands))

        return builder.graph("left", [build(rule.left)])


def contents(t, rng, exact):
    """Random elements: all bits and special values for exact rules, tame positive numbers for the others."""
    if t.dtype == BOOL:
        return np.ones(t.shape, bool) if not exact else rng.integers(0, 2, t.shape).astype(bool)
    if not is_float(t.dtype) and not exact:
        return rng.integers(1, 4, t.shape).astype(t.dtype)
    if not is_float(t.dtype):
        info = np.iinfo(t.dtype)
        found = rng.integers(info.min, info.max, t.shape, dtype=t.dtype, endpoint=True)
        small = rng.integers(0, 3, t.shape).astype(t.dtype)
        return np.where(rng.random(t.shape) < 0.5, found, small)
    if not exact:
        return rng.uniform(0.5, 2, t.shape).astype(t.dtype)
    with np.errstate(over="ignore"):
        found = (rng.normal(size=t.shape) * 10.0 ** rng.integers(-3, 4, t.shape)).astype(t.dtype)
        return np.where(rng.random(t.shape) < 0.3, rng.choice(SPECIAL, t.shape).astype(t.dtype), found)


def same_but_for_nan_bits(a, b, message):
    """Equal values, nan where nan, zeros of equal sign."""
    np.testing.assert_array_equal(a, b, err_msg=message)
    if is_float(a.dtype):
        a, b = (np.where(np.isnan(x), 0, x) for x in (a, b))
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b), err_msg=f"{message}: signs of zeros")


def check_graph(rule, graph, seeds):
    """Whether the rule rewrote the graph; asserts that it computes what it did, types and values."""
    names = []
    after = rewrite(graph, [rule], names)
    if rule.name not in names:
        return False
    assert str(after) != str(graph)
    assert after.output_types == graph.output_types, f"{rule.name}\n{graph}"
    for seed in seeds:
        rng = np.random.default_rng(seed)
        arrays = [contents(t, rng, rule.exact) for t in graph.input_types]
        if ZERO_IS_CHOSEN & {n.op.name for n in graph.nodes}:
            arrays = [np.where(a == 0, np.zeros((), a.dtype), a) for a in arrays]
        (a,), (b,) = interpret(graph, arrays), interpret(after, arrays)
        message = f"{rule.name}\n{graph}\n{after}\n{arrays}"
        assert a.dtype == b.dtype
        half = is_float(a.dtype) and a.dtype.itemsize == 2
        if is_float(a.dtype):  # exactly, and bfloat16 can be compared
            a, b = a.astype("f8"), b.astype("f8")
        if rule.exact:
            same_but_for_nan_bits(a, b, message)
        else:
            tolerance = 0.05 if half else 1e-5
            np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance, err_msg=message)
    return True


def check_rule(rule):
    """Asserts that the rule is sound on its examples and on random operands; how many of either it rewrote."""
    fired = 0
    for example in rule.examples or ({},):
        for dtype in SAMPLED:
            for condition in ("", "c"):
                if condition and condition not in holes_of(rule.left):
                    continue
                try:
                    graph = left_graph(rule, example, dtype, condition)
                except (NagraphError, TypeError, OverflowError):
                    continue  # the rule's ops do not take this dtype
                fired += check_graph(rule, graph, range(3))
    return fired, check_on_random_operands(rule)


def check_on_random_operands(rule, wanted=25, tries=600):
    rng = np.random.default_rng(zlib.crc32(rule.name.encode()))
    dtypes = SAMPLED if rule.dtypes is None else [d for d in SAMPLED if d in rule.dtypes]
    fired = 0
    for _ in range(tries):
        graph = left_side(rule, rng, dtypes[rng.integers(len(dtypes))])
        fired += graph is not None and check_graph(rule, graph, rng.integers(0, 1000, 2))
        if fired == wanted:
            break
    return fired


@pytest.mark.parametrize("rule", ALL, ids=lambda r: r.name)
def test_rule_is_sound(rule):
    examples, random = check_rule(rule)
    assert examples, f"{rule.name} rewrote none of its examples"
    assert random >= 3, f"{rule.name} rewrote {random} of the random graphs"


def test_there_are_enough_rules_with_names_of_their_own():
    assert len(ALL) >= 60 and sum(r.exact for r in ALL) >= 60
    assert len({r.name for r in ALL}) == len(ALL)


x, y = holes("x y")
CORRUPTED = rules(("x - y => y - x", x - y, y - x), ("x / y => x * y", x / y, x * y, floats), ("max x y => x", op.maximum(x, y), x),
                  ("x * 0 => 0 (though nan)", x * 0, 0, floats), ("x + x => x", x + x, x, integers))


@pytest.mark.parametrize("rule", CORRUPTED, ids=lambda r: r.name)
def test_a_corrupted_rule_is_caught(rule):
    with pytest.raises((AssertionError, PassError)):
        check_rule(rule)


def test_the_differential_observer_names_the_pass_of_a_corrupted_rule():
    def simplify(graph):
        return rewrite(graph, [CORRUPTED[1]])

    graph = ng.trace(lambda a, b: np.tanh(a) / b, ng.spec((3,)), ng.spec((3,)))
    arrays = np.array([1, 2, 3], np.float32), np.array([2, 3, 4], np.float32)
    Pipeline.parse("cse,simplify,dce").with_observers(Differential(*arrays))(graph)
    with pytest.raises(PassError, match="pass simplify changed output 0"):
        Pipeline(simplify).with_observers(Differential(*arrays))(graph)


@pytest.mark.parametrize("right, told", [
    (op.greater(x, 0), r"it gives bool\[3\]"), (op.concatenate(x, x, axis=0), "TypeRuleError: broadcast_to: f32\\[6\\]"),
    (lambda x: x.shape[1], "IndexError"),
], ids=["dtype", "shape", "fails"])
def test_a_rule_whose_replacement_has_another_type_or_fails_is_named(right, told):
    graph = ng.trace(lambda a: np.tanh(a), ng.spec((3,)))
    with pytest.raises(PassError, match=rf"the rule 'wrong' fails on tanh of f32\[3\].*{told}"):
        rewrite(graph, rules(("wrong", op.tanh(x), right)))


def test_a_smaller_replacement_is_broadcast():
    graph = ng.trace(lambda a: a * np.ones((4, 3), np.float32), ng.spec((3,)))
    after = rewrite(graph, ALL)
    assert [n.op.name for n in after.nodes if n.op.name != "const"][-1] == "broadcast"
    assert after.output_types == graph.output_types


def test_rules_that_go_in_circles_are_named():
    circle: tuple[Rule, ...] = rules(("x + y => y + x", x + y, y + x))
    with pytest.raises(PassError, match=r"go in circles.*x \+ y => y \+ x"):
        rewrite(ng.trace(lambda a, b: a + b, ng.spec((3,)), ng.spec((3,))), circle)
