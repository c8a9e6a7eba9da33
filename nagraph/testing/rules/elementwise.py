"""Functions of single elements, and casts."""

from __future__ import annotations

from nagraph.testing.choice import Choice, is_bool, is_float, is_int
from nagraph.testing.rules.rule import Proposal, rule

OF_A_FLOAT = (
    "np.tanh({0})", "np.sin({0})", "np.exp(-np.abs({0}))", "np.sqrt(np.abs({0}) + 1)", "np.log1p({0} * {0})", "np.square({0})",
    "np.abs({0})", "-{0}", "np.floor({0})", "np.rint({0} * 4)",
    "np.expm1(np.minimum({0}, 1))", "np.arctan({0})", "np.cbrt(np.abs({0}) + 0.25)",
    "1 / (1 + {0} * {0})", "{0} ** 2", "{0} ** 3", "np.sign({0})", "{0} * 0.5", "{0} + 1", "2 - {0}", "np.log2(np.abs({0}) + 0.5)",
    "np.clip({0}, -1, 1.5)", "np.sinh(np.clip({0}, -2, 2))", "np.reciprocal({0} * {0} + 1)", "np.trunc({0})", "{0} % 3",
    "ng.numpy.sigmoid({0})", "ng.numpy.erf({0})", "ng.nn.functional.gelu({0})", "ng.nn.functional.silu({0})",
    "ng.nn.functional.softplus({0})", "ng.nn.functional.relu({0})", "ng.nn.functional.elu({0})",
)
OF_TWO_FLOATS = (
    "{0} + {1}", "{0} - {1}", "{0} * {1}", "np.maximum({0}, {1})", "np.minimum({0}, {1})", "{0} / (np.abs({1}) + 1)",
    "np.where({0} > {1}, {0}, {1})", "np.arctan2({0}, np.abs({1}) + 1)", "np.copysign({0}, {1})", "(np.abs({0}) + 0.5) ** {1}",
)
OF_ANY_TWO = ("{0} + {1}", "{0} * {1}", "{0} - {1}", "np.maximum({0}, {1})", "{0} > {1}", "{0} <= {1}", "{0} == {1}",
              "{0} // ({1} * {1} + 1)")
OF_INTEGERS = ("{0} * 2 + 1", "-{0}", "{0} // 3", "{0} % 5", "np.abs({0})", "{0} ^ {1}", "{0} & {1}", "{0} | {1}", "{0} << 1", "{0} >> 1",
               "~{0}", "np.minimum({0}, {1})", "np.sign({0})", "{0} ** 2")
OF_BOOLS = ("~{0}", "{0} & {1}", "{0} | {1}", "{0} ^ {1}", "np.logical_and({0}, {1})")


@rule(3)
def float_function(c: Choice) -> Proposal:
    return c.one(OF_A_FLOAT), (c.value(is_float),)


@rule(3)
def two_floats(c: Choice) -> Proposal:
    x = c.value(is_float)
    return c.one(OF_TWO_FLOATS), (x, c.beside(x, is_float))


@rule(1.5)
def numbers_of_any_dtype(c: Choice) -> Proposal:
    x = c.value()
    return c.one(OF_ANY_TWO), (x, c.beside(x))


@rule()
def integer_function(c: Choice) -> Proposal:
    x = c.value(is_int)
    return c.one(OF_INTEGERS), (x, c.beside(x, is_int))


@rule()
def truth(c: Choice) -> Proposal:
    x = c.value(is_bool)
    return c.one(OF_BOOLS), (x, c.beside(x, is_bool))


@rule()
def choose(c: Choice) -> Proposal:
    x = c.value()
    y = c.beside(x)
    return "np.where({0}, {1}, {2})", (c.beside(x, is_bool), x, y)


@rule()
def cast(c: Choice) -> Proposal:
    """To any dtype but, for floats, one without a sign: what a negative number becomes there is the machine's choice."""
    x = c.value()
    kinds = [k for k in (*c.dtypes, "i32", "i64", "f64") if not (is_float(c.scope[x]) and k[0] == "u")]
    return f"{{0}}.astype({c.one(kinds)})", (x,)
