"""The ops of docs/write-your-own-op.md, in a module outside of the tree: they fuse, compile natively and differentiate."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

import nagraph as ng
from nagraph.errors import TypeRuleError
from nagraph.ir.op import Op, op
from nagraph.ops.base import Elementwise, Linear, Multilinear, Primitive
from nagraph.ops.folding import Folding
from tests.test_docs import BLOCK

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "write-your-own-op.md"

CHECK = """
import numpy as np
import nagraph as ng
import their_ops

def f(x):
    return ng.numpy.tanh(their_ops.comb(their_ops.softsign(x), 1, 2)) * 2

def kernels(fn, *arrays):
    exe = ng.compile(ng.trace(fn, *(ng.spec(a.shape, a.dtype) for a in arrays)), backend="llvm")
    return exe, sum(not s.view and not s.joined for s in exe.plan.steps if s.results and s.operands)

x = np.random.default_rng(0).normal(size=(64, 300)).astype(np.float32)
exe, count = kernels(f, x)
assert count == 1, str(exe.graph)
expected = np.tanh((x / (1 + np.abs(x)))[:, 1::2]) * 2
np.testing.assert_allclose(exe(x)[0], expected, rtol=1e-5, atol=1e-6)

slope = ng.jit(ng.grad(lambda x: f(x).sum()))(x)
s = x / (1 + np.abs(x))
wanted = np.where(np.arange(300) % 2 == 1, 2 * (1 - np.tanh(s) ** 2) / (1 + np.abs(x)) ** 2, 0)
np.testing.assert_allclose(slope, wanted, rtol=1e-4, atol=1e-6)
alone = ng.jit(f, backend="numpy")(x)
np.testing.assert_allclose(alone, expected, rtol=1e-5, atol=1e-6)

del their_ops.Comb.axis_relations  # then it is a kernel of its own, and all else stays
exe, count = kernels(f, x)
assert count == 3, str(exe.graph)
np.testing.assert_allclose(exe(x)[0], expected, rtol=1e-5, atol=1e-6)
"""


def test_they_fuse_compile_natively_and_differentiate(tmp_path):
    blocks = [m["code"] for m in BLOCK.finditer(PAGE.read_text()) if "@op" in m["code"]]
    assert len(blocks) == 3
    (tmp_path / "their_ops.py").write_text("\n".join(blocks))
    done = subprocess.run([sys.executable, "-W", "error", "-c", CHECK], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@op
class Careless(Primitive):
    """Twice its operand, with rules that give what `given` makes of what they should give."""

    name = "careless"
    given: str

    def infer(self, x):
        return {"fewer": None, "other": x.shape}.get(self.given.removeprefix("infer "), x)

    def reference(self, x):
        return 2 * x

    def made(self, y):
        return {"none": (), "two": (y, y), "bare": y, "sum": (ng.numpy.sum(y),), "number": (2.0,), "zero": (None,)}[self.given]

    def vjp(self, cotangents, results, operands):
        return self.made(cotangents[0] * 2)

    def jvp(self, tangents, results, operands):
        return self.made(tangents[0] * 2)

    def batch(self, size, operands, batched):
        return self.made(operands[0] * 2)


TRANSFORMS = {
    "vjp": lambda f, x: ng.grad(lambda x: ng.numpy.sum(f(x * x)))(x),
    "jvp": lambda f, x: ng.jvp(lambda x: f(x * x), (x,), (x,)),
    "batch": lambda f, x: ng.vmap(f)(x * x),
}


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("rule", list(TRANSFORMS))
def test_a_rule_that_gives_something_else_is_refused_by_name(rule, dtype):
    """Else a sum would be repeated where it is multiplied, and a wrong derivative come out."""
    x = np.ones((2, 3), dtype)
    for given, words in {"none": "a tuple of 1, got 0", "two": "a tuple of 1, got 2", "bare": "a tuple of 1, got a ",
                         "sum": r"must have the shape \[2, 3\], got f\d\d\[\]", "number": r"must have the shape \[2, 3\], got a float",
                         **({"zero": r"must have the shape \[2, 3\], got None"} if rule == "batch" else {})}.items():
        with pytest.raises(TypeRuleError, match=rf"^careless: .*its {rule} gives.*{words}.*\(test_outside_op.py:\d+\)$"):
            ng.jit(lambda x, given=given: TRANSFORMS[rule](Careless(given), x))(x)


@pytest.mark.parametrize("given", ["infer fewer", "infer other"])
def test_a_type_rule_that_gives_no_types_is_refused_by_name(given):
    with pytest.raises(TypeRuleError, match="^careless: its infer gives a TensorType, or a tuple of them, got "):
        ng.jit(Careless(given))(np.ones(3))


#: What an op has besides rules: what is made of them.
NO_RULES = {"result_types", "axis_facts", "has_effect", "may_end_the_call", "has_element", "on_host", "may_raise", "fused",
            "attributes", "regions", "with_attributes", "key", "count", "dims"}


def test_the_page_names_every_rule():
    rules = {name for kind in (Op, Primitive, Elementwise, Linear, Multilinear, Folding)
             for name in (*vars(kind), *kind.__annotations__) if not name.startswith("_")}
    assert rules > NO_RULES
    table = PAGE.read_text().partition("| rule | what it says | without it |")[2].partition("\n\n")[0]
    rows = [line.split("|")[1:-1] for line in table.splitlines()[2:]]
    assert all(len(row) == 3 and all(cell.strip() for cell in row) for row in rows)
    assert {name for row in rows for name in re.findall(r"`(\w+)`", row[0])} == rules - NO_RULES


@pytest.mark.parametrize("base", [Elementwise, Linear, Multilinear, Folding, Primitive])
def test_the_page_names_every_family(base):
    assert f"| `{base.__name__}` |" in PAGE.read_text()
