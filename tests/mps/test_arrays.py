"""MLX's arrays in calls: their kind, what crosses, donation, errors; training on them."""

from __future__ import annotations

import collections
import re
import threading

import mlx.core as mx
import numpy as np
import pytest

import nagraph as ng
from nagraph import arrays, tree
from nagraph.backends.mps.arrays import KIND, MlxArrays
from nagraph.errors import DeviceError
from nagraph.ir.types import DTYPES
from nagraph.models.generation import generate
from nagraph.models.tasks.language import LanguageTask
from nagraph.models.training import Run
from tests.cli.running import TEXT, TINY, run
from tests.models.test_training import resume, save, task
from tests.mps.ways import op_by_op  # noqa: F401 - a fixture for all tests here

X = np.arange(6, dtype="f4").reshape(2, 3)


@pytest.fixture
def crossed(monkeypatch):
    """What crosses: "put" or "get", and a type."""
    found = collections.Counter()

    def put(self, array, device="", made=MlxArrays.from_numpy):
        found["put", str(arrays.type_of_array(array))] += 1
        return made(self, array, device)

    def get(self, array, made=MlxArrays.to_numpy):
        found["get", str(self.type(array))] += 1
        return made(self, array)

    monkeypatch.setattr(MlxArrays, "from_numpy", put)
    monkeypatch.setattr(MlxArrays, "to_numpy", get)
    return found


@pytest.mark.parametrize("name", [n for n in DTYPES if n != "f64"])
@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0), (2, 3)])
def test_there_and_back(name, shape):
    x = np.arange(int(np.prod(shape))).reshape(shape).astype(DTYPES[name])
    there = ng.device_put(x, "mps")
    assert type(there) is mx.array and arrays.type_of_array(there) == arrays.type_of_array(x) and arrays.kind_of(there) is KIND
    back = ng.to_numpy(there)
    assert back.dtype == x.dtype and back.shape == shape and back.tobytes() == x.tobytes()
    x[...] = 1
    assert ng.to_numpy(there).tobytes() == back.tobytes(), "what is written afterwards does not change it"


def test_a_copy_is_another_object():
    x = ng.device_put(X, "mps")
    y = arrays.copy(x)
    y[0] = 9
    np.testing.assert_array_equal(ng.to_numpy(x), X)


def test_results_are_fresh_arrays():
    x = ng.device_put(X, "mps")
    a, b, c, d = ng.jit(lambda x: (x, x, x * 1, np.full(3, 2.0, np.float32) + x[0] * 0), backend="mps", passes="")(x)
    assert len({id(v) for v in (x, a, b, c, d)}) == 5
    a[0] = 7
    np.testing.assert_array_equal(ng.to_numpy(b), X)
    np.testing.assert_array_equal(ng.to_numpy(x), X)


def test_mlx_arrays_say_which_backend_computes(crossed):
    f = ng.jit(lambda x, y: x @ y.T)
    found = f(mx.array(X), mx.array(X))
    assert type(found) is mx.array and not crossed and len(f.fast_paths) == 1
    f(mx.array(X), mx.transpose(mx.array(np.ascontiguousarray(X.T))))
    assert type(f(X, X)) is np.ndarray and type(ng.grad(lambda x: (x * x).sum())(mx.array(X))) is mx.array


def test_arrays_of_dtypes_that_graphs_do_not_hold():
    with pytest.raises(TypeError, match="complex64 is not one that a graph can hold"):
        ng.jit(lambda x: x + 1, backend="mps")(mx.array([1j]))


def test_calls_return_while_mlx_computes_and_results_were_asked_for(monkeypatch):
    asked = []
    monkeypatch.setattr(mx, "async_eval", lambda outputs, done=mx.async_eval: (asked.append(len(outputs)), done(outputs)))
    monkeypatch.setattr(mx, "eval", lambda *a: pytest.fail("waited"))
    ng.jit(lambda x: (x + 1, x * 2), backend="mps")(mx.array(X))
    assert asked == [2]


def test_donated_state_over_several_steps(crossed):
    """It crosses once, is never copied to the host, and the old arrays live on: MLX frees them when nobody holds them."""
    @ng.jit(backend="mps", donate_argnames="state")
    def step(state, x):
        return {"w": state["w"] - 0.1 * x.mean(axis=0)}, (state["w"] * x).sum()

    first, x = {"w": np.zeros(3, "f4")}, ng.device_put(X, "mps")
    crossed.clear()
    state, loss = step(first, x)
    kept = state
    assert crossed["put", "f32[3]"] == 1 and not any(way == "get" for way, _ in crossed)
    crossed.clear()
    for _ in range(3):
        state, loss = step(state, x)
    assert not crossed and type(state["w"]) is mx.array and first["w"].tolist() == [0, 0, 0]
    np.testing.assert_allclose(ng.to_numpy(state)["w"], -0.4 * X.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(ng.to_numpy(kept)["w"], -0.1 * X.mean(axis=0), rtol=1e-5)
    assert "state.w was donated but copied: it is MLX's, which takes its memory again when nobody holds it" in step.explain()


def test_training_carries_batches_and_losses_alone(crossed, tmp_path):
    there, here = Run(task(), "mps"), Run(task(), "numpy")
    crossed.clear()
    counts = []
    for _ in range(4):
        np.testing.assert_allclose(there.advance(), here.advance(), rtol=1e-4)
        counts.append(dict(crossed))
        crossed.clear()
    around = {("put", "i32[]"): 1, ("get", "f32[]"): 2}
    batch = {("put", str(arrays.type_of_array(x))): 1 for x in task().batch(0)}
    assert all(c == {**around, **batch} for c in counts[1:]) and sum(counts[0].values()) > len(around) + len(batch)
    save(there, tmp_path)
    again = resume(tmp_path)
    assert again.step == 4
    words = list(generate(here.state.average, [1, 2, 3], 6, seed=1, backend="numpy"))
    for cache in (True, False):
        assert list(generate(there.state.average, [1, 2, 3], 6, seed=1, backend="mps", cache=cache)) == words
    there.close(), here.close(), again.close()


def test_the_command_line_trains_and_tells(tmp_path, monkeypatch):
    monkeypatch.setattr(LanguageTask, "sample", 12)
    (tmp_path / "text.txt").write_text(TEXT)
    done = run("train", "gpt2", "--data", tmp_path / "text.txt", "--steps", 3, "--out", tmp_path / "run", "--backend", "mps", *TINY)
    assert done.code == 0 and done.err == "" and "operations" in done.out
    info = run("info")
    assert "usable on mps" in info.out and re.search(r"  MLX +\d+\.\d+\.\S+, on \S", info.out)


def test_what_mlx_raises_is_one_sentence_and_the_executable_stays_usable(monkeypatch):
    f = ng.jit(lambda x: x + 1, backend="mps")
    x = mx.array(X)
    f(x)
    with monkeypatch.context() as patch:
        def fail(*args):
            raise RuntimeError("[malloc] Unable to allocate 99 bytes.\nmore")

        patch.setattr(mx, "async_eval", fail)
        said = r"MLX failed: \[malloc\] Unable to allocate 99 bytes.; use a smaller batch, or free arrays"
        with pytest.raises(DeviceError, match=said) as told:
            f(x)
        assert "\n" not in str(told.value).partition(" (")[0]
    np.testing.assert_array_equal(ng.to_numpy(f(x)), X + 1)


def test_what_a_thread_compiled_goes_with_it(monkeypatch):
    """MLX would take Python's lock for it when the system's thread ends, which may be after Python has."""
    core, gone = pytest.importorskip("mlx.core"), []
    own = core.compile

    class Compiled:
        def __init__(self, function):
            self.call, self.thread = own(function), threading.get_ident()

        def __call__(self, arrays):
            return self.call(arrays)

        def __del__(self):
            gone.append((self.thread, threading.get_ident()))

    monkeypatch.setattr(core, "compile", Compiled)
    functions, idents = [ng.jit(lambda x: np.tanh(x) * 2, backend="mps")], []

    def call():
        idents.append(threading.get_ident())
        functions[0](np.ones(3, np.float32))

    for _ in range(3):
        thread = threading.Thread(target=call)
        thread.start()
        thread.join()
    assert [made for made, _ in gone] == idents and all(made == ended for made, ended in gone)
    call()
    functions.clear()
    ng.jit(lambda x: x + 1, backend="mps")(np.ones(3, np.float32))
    assert gone[3:] == [(threading.get_ident(),) * 2], "of functions that are gone nothing stays"


def test_threads_call_one_function():
    f = ng.jit(lambda x, w: np.tanh(x @ w.T) + x.sum(), backend="mps")
    x, found, failures = mx.array(X), [], []

    def call():
        try:
            for _ in range(5):
                found.append(ng.to_numpy(f(x, x)))
        except Exception as error:  # noqa: BLE001
            failures.append(error)

    threads = [threading.Thread(target=call) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(60)
    assert not failures and len({y.tobytes() for y in found}) == 1 and len(found) == 20


def test_trees_of_arrays_are_saved_and_loaded(tmp_path):
    state = ng.device_put({"w": X, "b": X[0].astype(ng.bfloat16)}, "mps")
    ng.save(tmp_path / "state.safetensors", state)
    loaded = ng.load(tmp_path / "state.safetensors", state)
    assert all(type(v) is mx.array for v in tree.leaves(loaded))
    np.testing.assert_array_equal(ng.to_numpy(loaded)["w"], X)
