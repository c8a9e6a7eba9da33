"""A small cut of `python -m tests.gpu`: ops, sizes and orders from their real text, and planted faults."""

from __future__ import annotations

import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.on_cpu.compiler import missing
from nagraph.backends.gpu.on_cpu.kernels import Kernels
from tests.gpu.__main__ import check_cases
from tests.gpu.cases import Case, op_cases, order_cases, size_cases
from tests.gpu.compare import compare, installed
from tests.gpu.mutations import plant, seen

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.mark.parametrize("dialect, first", [("cuda", 0), ("metal", 3)])
def test_a_cut_of_all_cases(dialect, first, capsys):
    cases = [*list(op_cases(("f32",)))[first::16], *list(order_cases())[first::58], *list(size_cases())[first::34]]
    assert check_cases(cases, dialect, "watch", [2]) == []
    assert 10 < int(re.search(r"(\d+) graphs", said := capsys.readouterr().out)[1]) and "0 wrong" in said


def test_planted_faults_are_seen():
    """One text changed by each of some seeds; what the right programs give is right."""
    x = np.random.default_rng(0).normal(size=(5, 300)).astype("f4")
    cases = [Case("softmax", ng.trace(lambda x: ng.nn.functional.softmax(x), x), [x]),
             Case("sums", ng.trace(lambda x: (x.sum(0), ng.numpy.argmax(x, 1)), x), [x])]
    kernels = Kernels("cuda", "watch")
    with installed(kernels) as backend:
        right = [(case, ng.compile(case.graph, backend=backend)) for case in cases]
        planted = [plant(cases, kernels, backend, seed) for seed in range(6)]
        assert [compare(case, exe(*case.operands)) for case, exe in right] == ["", ""]
        assert len({m.operator for m in planted}) > 3
        missed = [m for m in planted if not seen(m, kernels)]
    assert len(missed) <= 1, [(m.operator, m.what) for m in missed]


def test_what_hangs_on_rounding_alone_may_move_as_far_as_rounding_moves_it():
    """A sum of numbers that cancel: half a unit in the last place of any of them is more than 64 of the sum."""
    x = np.random.default_rng(0).normal(size=4000).astype("f4") * 1000
    x = np.concatenate([x, -x[::-1], np.float32([1e-3])])
    case = Case("cancelling", ng.trace(lambda x: x.sum(), x), [x])
    (want,) = ng.compile(case.graph, backend="numpy")(x)
    assert compare(case, (want + np.float32(0.004),)) == "", "one unit of the numbers"
    assert "off by" in compare(case, (want + np.float32(10),))


def test_what_compares_says_what_is_wrong():
    x = np.float32([1, 2, np.nan])
    sums = Case("x", ng.trace(lambda x: x + x, x), [x])
    exact = sums._replace(exact=True)
    assert compare(sums, (x + x,)) == compare(exact, (x + x,)) == ""
    near = np.nextafter(x + x, np.float32(9))
    assert compare(sums, (near,)) == "" and "2 of 3 elements differ, the first 0" in compare(exact, (near,))
    assert "off by" in compare(sums, (x + x + np.float32(0.01),))
    assert "not finite elsewhere" in compare(sums, (np.float32([2, np.inf, np.nan]),))
    assert "in place of f32" in compare(sums, (x.astype("f8"),)) or "float64[3] in place of float32[3]" in compare(sums, (x.astype("f8"),))
