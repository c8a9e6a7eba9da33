"""The backend of docs/write-your-own-backend.md, installed from outside of the tree: it interprets kernels, over the whole suite of ops."""

import importlib
import pathlib
import re

import numpy as np
import pytest

import nagraph as ng
from nagraph import backends
from nagraph.backends.interface import Agreement, Backend
from nagraph.errors import LabelError, SignatureError
from nagraph.ir.types import DTYPES
from nagraph.nn import functional as F
from nagraph.ops.base import as_array
from nagraph.regions.calls import Call
from nagraph.testing import check, jitted, random_program
from tests.backends.installing import install
from tests.ops.test_every_op import ALL, samples
from tests.support import evaluate, graph_of
from tests.test_docs import BLOCK

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "write-your-own-backend.md"
OWN = backends.BACKENDS


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    blocks = [m["code"] for m in BLOCK.finditer(PAGE.read_text())]
    install(folder, "interpreter", "kernel_interpreter", "\n".join(blocks[:-1]))
    install(folder, "remote", "remote_interpreter", "from kernel_interpreter import REMOTE as BACKEND\n")
    install(folder, "wrong", "wrong_kind", "BACKEND = 3\n")
    install(folder, "misnamed", "misnamed", "from kernel_interpreter import BACKEND\n")
    install(folder, "broken", "broken", "import a_package_that_nobody_has\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        importlib.invalidate_caches()
        backends._found.cache_clear()
        yield folder
    backends._found.cache_clear()


@pytest.fixture
def interpreter(site):
    return backends.find("interpreter")


def test_the_page_builds_it_in_under_200_lines():
    code = "".join(m["code"] for m in BLOCK.finditer(PAGE.read_text()))
    assert len(code.splitlines()) < 200


def test_it_is_found_by_its_entry_point(site):
    assert backends.names() == (*OWN, "broken", "interpreter", "misnamed", "remote", "wrong")
    found = backends.find("interpreter")
    assert isinstance(found, Backend) and type(found).__module__ == "kernel_interpreter"
    assert found.agreement == Agreement(False, repeated=True, threads=True)


@pytest.mark.parametrize("name, said", [
    ("wrong", "backend 'wrong' is the entry point wrong_kind:BACKEND, which is no Backend: 3"),
    ("misnamed", "calls itself 'interpreter'; give both one name"),
    ("broken", r"backend 'broken' \(broken:BACKEND\) can't be imported: ModuleNotFoundError: No module named 'a_package"),
    ("interpretr", rf"unknown backend 'interpretr' \(did you mean interpreter\?\); there is {', '.join(OWN)}, broken, interpreter"),
])
def test_what_is_none_is_said(site, name, said):
    with pytest.raises(SignatureError, match=said):
        ng.compile(ng.trace(lambda x: x + 1, ng.spec((3,))), backend=name)


@pytest.mark.parametrize("name", [7, ["llvm"], b"llvm", ""])
def test_what_names_no_backend_is_said(name):
    with pytest.raises(SignatureError, match="there is llvm, "):
        ng.jit(lambda x: x + 1, backend=name)(np.ones(2))


@pytest.mark.parametrize("op", ALL, ids=str)
def test_every_op(interpreter, op):
    for operands in samples(op):
        graph, arrays = graph_of(op, operands), [as_array(x) for x in operands]
        for got, want in zip(ng.compile(graph, backend="interpreter")(*arrays), evaluate(graph, *arrays), strict=True):
            assert got.dtype == want.dtype and got.shape == want.shape
            np.testing.assert_allclose(got.astype("f8"), want.astype("f8"), rtol=1e-13, atol=1e-13)


def loops(x, n):
    def step(carry, row):
        total, count = carry
        return (total + row * count, count + 1), np.tanh(total)

    (total, _), seen = ng.scan(step, (np.zeros(3) + x[0] * 0, 1.0), x)
    grown = ng.while_loop(lambda v: v.sum() < n, lambda v: v * 2 + 1, np.abs(total))
    return ng.cond(n > 3, lambda v: v[::-1] * 2, lambda v: v - 1, grown), np.sort(seen, axis=1), np.argsort(-seen, axis=0)


@pytest.mark.parametrize("n", [2.0, 50.0])
def test_loops_branches_and_sorts(interpreter, n):
    x = np.random.default_rng(0).normal(size=(5, 3))
    for got, want in zip(ng.jit(loops, backend="interpreter")(x, n), ng.jit(loops, backend="numpy")(x, n), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-13)


def test_donated_arrays_are_updated_in_place(interpreter):
    step = ng.jit(lambda w, x: (w - 0.5 * x, (w * x).sum()), backend="interpreter", donate_argnames="w")
    w, x = np.arange(4.0), np.ones(4)
    new, total = step(w, x)
    assert new is w and total == 6 and w.tolist() == [-0.5, 0.5, 1.5, 2.5]


def test_the_arrays_of_the_page_live_elsewhere(site):
    step = ng.jit(lambda w, x: (w - 0.5 * x, (w * x).sum()), backend="remote", donate_argnames="w")
    w, x = np.arange(4.0), np.ones(4)
    for _ in range(2):
        w, total = step(w, x)
    assert type(w).__name__ == "RemoteArray" and ng.to_numpy(w).tolist() == [-1, 0, 1, 2] and ng.to_numpy(total) == 4
    with pytest.raises(TypeError, match="takes to_numpy"):
        np.asarray(w)


def test_labels_and_prints(interpreter, capsys):
    def loss(x, labels):
        ng.debug.print("x is {}", x[0, 0])
        return F.cross_entropy(x, labels).mean()

    run, x = ng.jit(loss, backend="interpreter"), np.arange(6.0).reshape(2, 3)
    np.testing.assert_allclose(run(x, np.array([0, 2])), loss(x, np.array([0, 2])))
    assert "x is 0" in capsys.readouterr().out
    with pytest.raises(LabelError, match="label 3"):
        run(x, np.array([0, 3]))


@pytest.mark.parametrize("seed", range(6))
def test_random_programs(interpreter, seed):
    """Kernels as fusion makes them."""
    found = check(random_program(seed), (jitted("interpreter", backend="interpreter"),), derivatives=False)
    assert not found, found


class Claiming(Backend):
    """The interpreter, but it computes softmax whole, has no float64, and may be told that something is missing."""

    name = "claiming"
    agreement = Agreement(reference=False)
    dtypes = frozenset(DTYPES.values()) - {DTYPES["f64"]}
    lacking = ""

    def __init__(self, inner):
        self.inner = inner
        self.pipeline = inner.pipeline.replace("expand", "expand{keep=('softmax',)}")

    def missing(self):
        return self.lacking

    def compile(self, graph, donations, threads=None):
        return self.inner.compile(graph, donations, threads)


@pytest.fixture
def claiming(interpreter, monkeypatch):
    made = Claiming(interpreter)
    before = backends.find
    monkeypatch.setattr(backends, "find", lambda name=None: made if name == "claiming" else before(name))
    return made


def test_a_composite_that_a_backend_claims_comes_whole(claiming):
    graph = ng.trace(lambda x: F.log_softmax(F.softmax(x)), ng.spec((2, 3)))
    exe = ng.compile(graph, backend="claiming")
    whole = [n.op.label for n in exe.graph.nodes if isinstance(n.op, Call) and n.op.kind == "composite"]
    assert whole == ["softmax"]
    x = np.float32([[1, 2, 3], [0, 0, 1]])
    np.testing.assert_allclose(exe(x)[0], F.log_softmax(F.softmax(x)), rtol=1e-5)


def test_dtypes_that_a_backend_has_not_are_refused(claiming):
    said = r"backend 'claiming' has no float64: .* is f64\[3\] \(cast, test_outside.py:\d+\); it has bool, i8, .*f32"
    with pytest.raises(SignatureError, match=said):
        ng.jit(lambda x: x.astype("float64").sum(), backend="claiming")(np.ones(3, "f4"))


def test_what_a_backend_lacks_is_said(claiming):
    claiming.lacking = "it wants a device; plug one in."
    with pytest.raises(SignatureError, match=re.escape("backend 'claiming' can't be used here: it wants a device; plug one in.")):
        ng.jit(lambda x: x + 1, backend="claiming")(np.ones(3, "f4"))


def test_a_backend_without_targets_says_so(interpreter):
    graph = ng.trace(lambda x: x + 1, ng.spec((3,)))
    with pytest.raises(SignatureError, match="backend 'interpreter' compiles for the machine that it runs on, and has no target 'sm_90'"):
        ng.compile(graph, backend="interpreter", target="sm_90")
    assert ng.compile(graph, backend="interpreter", target=None)(np.ones(3, "f4"))[0].tolist() == [2, 2, 2]
