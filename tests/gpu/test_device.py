"""The CUDA backend on a device: CuPy's arrays, streams, DLPack, memory, the time of a call on the host. Without a device nothing runs."""

import time

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import cuda_errors
from nagraph.errors import DeviceMemoryError

pytestmark = pytest.mark.skipif(bool(cuda_errors.missing()), reason=cuda_errors.missing() or "there is a device")
X = np.arange(12, dtype=np.float32).reshape(3, 4)


@pytest.fixture
def cupy():
    return pytest.importorskip("cupy")


@pytest.mark.parametrize("dtype", ["f4", "f8", "f2", "bfloat16", "i1", "i8", "u2", "bool"])
def test_arrays_go_there_and_back(cupy, dtype):
    dtype = ng.bfloat16 if dtype == "bfloat16" else np.dtype(dtype)
    for shape in ((), (0, 3), (3, 4)):
        a = np.ones(shape, dtype)
        there = ng.device_put(a, "cuda")
        assert type(there) is cupy.ndarray and there.dtype == dtype and there.shape == shape
        np.testing.assert_array_equal(ng.to_numpy(there), a)


def test_views_and_other_orders_are_read_as_they_are(cupy):
    f = ng.jit(lambda x: x * 2 + 1)
    x = cupy.asarray(X)
    for given in (x, x.T, x[1], x[:, 1:], x[::-1], cupy.asfortranarray(x), cupy.broadcast_to(x[0], (5, 4))):
        np.testing.assert_array_equal(ng.to_numpy(f(given)), cupy.asnumpy(given) * 2 + 1)


def test_work_of_other_streams_is_waited_for(cupy):
    f = ng.jit(lambda w, x: (x @ w) @ w)
    w = ng.device_put(np.eye(1024, dtype=np.float32), "cuda")
    streams = [cupy.cuda.Stream(non_blocking=True) for _ in range(3)]
    for n in range(30):
        with streams[n % 3]:
            x = cupy.full((1024, 1024), n, np.float32)
            assert float(f(w, x)[7, 7]) == n


def test_arrays_of_pytorch_share_their_memory(cupy):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch has no CUDA here")
    x = torch.arange(12, device="cuda", dtype=torch.float32).reshape(3, 4)
    there = ng.device_put(x, "cuda")
    assert there.data.ptr == x.data_ptr()
    np.testing.assert_array_equal(ng.to_numpy(ng.jit(lambda x: x + 1, backend="cuda")(x)), X + 1)
    assert torch.from_dlpack(ng.jit(lambda x: x + 1)(there)).device.type == "cuda"


def test_no_memory_is_left_and_then_there_is(cupy):
    f = ng.jit(lambda x: (x[:, None] * x).sum(axis=0) + np.sort(x), backend="cuda")
    free = cupy.cuda.Device().mem_info[0]
    held = cupy.cuda.alloc(max(1, free - (64 << 20)))
    with pytest.raises(DeviceMemoryError, match="has no memory left for it"):
        ng.device_put(np.zeros(free // 4, np.float32), "cuda")
    del held
    cupy.get_default_memory_pool().free_all_blocks()
    np.testing.assert_allclose(ng.to_numpy(f(np.ones(8, np.float32))), np.full(8, 9))


def test_a_call_of_a_hundred_kernels_takes_little_time_of_the_host(cupy):
    def chain(w, x):
        for _ in range(50):
            x = np.sort(np.tanh(x @ w), axis=1)
        return x

    w, x = ng.device_put((np.eye(8, dtype=np.float32), np.ones((8, 8), np.float32)), "cuda")
    step = ng.jit(chain, backend="cuda")
    for _ in range(5):
        step(w, x)
    launches = len(step.lower(w, x).executable.launches)
    assert launches >= 100
    cupy.cuda.Device().synchronize()
    seconds = []
    for _ in range(20):
        start = time.perf_counter()
        step(w, x)
        seconds.append(time.perf_counter() - start)
        cupy.cuda.Device().synchronize()
    print(f"a call of {launches} launches: {min(seconds) * 1e6:.1f} us on the host")
    assert sorted(seconds)[5] < 40e-6, "15 us are aimed at"
