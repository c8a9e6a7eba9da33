"""Arrays that live where a backend computes, and that nobody else can read: calls, places, models and files; crossings are counted."""

import re

import numpy as np
import pytest
from click.testing import CliRunner

import nagraph as ng
from nagraph import arrays, tree
from nagraph.cli import cli
from nagraph.errors import CheckpointError, DeviceError, SignatureError
from nagraph.ir.types import TensorType
from nagraph.models.workloads import Workload
from tests.backends.crossings import types
from tests.consistency.test_every_function import ROWS, same
from tests.consistency.ways import taken_apart
from tests.support import warned

pytestmark = pytest.mark.usefixtures("opaque_module")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
BIG = np.ones((600, 512), np.float32)  # 1.2 MB


# -- calls -----------------------------------------------------------------------------------------------------------


def test_results_are_of_the_backends_kind_and_stay_there(opaque, crossed):
    step = ng.jit(lambda t, x: {"a": t["a"] * 2 + x, "n": None}, backend="opaque")
    t = step({"a": X, "n": None}, X)
    assert type(t["a"]) is opaque and t["a"].device == "opaque:0"
    assert crossed() == types("put", [X, X])
    for _ in range(3):
        t = step(t, t["a"])
    assert not crossed() and step.cache_info() == (3, 1, 1) and len(step.fast_paths) == 2
    np.testing.assert_array_equal(ng.to_numpy(t)["a"], X * 81)


def test_the_fast_path_brings_what_crossed_before(monkeypatch, opaque, crossed):
    f = ng.jit(lambda w, x: w + x, backend="opaque")
    w = ng.device_put(X, "opaque:1")
    f(w, X)
    monkeypatch.setattr(type(f), "_bind", lambda *a: pytest.fail("taken apart"))
    crossed()
    found = f(w, X * 2)
    assert type(found) is opaque and found.device == "opaque:1" and crossed() == types("put", [X])
    monkeypatch.undo()
    np.testing.assert_array_equal(ng.to_numpy(found), X * 3)
    for args in ((w, np.float32(1)), (X, w), (w, X[:1]), (w, X.T.copy().T), (w, X.astype(">f4"))):
        np.testing.assert_array_equal(ng.to_numpy(f(*args)), sum(map(ng.to_numpy, args)))


def test_arrays_say_which_backend_computes_where_none_is_named(opaque):
    f = ng.jit(lambda x, y: x - y)
    assert type(f(X, X)) is np.ndarray
    for _ in range(2):
        found = f(ng.device_put(X, "opaque:1"), X)
        assert type(found) is opaque and found.device == "opaque:1"
    assert type(f(X, X)) is np.ndarray and f.cache_info().size == 2
    assert type(ng.jit(lambda x: x, backend="llvm")(ng.device_put(X, "opaque"))) is np.ndarray


def test_arrays_on_two_devices_are_refused_with_both_names(crossed):
    f = ng.jit(lambda model, x: model["w"] @ x, backend="opaque")
    model, x = ng.device_put({"w": X}, "opaque:1"), ng.device_put(X.T.copy(), "opaque:0")
    said = r"argument model.w is on opaque:1, .*argument x on opaque:0: .*ng.device_put\(x, 'opaque:1'\) \(test_arrays.py:\d+\)"
    with pytest.raises(DeviceError, match=said):
        f(model, x)
    crossed()
    np.testing.assert_array_equal(ng.to_numpy(f(model, ng.device_put(x, "opaque:1"))), X @ X.T)
    assert crossed() == {("move", TensorType(np.dtype("f4"), (3, 2))): 1, ("get", TensorType(np.dtype("f4"), (2, 2))): 1}


def test_donated_arrays_die_and_those_that_meet_another_do_not(opaque):
    f = ng.jit(lambda s, x: s + x, backend="opaque", donate_argnames="s")
    for _ in range(2):  # in full, then by the fast path
        s, x = ng.device_put(X, "opaque"), ng.device_put(X, "opaque")
        memory = s.memory
        assert f(s, x).memory is memory and s._memory is None and x._memory is not None
    s = ng.device_put(X, "opaque")
    np.testing.assert_array_equal(ng.to_numpy(f(s, s)), X + X)
    np.testing.assert_array_equal(ng.to_numpy(s), X)
    assert "s was donated but copied: it overlaps another argument" in f.explain()
    kept = X.copy()
    f(kept, X)
    np.testing.assert_array_equal(kept, X)


def test_executables_take_arrays_of_all_kinds(opaque, crossed):
    exe = ng.compile(ng.trace(lambda x, y: x + y, X, X), backend="opaque")
    (found,) = exe(X, ng.device_put(X, "opaque:1"))
    assert type(found) is opaque and found.device == "opaque:1"
    (back,) = ng.compile(exe.graph, backend="llvm")(found, X.T.copy().T)
    np.testing.assert_array_equal(back, X * 3)
    with pytest.raises(SignatureError, match=r"input y is f32\[2,3\], got f32\[6\]"):
        exe(X, ng.device_put(X.reshape(-1), "opaque"))


def test_bound_arguments_cross_once(crossed):
    f = ng.jit(lambda model, x: model["w"] * x, backend="opaque").bind({"w": X, "n": None})
    assert crossed() == types("put", [X])
    for _ in range(3):
        f(np.float32(2))
    assert all(t.size == 1 for _, t in crossed())


def test_calls_of_bound_functions_go_the_fast_path(monkeypatch, opaque, crossed):
    jitted = ng.jit(lambda model, x: model["w"] * x, backend="opaque")
    f, x = jitted.bind({"w": X, "n": None}), np.float32([1, 2, 3])
    f(x)
    monkeypatch.setattr(type(jitted), "_bind", lambda *a: pytest.fail("taken apart"))
    crossed()
    found = [f(x), f(x)]
    assert crossed() == {("put", TensorType(np.dtype("f4"), (3,))): 2}
    np.testing.assert_array_equal(ng.to_numpy(found[1]), X * x)


def test_a_backend_and_its_executables_have_one_kind(opaque_module, monkeypatch):
    monkeypatch.setattr(opaque_module.OpaqueExecutable, "array_kind", arrays.HOST)
    with pytest.raises(SignatureError, match="'opaque' has arrays of Opaque, and executables on arrays of NumPy: array_kind must be one"):
        ng.jit(lambda x: x + 1, backend="opaque")(X)


def test_timed_calls_run_on_the_device_and_wait(monkeypatch, opaque_module, opaque, crossed):
    waited = []
    monkeypatch.setattr(opaque_module.OpaqueKind, "wait", lambda self, x: waited.append(x))
    work = Workload("w", lambda backend, threads: ng.jit(lambda s, x: (s + x, s.sum()), backend=backend, donate_argnames="s"), (X, X), 1)
    call = work.calls("opaque")
    for _ in range(3):
        results = call()
    assert crossed() == types("put", [X, X]) and len(waited) == 6 and waited[-1] is results[1]
    assert isinstance(work.calls("llvm")()[0], np.ndarray)


def test_the_command_line_tells_its_devices():
    done = CliRunner().invoke(cli, ["info"])
    assert "usable on opaque:0, opaque:1" in done.output and not re.search("llvm +usable on", done.output)


def test_a_device_without_float64_takes_python_floats_and_refuses_arrays(opaque_module, monkeypatch, opaque):
    monkeypatch.setattr(opaque_module.OpaqueBackend, "dtypes", opaque_module.OpaqueBackend.dtypes - {np.dtype("f8")})
    x = ng.device_put(X, "opaque")
    for f in (ng.jit(lambda x, rate: x * rate + rate * 2.0, backend="opaque"), ng.jit(lambda x, rate: x * rate + rate * 2.0)):
        assert str(f.lower(x, 0.1).graph.inputs[1].type) == "f32[]"
        np.testing.assert_array_equal(ng.to_numpy(f(x, 0.1)), X * np.float32(0.1) + np.float32(0.1) * np.float32(2))
    gradient = ng.grad(lambda x, rate: (x * x * rate).sum())(x, 0.5)
    np.testing.assert_array_equal(ng.to_numpy(gradient), X)
    with pytest.raises(SignatureError, match=r"backend 'opaque' has no float64: y is f64\[2,3\]"):
        ng.jit(lambda x, y: x + y, backend="opaque")(x, X.astype("f8"))
    with pytest.raises(DeviceError, match=r"device_put: w is f64\[2,3\], and backend 'opaque' has no float64; convert it first"):
        ng.device_put({"w": X.astype("f8")}, "opaque")


def test_arrays_that_are_never_written_are_donated_to_no_harm(opaque_module, monkeypatch, opaque):
    monkeypatch.setattr(opaque_module.OpaqueKind, "not_donatable", lambda self, x: "is never written")
    monkeypatch.setattr(opaque_module.OpaqueExecutable, "has_fast_path", False)
    f, s = ng.jit(lambda s, x: s + x, backend="opaque", donate_argnames="s"), ng.device_put(X, "opaque")
    np.testing.assert_array_equal(ng.to_numpy(f(s, X)), X + X)
    np.testing.assert_array_equal(ng.to_numpy(s), X)
    assert "s was donated but copied: it is never written" in f.explain()


def test_labels_are_checked_on_a_device_as_well():
    f = ng.jit(lambda x, labels: ng.nn.losses.cross_entropy(x, labels), backend="opaque")
    with pytest.raises(ng.errors.LabelError, match="label 7"):
        f(ng.device_put(X, "opaque"), ng.device_put(np.array([0, 7]), "opaque"))


# -- said openly, and silently --------------------------------------------------------------------------------------------


def test_trees_go_there_and_back(opaque, crossed):
    there = ng.device_put({"a": X, "b": [X[0], None, 2.0], "c": np.float64(3)}, "opaque")
    assert [type(x) for x in tree.leaves(there)] == [opaque, opaque, type(None), float, opaque]
    assert ng.device_put(there, "opaque:0")["a"] is there["a"] and ng.device_put(there, "opaque")["a"] is there["a"]
    back = ng.to_numpy(there)
    assert back["b"][1:] == [None, 2.0] and back["c"] == 3 and type(back["a"]) is np.ndarray
    crossed()
    assert ng.to_numpy(back)["a"] is back["a"] and ng.device_put(back, "cpu")["a"] is back["a"] is ng.device_put(back, "llvm")["a"]
    assert not crossed()


def test_traced_values_and_types_pass_through(crossed):
    spec = ng.spec((2,))
    assert ng.device_put(spec, "opaque") is spec and ng.to_numpy({"x": spec})["x"] is spec
    f = ng.jit(lambda x: ng.to_numpy(ng.device_put(x, "opaque:1")) * 2)
    np.testing.assert_array_equal(f(X), X * 2)
    assert not crossed()


@pytest.mark.parametrize("value, where, said", [
    (X, "opaque:7", "there is no device 'opaque:7'; backend 'opaque' has opaque:0, opaque:1"),
    (X, "opaqe", r"there is no device 'opaqe' \(did you mean opaque\?\); there is cpu, llvm, .*numpy, .*opaque"),
    (X, 3, "there is no device 3; there is cpu, llvm"),
    ({"w": [X, "text"]}, "opaque", r"device_put: w.1: str is no array: 'text'"),
    ({"w": X.astype("u2")}, "opaque", r"device_put: w is u16\[2,3\], and backend 'opaque' has no uint16; convert it first"),
    (X * 1j, "opaque", "device_put: the array: dtype complex64 is not one that a graph can hold"),
    ({"w": [X, "text"]}, "cpu", r"device_put: w.1: str is no array: 'text'"),
    (X, "cpu:0", r"there is no device 'cpu:0' \(did you mean cpu\?\); there is cpu, llvm"),
])
def test_what_can_not_be_put_is_said(opaque_module, value, where, said):
    with pytest.raises(DeviceError, match=said):
        ng.device_put(value, where)


@pytest.mark.parametrize("fast", [True, False])
def test_a_large_transfer_in_a_loop_is_reported_once_with_its_argument_and_the_cure(monkeypatch, fast):
    f = ng.jit(lambda params, x, y: (params["w"] * x.sum() + y).sum(), backend="opaque")
    if not fast:
        monkeypatch.setattr("nagraph.compiler.fast_path.FastPath.serves", staticmethod(lambda *a: False))
    there, small = ng.device_put({"w": BIG}, "opaque"), X
    assert not warned(lambda: [f(there, small, ng.device_put(BIG, "opaque")) for _ in range(5)])
    (said,) = warned(lambda: [f(there, small, BIG) for _ in range(6)])
    assert said.startswith("lambda: argument y (1.2 MB, of which f32[600,512]) was copied from cpu to opaque:0 at each of 3 calls (test_")
    assert "x = ng.device_put(x, 'opaque:0')" in said
    halves = {f"w{i}": BIG[:300] for i in range(3)}
    g = ng.jit(lambda params: sum(w.sum() for w in params.values()), backend="opaque")
    (said,) = warned(lambda: [g(halves) for _ in range(6)])
    assert "argument params (1.8 MB, of which f32[300,512])" in said


def test_arrays_of_a_device_that_the_cpu_computes_on_again_and_again_are_reported():
    f, there = ng.jit(lambda x: x.sum(), backend="llvm"), ng.device_put(BIG, "opaque")
    (said,) = warned(lambda: [f(there) for _ in range(5)])
    assert "was copied from opaque:0 to cpu" in said and "ng.to_numpy(x)" in said
    gradient = ng.grad(lambda x, y: (x * y).sum())
    (said,) = warned(lambda: [gradient(there, BIG) for _ in range(5)])
    assert "argument y (1.2 MB" in said and "from cpu to opaque:0" in said


# -- eager calls, captures, transforms ----------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", sorted(ROWS))
def test_a_function_refuses_them_eagerly_and_takes_them_inside_a_trace(opaque_module, name):
    function, _, ((args, kwargs), *_) = ROWS[name]
    given, put = taken_apart(args, kwargs)

    def call(xs):
        args, kwargs = put(xs)
        return tree.leaves(function(*args, **kwargs))

    expected = None
    for i, x in enumerate(given):
        if type(x) is not np.ndarray:
            continue
        there = [*given[:i], ng.device_put(x, "opaque"), *given[i + 1:]]
        if name in ("numpy.shape", "numpy.ndim", "numpy.size"):  # which read none of them
            assert call(there) == call(given)
            continue
        if name != "functional.stop_gradient":  # which does nothing outside of a trace
            with pytest.raises(DeviceError, match=r"compute with NumPy, and got .* of Opaque on opaque:0; .*ng.jit.*ng.to_numpy\(x\)"):
                call(there)
        expected = [np.asarray(y) for y in call(given)] if expected is None else expected
        same([np.asarray(y) for y in ng.jit(lambda there=there: call(there), backend="numpy")()], expected, name)


def test_refusals_name_the_users_line(opaque_module):
    with pytest.raises(DeviceError, match=r"got f32\[2,3\] of Opaque on opaque:0; .*\(test_arrays.py:\d+\)"):
        ng.numpy.tanh(ng.device_put(X, "opaque"))


def f(x):
    return (x * x * x).sum()


def test_transforms_run_where_the_arrays_are(opaque, crossed):
    x, v = ng.device_put((X[0], X[1]), "opaque:1")
    crossed()
    y, pull = ng.vjp(lambda x: x * x, x)
    found = {"grad": ng.grad(f)(x), "value": ng.value_and_grad(f)(x)[0], "jvp": ng.jvp(f, (x,), (v,))[1], "hvp": ng.hvp(f, x, v),
             "hessian": ng.hessian(f)(x), "jacobian": ng.jacobian(lambda x: x * x)(x), "vmap": ng.vmap(lambda a: a * 2)(x),
             "vjp": pull(v)[0], "scan": ng.scan(lambda c, a: (c + a, c), np.float32(0), x)[0],
             "cond": ng.cond(True, lambda a: a + 1, lambda a: a, x)}
    assert all(type(a) is opaque and a.device == "opaque:1" for a in (*found.values(), y))
    assert all(t.size == 1 for _, t in crossed()), "numbers alone"
    a, b = X
    expected = {"grad": 3 * a * a, "value": f(a), "jvp": (3 * a * a * b).sum(), "hvp": 6 * a * b, "hessian": np.diag(6 * a),
                "jacobian": np.diag(2 * a), "vmap": 2 * a, "vjp": 2 * a * b, "scan": a.sum(), "cond": a + 1}
    for name, y in ng.to_numpy(found).items():
        np.testing.assert_allclose(y, expected[name], rtol=1e-6, err_msg=name)


def test_captured_arrays_of_a_transform_stay_where_they_are(opaque, crossed):
    w = ng.device_put(X, "opaque")
    crossed()
    gradient = ng.grad(lambda x: (x * w).sum())
    found = gradient(w)
    assert type(found) is opaque and not crossed()
    assert type(gradient(X)) is opaque and crossed() == types("put", [X])
    y, pull = ng.vjp(lambda x: x * w, w)
    w.memory[:] = -1  # what is written afterwards is not seen
    np.testing.assert_array_equal(ng.to_numpy(pull(ng.device_put(np.ones_like(X), "opaque"))[0]), X)


def test_an_array_captured_by_jit_is_read_once(crossed):
    w = ng.device_put(BIG, "opaque")
    crossed()
    f = ng.jit(lambda x: (x * w + w).sum(), backend="llvm")
    said = warned(lambda: [f(np.float32(1)) for _ in range(3)])
    assert crossed() == types("get", [w]) and len(said) == 1 and "is captured as a constant" in said[0]


# -- models, optimisers, files -----------------------------------------------------------------------------------------


def test_modules_and_optimisers_work_where_the_parameters_are(opaque, crossed):
    layer = ng.nn.Linear.init(ng.random.key(0), 3, 2)
    there = ng.device_put(layer, "opaque")
    assert repr(there) == repr(layer) and there.parameter_count == layer.parameter_count == 8
    crossed()
    assert str(arrays.type_of_array(there.astype("f16").weight)) == "f16[3,2]"
    state = ng.optim.AdamW(1e-3).init(there)
    assert all(type(x) is opaque for x in tree.leaves(state)) and all(t.size == 1 for _, t in crossed()), "zeros are made there"
    with pytest.raises(DeviceError, match="ng.jit"):
        ng.optim.AdamW(1e-3).update(there, there, state)


def test_files_are_read_to_where_the_arrays_were(tmp_path, opaque, crossed):
    there = ng.device_put({"a": X, "b": X[0]}, "opaque:1")
    crossed()
    ng.save(tmp_path / "x.safetensors", there)
    assert crossed() == types("get", there)
    again = ng.load(tmp_path / "x.safetensors", there)
    assert crossed() == types("put", there) and again["a"].device == "opaque:1"
    np.testing.assert_array_equal(ng.to_numpy(again["a"]), X)
    with pytest.raises(CheckpointError, match=r"tensor a is float32\[2, 3\], expected float32\[3\]"):
        ng.load(tmp_path / "x.safetensors", {"a": there["b"]})


def test_printing_reads_what_it_prints(crossed, capsys):
    x = ng.device_put(X[0], "opaque")
    crossed()
    assert ng.debug.print("x = {}", x) is x and capsys.readouterr().out == "x = [0. 1. 2.]\n"
    assert crossed() == types("get", [x])
    assert ng.debug.first_not_finite(lambda x: np.log(x), x).startswith("an infinity comes first from log")
