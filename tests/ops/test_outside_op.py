"""The ops of docs/write-your-own-op.md, in a module outside of the tree: they fuse, compile natively and differentiate."""

import pathlib
import re
import subprocess
import sys

import pytest

from nagraph.ir.op import Op
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


#: What an op has besides rules: what is made of them.
NO_RULES = {"result_types", "axis_facts", "has_effect", "may_end_the_call", "has_element", "on_host", "may_raise", "fused",
            "attributes", "regions", "with_attributes", "key", "count"}


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
