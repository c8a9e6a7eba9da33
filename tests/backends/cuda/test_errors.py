"""What is wrong is said in one sentence that tells what to install or to change; after it the executable computes as before."""

import os
import re
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.cuda import cuda_errors
from nagraph.compiler import places
from nagraph.errors import DeviceError, DeviceMemoryError, MissingRuleError, SignatureError
from tests.backends.cuda.conftest import usable_as
from tests.backends.cuda.lazy_device import LazyBackend, LazyDriver

X = np.arange(6, dtype=np.float32).reshape(2, 3)


class CUDARuntimeError(RuntimeError):
    """As CuPy raises it."""

    def __init__(self, status, text="cudaErrorSomething: it went wrong"):
        super().__init__(text)
        self.status = status


def one_sentence(text):
    return "\n" not in text and 20 < len(text) < 400


def update(w, x):
    return w - x, (w * x).sum()


@pytest.fixture
def step(backend):
    return ng.jit(update, backend="lazy", donate_argnames="w")


@pytest.mark.parametrize("call", range(4))
@pytest.mark.parametrize("status, said", [
    (700, "lazy:0 can't be used any more in this process .*a kernel left its memory.*start the process anew"),
    (719, "a kernel failed"), (2, "lazy:0 has no memory left .*make the batch smaller"), (46, "taken by another process")])
def test_an_error_of_the_device_is_said_and_the_next_call_computes(backend, step, call, status, said):
    w = ng.device_put(X, "lazy")
    for n in range(6):
        if n == call:
            backend.driver.fails["launch"] = CUDARuntimeError(status)
            with pytest.raises(DeviceError, match=said) as caught:
                step(w, X)
            assert one_sentence(str(caught.value)) and isinstance(caught.value, MemoryError) == (status == 2)
            backend.driver.fails.clear()
        before = ng.to_numpy(w)
        w, total = step(w, X)
        np.testing.assert_array_equal(ng.to_numpy(w), before - X)
        np.testing.assert_allclose(ng.to_numpy(total), (before * X).sum())


def test_no_memory_for_the_arena_or_for_results(backend, device):
    step = ng.jit(lambda x: np.tanh(x @ x.T) @ x, backend="lazy")
    x = ng.device_put(np.ones((64, 64), np.float32), "lazy")
    device.wait()
    for _ in range(3):
        device.most_nbytes = device.used + 1000
        with pytest.raises(DeviceMemoryError, match="lambda: lazy:0 has no memory left for it.*free_all_blocks"):
            step(x)
        device.most_nbytes = 1 << 40
        np.testing.assert_allclose(ng.to_numpy(step(x)), np.tanh(np.full((64, 64), 64.0)) @ np.ones((64, 64)), rtol=1e-6)


def test_no_device(backend):
    exe = ng.compile(ng.trace(lambda x: x + 1, ng.spec((3,))), backend="lazy")
    backend.driver.why = "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"
    with pytest.raises(DeviceError, match="^there is no CUDA device here"):
        exe(np.ones(3, np.float32))
    with pytest.raises(SignatureError, match="backend 'lazy' can't be used here: there is no CUDA device"):
        ng.jit(lambda x: x + 1, backend="lazy")(X)
    with pytest.raises(SignatureError, match="backend 'lazy' can't be used here"):
        ng.device_put(X, "lazy")
    backend.driver.why = ""
    assert ng.to_numpy(exe(np.ones(3, np.float32))[0]).tolist() == [2, 2, 2]


def test_arrays_of_several_devices_or_backends(backend, step):
    a, b = ng.device_put(X, "lazy:0"), ng.device_put(X, "lazy:1")
    with pytest.raises(DeviceError, match=r"w is on lazy:0, update: argument x on lazy:1: .*ng.device_put\(x, 'lazy:0'\)"):
        step(a, b)
    same = ng.jit(lambda w, x: w + x)
    with pytest.raises(DeviceError, match=r"there is no device 'lazy:7'; backend 'lazy' has lazy:0, lazy:1"):
        ng.device_put(X, "lazy:7")
    np.testing.assert_array_equal(ng.to_numpy(same(a, X)), X + X)
    w, _ = step(a, X)
    np.testing.assert_array_equal(ng.to_numpy(w), X - X)


def test_arrays_of_two_backends_meet(backend, monkeypatch):
    other = usable_as(monkeypatch, LazyBackend(LazyDriver("other")))
    a, b = ng.device_put(X, "lazy"), ng.device_put(X, "other")
    places.owner.cache_clear()
    said = r"arrays of several backends meet: f32\[2,3\] of backend 'lazy' and f32\[2,3\] of backend 'other'"
    with pytest.raises(DeviceError, match=said):
        ng.jit(lambda a, b: a + b)(a, b)
    found = ng.jit(lambda a, b: a + b, backend="lazy")(a, b)
    assert type(found) is backend.driver.array_class and (ng.to_numpy(found) == X + X).all()
    assert other.driver.device(0).counts["get"] == X.nbytes, "it was read, and brought"


def test_code_for_another_architecture(backend, device):
    exe = ng.compile(ng.trace(lambda x: x + 1, ng.spec((3,))), backend="lazy")
    device.architecture = "sm_120"
    with pytest.raises(DeviceError, match=r"was compiled for sm_90, and lazy:0 is sm_120: compile it for that, .*target='sm_120'"):
        exe(np.ones(3, np.float32))
    device.architecture = "sm_90"
    assert ng.to_numpy(exe(np.ones(3, np.float32))[0]).tolist() == [2, 2, 2]


def test_an_op_that_python_computes_is_refused(backend):
    with pytest.raises(MissingRuleError, match="op debug_print has no rule for kernels, and this backend computes nothing in Python"):
        ng.jit(lambda x: ng.debug.print("{}", x) + 1, backend="lazy")(X)


def test_ctrl_c_in_a_loop_ends_the_call_and_between_writes_it_does_not(backend, device, monkeypatch):
    def run(w, x):
        steps = ng.while_loop(lambda n: n < x, lambda n: n + 1, x * 0)
        return w + steps, w * 2

    step, w = ng.jit(run, backend="lazy", donate_argnames="w"), ng.device_put(X, "lazy")
    x = ng.device_put(np.float32(5), "lazy")
    fetch, asked = device.fetch, []

    def interrupted(address):
        asked.append(1)
        if len(asked) == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return fetch(address)

    monkeypatch.setattr(device, "fetch", interrupted)
    with pytest.raises(KeyboardInterrupt):
        step(w, x)
    assert len(asked) == 3 and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    np.testing.assert_array_equal(ng.to_numpy(w), X)
    w, _ = step(w, x)
    np.testing.assert_array_equal(ng.to_numpy(w), X + 5)


# -- CuPy: not installed, too old, without a device ---------------------------------------------------------------------------


class Runtime(types.SimpleNamespace):
    def __init__(self, error=None, count=1, driver=13000):
        def devices():
            if error is not None:
                raise error
            return count

        super().__init__(getDeviceCount=devices, driverGetVersion=lambda: driver, runtimeGetVersion=lambda: 13020)


@pytest.fixture
def cupy(monkeypatch):
    """A function that has a stand-in for CuPy found."""
    def found(runtime):
        stand_in = types.ModuleType("cupy")
        stand_in.cuda = types.SimpleNamespace(runtime=runtime)
        monkeypatch.setitem(sys.modules, "cupy", stand_in)
        monkeypatch.setattr(cuda_errors, "_is_installed", lambda: True)

    monkeypatch.setattr(cuda_errors, "_loaded_in", None)
    return found


@pytest.mark.parametrize("runtime, said", [
    (Runtime(CUDARuntimeError(100)), "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"),
    (Runtime(count=0), "there is no CUDA device here, or CUDA_VISIBLE_DEVICES hides it"),
    (Runtime(CUDARuntimeError(35), driver=12040), "the NVIDIA driver is for CUDA 12.4, and CuPy wants 13.2; update the driver, or install"),
    (Runtime(CUDARuntimeError(35), driver=0), "there is no NVIDIA driver here, which a CUDA device needs; install it, or take backend 'll"),
    (Runtime(RuntimeError("odd")), r"CuPy finds no device \(odd\)"), (Runtime(), "^$")])
def test_what_is_missing(cupy, runtime, said):
    cupy(runtime)
    found = cuda_errors.missing()
    assert re.search(said, found), found
    assert not found or one_sentence(found)


def test_cupy_is_not_installed(monkeypatch):
    monkeypatch.setattr(cuda_errors, "_loaded_in", None)
    monkeypatch.setattr(cuda_errors, "_is_installed", lambda: False)
    assert one_sentence(cuda_errors.missing())
    said = r"backend 'cuda' can't be used here: it needs CuPy; pip install 'nagraph\[cuda\]'.*cupy-cuda12x"
    with pytest.raises(SignatureError, match=said):
        ng.jit(lambda x: x + 1, backend="cuda")(X)


def test_after_a_fork(cupy):
    cupy(Runtime())
    assert cuda_errors.missing() == ""
    child = os.fork()
    if not child:
        os._exit("was forked" not in cuda_errors.missing())
    assert os.waitpid(child, 0)[1] == 0


def test_asking_for_arrays_loads_no_cupy():
    code = ("import sys, numpy as np, nagraph as ng; from nagraph import backends; backends.find('cuda');"
            "assert backends.find('cuda').array_kind.classes() == (); ng.jit(lambda x: x + 1)(np.ones(3)); ng.tree.leaves([np.ones(2), 3]);"
            "assert not {'cupy', 'nagraph.backends.cuda.cupy_driver'} & set(sys.modules)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert not done.returncode, done.stderr
