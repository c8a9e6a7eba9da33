"""A backend whose arrays are opaque: two devices of its own, whose memory NumPy never sees. Tests install it from outside of the tree.

It computes with the NumPy backend on memory that it hides. Whatever reads one of its arrays but by `get` is an error, every way into
and out of a device is counted, and an array that was donated is dead.
"""

import numpy as np

from nagraph import backends
from nagraph.arrays import ArrayKind
from nagraph.backends.interface import Agreement, Backend, Executable
from nagraph.ir.types import DTYPES, TensorType

DEVICES = ("opaque:0", "opaque:1")


class Dtype:
    """A dtype of the library's own, as MLX's are: no NumPy dtype, but it bears its name."""

    def __init__(self, dtype):
        self._dtype = dtype

    def __repr__(self):
        return f"opaque.{self._dtype}"


def _refused(self, *args, **kwargs):
    raise AssertionError("an opaque array was read or written without being asked to get it")


class Opaque:
    """An array on a device. Its hooks: `put` (from NumPy), `get` (to NumPy), `moves` (from device to device)."""

    __slots__ = ("_memory", "shape", "dtype", "device", "__weakref__")
    #: Ways into a device and out of it: "put", "get" or "move", and a type.
    crossed = []

    def __init__(self, memory, device):
        self._memory, self.shape, self.dtype, self.device = memory, memory.shape, Dtype(memory.dtype), device

    @classmethod
    def put(cls, array, device):
        assert type(array) is np.ndarray and array.flags.c_contiguous and array.dtype.isnative
        cls.crossed.append(("put", TensorType(array.dtype, array.shape)))
        return cls(array.copy(), device)

    def get(self):
        memory = self.memory
        self.crossed.append(("get", TensorType(memory.dtype, memory.shape)))
        return memory.copy()

    @property
    def memory(self):
        assert self._memory is not None, "an array was used after it was donated"
        return self._memory

    def taken(self):
        """Its memory, which a result takes."""
        memory, self._memory = self.memory, None
        return memory

    __array__ = __float__ = __int__ = __bool__ = __index__ = __len__ = __iter__ = __getitem__ = __setitem__ = _refused
    __add__ = __radd__ = __mul__ = __rmul__ = __sub__ = __rsub__ = __truediv__ = __lt__ = __gt__ = _refused


class OpaqueKind(ArrayKind):
    name = "Opaque"

    def classes(self):
        return (Opaque,)

    def devices(self):
        return DEVICES

    def type(self, array):
        return TensorType(array.dtype._dtype, array.shape)

    def device(self, array):
        return array.device

    def to_numpy(self, array):
        return array.get()

    def from_numpy(self, array, device=""):
        return Opaque.put(array, device or DEVICES[0])

    def move(self, array, device):
        Opaque.crossed.append(("move", self.type(array)))
        return Opaque(array.memory.copy(), device)

    def copy(self, array):
        return Opaque(array.memory.copy(), array.device)


KIND = OpaqueKind()


class OpaqueExecutable(Executable):
    array_kind = KIND
    has_fast_path = True

    def __init__(self, inner, donations):
        self.inner, self.donations = inner, dict(donations)
        self.name, self.inputs = inner.name, inner.inputs

    @property
    def graph(self):
        return self.inner.graph

    @property
    def plan(self):
        return self.inner.plan

    def run(self, arrays, donated):
        devices = {a.device for a in arrays} or {DEVICES[0]}
        assert len(devices) == 1
        found = self.inner.run([a.memory for a in arrays], {j: a.memory for j, a in donated.items()})
        for a in donated.values():
            a.taken()
        return tuple(Opaque(x, *devices) for x in found)

    def plain(self, arrays):
        if len(arrays) != len(self.inputs) or any(type(a) is not Opaque for a in arrays) or len({a.device for a in arrays}) > 1:
            return None
        if any(KIND.type(a) != v.type for a, v in zip(arrays, self.inputs)) or KIND.overlapping(arrays):
            return None
        return list(self.run(arrays, {j: arrays[i] for j, i in self.donations.items()}))


class OpaqueBackend(Backend):
    """The NumPy backend on hidden memory."""

    name = "opaque"
    pipeline = backends.find("numpy").pipeline
    agreement = Agreement(reference=True)
    array_kind = KIND
    dtypes = frozenset(DTYPES.values()) - {DTYPES["u16"]}

    def compile(self, graph, donations, threads=None):
        return OpaqueExecutable(backends.find("numpy").compile(graph, donations, threads), donations)


BACKEND = OpaqueBackend()
