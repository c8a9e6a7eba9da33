"""CuPy's driver and its kind of arrays, over a stand-in for CuPy that runs the CUDA text on this CPU."""

import sys
import types

import numpy as np
import pytest

import nagraph as ng
from nagraph import arrays
from nagraph.backends.cuda import cuda_errors, executable, nvrtc
from nagraph.backends.cuda import cupy_driver as driver_module
from nagraph.backends.cuda.cupy_driver import CuPyDriver
from nagraph.backends.cuda.products import product_of
from nagraph.backends.gpu.products.library import LibraryProduct, Matrix
from nagraph.compiler import places
from nagraph.errors import DeviceError, DeviceMemoryError, LabelError
from nagraph.ir.types import DTYPES
from nagraph.nn import functional as F
from tests.backends.cuda import stand_in

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 8)).astype(np.float32)


@pytest.fixture
def cupy(monkeypatch):
    made = stand_in.cupy()
    monkeypatch.setitem(sys.modules, "cupy", made)
    monkeypatch.setattr(cuda_errors, "_loaded_in", None)
    monkeypatch.setattr(cuda_errors, "_is_installed", lambda: True)
    monkeypatch.setattr(executable, "DRIVER", CuPyDriver())
    monkeypatch.setattr(nvrtc, "missing", lambda: "")
    monkeypatch.setattr(nvrtc, "version", lambda: "0.0")
    monkeypatch.setattr(nvrtc, "built", stand_in.built)
    monkeypatch.setenv("NAGRAPH_CACHE", "off")
    arrays._by_class.clear()
    places.owner.cache_clear()
    yield made
    stand_in.COMPILED.update(made.state.compiled)
    arrays._by_class.clear()
    places.owner.cache_clear()


def update(state, x, labels):
    loss, grad = ng.value_and_grad(lambda w: F.cross_entropy(x @ w, labels).mean())(state)
    return state - 0.1 * grad, loss


def test_training_donates_captures_and_replays(cupy):
    step = ng.jit(update, backend="cuda", donate_argnames="state")
    state, host, labels = ng.device_put(np.eye(8, dtype=np.float32), "cuda"), np.eye(8, dtype=np.float32), np.arange(6)
    assert type(state) is cupy.ndarray
    for n in range(4):
        before, graphs = state, cupy.state.graphs
        state, loss = step(state, X, labels)
        host, expected = ng.jit(update)(host, X, labels)
        assert state is before and (cupy.state.graphs > graphs) == (n == 1)
        np.testing.assert_allclose(ng.to_numpy(state), host, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(float(ng.to_numpy(loss)), expected, rtol=1e-5)
    with pytest.raises(LabelError, match="label 8"):
        step(state, X, labels + 4)
    np.testing.assert_allclose(ng.to_numpy(state), host, rtol=1e-5, atol=1e-6)


def test_loops_and_branches(cupy):
    def run(xs, n):
        h, ys = ng.scan(lambda c, x: (np.tanh(c + x), c * 2), xs[0] * 0, xs)
        grown = ng.while_loop(lambda v: v.sum() < n, lambda v: v * 2 + 1, np.abs(h))
        return ng.cond(n > 3, lambda v: v[::-1], lambda v: -v, grown), ys

    step = ng.jit(run, backend="cuda")
    for n in (2.0, 30.0, 30.0):
        found = step(X, np.float32(n))
        assert all(type(y) is cupy.ndarray for y in found)
        for a, b in zip(ng.to_numpy(found), ng.jit(run)(X, np.float32(n))):
            np.testing.assert_allclose(a, b, rtol=1e-5)


def test_arrays_of_all_kinds(cupy):
    kind = ng.backends.find("cuda").array_kind
    f = ng.jit(lambda x: x * 2 + 1)
    x = ng.device_put(X, "cuda")
    for dtype in (np.float32, np.float64, ng.bfloat16, np.int8, np.bool_):
        a = X.astype(dtype)
        there = ng.device_put(a, "cuda:1")
        assert str(kind.type(there)) == str(arrays.type_of_array(a)) and kind.device(there) == "cuda:1"
        np.testing.assert_array_equal(ng.to_numpy(there), a)
    assert kind.devices() == ("cuda:0", "cuda:1")
    with cupy.cuda.Device(1):
        assert kind.devices() == ("cuda:1", "cuda:0") and kind.device(ng.device_put(X, "cuda")) == "cuda:1"
    for given, wanted in ((x, X), (x.row(2), X[2]), (x.T(), X.T)):
        np.testing.assert_array_equal(ng.to_numpy(f(given)), wanted * 2 + 1)
    odd = ng.device_put(np.arange(30, dtype=np.float32).reshape(10, 3), "cuda").row(1)  # begins at no multiple of 16 bytes
    np.testing.assert_array_equal(ng.to_numpy(f(odd)), np.arange(3, 6) * 2 + 1)
    moved = kind.move(x, "cuda:1")
    assert kind.device(moved) == "cuda:1" and (ng.to_numpy(moved) == X).all()
    assert kind.overlapping([x, x.row(1), moved]) == {0, 1} and kind.not_donatable(x) == ""
    assert kind.not_donatable(x.row(0)) == "does not own its memory" and kind.not_donatable(x.T()) == "is not C-contiguous"
    written = X.copy()
    there = ng.device_put(written, "cuda")
    written[:] = 0
    np.testing.assert_array_equal(ng.to_numpy(there), X)


def test_arrays_of_other_libraries_are_taken_where_they_are(cupy):
    class Tensor:
        """As PyTorch's: it speaks DLPack."""

        def __init__(self, array, device):
            self.array, self.at, self.shape, self.dtype = array, device, array.shape, array.dtype

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.at

    f = ng.jit(lambda x: x * 2, backend="cuda")
    inner = ng.device_put(X, "cuda:1")
    there, here = Tensor(inner, (2, 1)), Tensor(X, (1, 0))
    assert ng.device_put(there, "cuda:1") is inner, "its memory is shared"
    for x in (there, here):
        np.testing.assert_array_equal(ng.to_numpy(f(x)), X * 2)
    cupy.from_dlpack = lambda x: (_ for _ in ()).throw(BufferError("it is read-only"))
    with pytest.raises(DeviceError, match=r"can't be taken by CuPy \(it is read-only\); copy it with its own library"):
        f(there)


def test_streams_and_devices(cupy):
    f = ng.jit(lambda w, x: np.tanh(x @ w).sum(axis=1))
    w = RNG.normal(size=(8, 8)).astype(np.float32)
    wanted = f(w, X)
    for place in ("cuda:0", "cuda:1", "cuda:0"):
        a, b = ng.device_put((w, X), place)
        np.testing.assert_allclose(ng.to_numpy(f(a, b)), wanted, rtol=1e-5)
    stream = cupy.cuda.Stream()
    with stream:
        np.testing.assert_allclose(ng.to_numpy(f(*ng.device_put((w, X), "cuda:0"))), wanted, rtol=1e-5)
    assert stream.waited, "the arena is another stream's until then"
    assert cupy.cuda.runtime.getDevice() == 0


def test_errors_of_cupy_are_told(cupy):
    f, x = ng.jit(lambda x: np.tanh(x).sum(axis=1), backend="cuda"), ng.device_put(X, "cuda")
    for _ in range(4):
        cupy.state.fails["launch"] = stand_in.CUDARuntimeError(700)
        with pytest.raises(DeviceError, match="cuda:0 can't be used any more in this process .cudaErrorOfNumber700: .*a kernel left"):
            f(x)
        cupy.state.fails.clear()
        np.testing.assert_allclose(ng.to_numpy(f(x)), np.tanh(X).sum(axis=1), rtol=1e-5)
    made = cupy.cuda.Memory
    cupy.cuda.Memory = lambda size: (_ for _ in ()).throw(stand_in.CUDARuntimeError(2))
    with pytest.raises(DeviceMemoryError, match=r"cuda:0 has no memory left for it \(1,024 MB of 2,048 MB are free\)"):
        ng.jit(lambda x: x.sum(axis=1) + 1, backend="cuda")(x)
    cupy.cuda.Memory = made
    cupy.state.fails["memory"] = True  # once: what the pool keeps is given back
    np.testing.assert_allclose(ng.to_numpy(ng.jit(lambda x: x.sum(axis=1) + 2, backend="cuda")(x)), X.sum(axis=1) + 2, rtol=1e-5)


def test_without_cublas(cupy, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy_backends", None)
    with pytest.raises(DeviceError, match="matrix products want cuBLAS, which is not installed: pip install nvidia-cublas for"):
        ng.jit(lambda x, y: x @ y, backend="cuda")(np.ones((64, 64), np.float32), np.ones((64, 64), np.float32))


def test_shared_memory_beyond_the_usual_is_asked_for(cupy):
    device = executable.DRIVER.device(0)
    function = driver_module.Function("f", (1, 1, 1), (1, 1, 1), 100 << 10, 0, driver_module.Built(b"f"))
    loaded, _ = device.load(function)
    assert cupy.state.shared[loaded.ptr] == 100 << 10


def test_info_names_devices_driver_and_versions(cupy):
    told = ng.backends.find("cuda").about()
    assert told["CuPy"] == "0.0" and told["driver"] == "for CUDA 13.0"
    assert told["cuda:1"] == "stand-in, sm_90, 2 multiprocessors, 2 GB"


@pytest.fixture
def cublas(monkeypatch):
    made = stand_in.Cublas()
    for name in ("cupy_backends", "cupy_backends.cuda", "cupy_backends.cuda.libs"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    sys.modules["cupy_backends.cuda.libs"].cublas = made
    return made


def test_products_by_cublas_are_captured_for_the_addresses_that_come_again(cupy, cublas):
    a = RNG.normal(size=(64, 64)).astype(np.float32)
    f = ng.jit(lambda w, x: (x @ w) @ w, backend="cuda")
    w, xs = ng.device_put((a, [a, a * 2]), "cuda")
    for n in (0, 0, 0, 1, 1, 0):
        np.testing.assert_allclose(ng.to_numpy(f(w, xs[n])), a * (n + 1) @ a @ a, rtol=1e-3, atol=1e-2)
    assert cupy.state.products == 12 and cupy.state.graphs and cublas.mode == 3


@pytest.mark.parametrize("turned", list(np.ndindex(2, 2, 2)))
@pytest.mark.parametrize("dtype", ["f64", "f32"])
def test_a_product_by_cublas_is_said_as_cublas_wants_it(cupy, cublas, dtype, turned):
    m, n, k, batch = 3, 4, 5, 2

    def matrix(number, rows, columns, other):
        row, column = (1, rows + 1) if other else (columns + 2, 1)  # padded
        return Matrix(number, 3, row, column, 60, dtype)

    a, b, c = (matrix(i, *size, t) for i, (size, t) in enumerate(zip(((m, k), (k, n), (m, n)), turned)))
    product = LibraryProduct("p", a, b, c, m, n, k, batch, dtype)
    operands = [RNG.normal(size=200).astype(DTYPES[dtype]) for _ in range(3)]
    wanted = [x.copy() for x in operands]
    product.compute(*wanted)
    product_of(product, cupy.cuda, cublas)([x.ctypes.data for x in operands])
    np.testing.assert_allclose(operands[2], wanted[2], rtol=1e-5, atol=1e-5)
    assert (operands[2] != 0).all() and cublas.mode == 3, "the mode is what it was"
