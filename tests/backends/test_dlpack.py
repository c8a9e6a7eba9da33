"""Arrays of libraries that nobody has told of: they are leaves if they speak DLPack, and are read where that can be."""

import numpy as np
import pytest

import nagraph as ng
from nagraph import arrays, tree
from nagraph.errors import CheckpointError, DeviceError
from tests.backends.crossings import types
from tests.support import warned

pytestmark = pytest.mark.usefixtures("opaque_module")
X = np.arange(6, dtype=np.float32).reshape(2, 3)
BIG = np.ones((600, 512), np.float32)  # 1.2 MB


class Speaks:
    """An array of a library that is not known, and speaks DLPack: on the CPU, or where its memory can't be reached."""

    def __init__(self, array, device=(1, 0)):
        self.array, self.at, self.shape = array, device, array.shape
        self.dtype = type("Dtype", (), {"__str__": lambda self: f"library.{array.dtype}"})()

    def __dlpack__(self, **options):
        if self.at[0] != 1:
            raise BufferError("no way to copy to the CPU")
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.at


def test_arrays_that_speak_dlpack_are_leaves(opaque, crossed):
    x = Speaks(X.copy())
    assert tree.is_array(x) and not tree.is_array(object())
    assert np.shares_memory(arrays.read(x), x.array), "nothing is copied on the CPU"
    f = ng.jit(lambda t: t["x"] * 2 + t["y"], backend="llvm")
    np.testing.assert_array_equal(f({"x": x, "y": X}), X * 3)
    np.testing.assert_array_equal(ng.grad(lambda x: (x * x).sum())(x), X * 2)
    np.testing.assert_array_equal(ng.numpy.tanh(x), np.tanh(X))
    assert not crossed()
    assert type(ng.jit(lambda x: x * 2, backend="opaque")(x)) is opaque and crossed() == types("put", [X])
    assert type(ng.device_put(x, "opaque:1")) is opaque and type(ng.to_numpy(x)) is np.ndarray
    donated = ng.jit(lambda x: x + 1, donate_argnames="x")
    donated(x)
    np.testing.assert_array_equal(x.array, X)
    assert "is another library's array" in donated.explain()
    assert not warned(lambda: [ng.jit(lambda x: x.sum())(Speaks(BIG)) for _ in range(4)])


def test_what_speaks_dlpack_of_the_first_version_is_read():
    class Old(Speaks):
        def __dlpack__(self, stream=None):
            return self.array.__dlpack__()

    np.testing.assert_array_equal(ng.jit(lambda x: x + 1)(Old(X.copy())), X + 1)


def test_views_whose_memory_has_the_other_sign_are_read_with_theirs():
    """As of PyTorch: `z.conj().imag` shows the memory of z, and says by `is_neg` that its elements are the negatives of what is there."""

    class Negative(Speaks):
        def is_neg(self):
            return True

        def resolve_neg(self):
            return Speaks(-self.array)

    x = Negative(X)
    np.testing.assert_array_equal(ng.to_numpy(x), -X)
    np.testing.assert_array_equal(ng.jit(lambda x: x + 1)(x), 1 - X)
    np.testing.assert_array_equal(ng.numpy.add(x, 1), 1 - X)
    np.testing.assert_array_equal(ng.jit(lambda y: y + x)(X), np.zeros_like(X))


def test_arrays_that_can_not_be_read_are_refused_with_their_label():
    there = Speaks(X, (2, 1))
    f = ng.jit(lambda model: model["w"] * 2)
    with pytest.raises(DeviceError, match=r"lambda: argument model.w: a .*Speaks on cuda:1 can't be read through DLPack \(no way to copy"):
        f({"w": there})
    with pytest.raises(DeviceError, match="outside of ng.jit"):
        ng.numpy.tanh(there)
    with pytest.raises(DeviceError, match="device_put: w: a .* can't be read"):
        ng.device_put({"w": there}, "opaque")
    with pytest.raises(DeviceError, match=r"a captured array: .*can't be read.*test_dlpack.py"):
        ng.jit(lambda x: x * there)(X)
    with pytest.raises(CheckpointError, match="w can't be saved: .*cuda:1"):
        ng.save("nowhere", {"w": there})
