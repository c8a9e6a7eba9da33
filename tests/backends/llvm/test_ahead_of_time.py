"""Programs as object code for any machine, with a runtime that needs no Python."""

from __future__ import annotations

import ctypes
import re
import subprocess
import threading

import numpy as np
import pytest

import nagraph as ng
import nagraph.numpy as gnp
from nagraph.backends.llvm.ahead_of_time.entries import Entry, WeightsFile
from nagraph.backends.llvm.ahead_of_time.objects import native_object
from nagraph.backends.llvm.runtime.standalone import Result
from nagraph.backends.llvm.text.machines import NAMES, machine
from tests.backends.llvm.linked import Linked, linked, machines
from tests.tools import tool

RNG = np.random.default_rng(0)
X, W = RNG.normal(size=(150, 70)).astype(np.float32), RNG.normal(size=(70, 130)).astype(np.float32)
LABELS = RNG.integers(0, 130, 150)


def products(x, w):
    h = gnp.tanh(x @ w)
    return ng.nn.functional.softmax(h, axis=-1), h.sum(0), gnp.sort(x, axis=1), h.astype("f64").mean()


def flow(x, w):
    def step(carry, row):
        carry = ng.cond(row[0] > 0, lambda c: c * 0.5 + 1, lambda c: c - row[1], carry)
        return carry, carry + row.sum()

    last, found = ng.scan(step, w[0], x)
    n, total = ng.while_loop(lambda s: s[0] < 9, lambda s: (s[0] + 1, gnp.sin(s[1]) + s[1] * 0.5), (np.int32(0), last))
    return last, found, n, total


def loss(x, w, labels):
    return ng.value_and_grad(lambda w: ng.nn.losses.cross_entropy(x @ w, labels))(w)


def executable(f, *arrays):
    return ng.jit(f).lower(*arrays).executable


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert a.dtype == b.dtype and a.tobytes() == b.tobytes()


@pytest.mark.parametrize("target", machines())
@pytest.mark.parametrize("f", [products, flow])
def test_bits_are_those_of_the_executable_for_any_number_of_threads(f, target, tmp_path):
    exe = executable(f, X, W)
    library = linked(exe, tmp_path, target)
    wanted = exe(X, W)
    assert any(a.any() for a in wanted)
    for threads in (1, 2, 5):
        assert_same(library(X, W, threads=threads), wanted)


def test_calls_at_one_time_share_a_pool(tmp_path):
    exe = executable(products, X, W)
    library, wanted = linked(exe, tmp_path), exe(X, W)
    found: list[list[np.ndarray]] = []
    with library.pool(3) as pool:
        def call():
            for _ in range(20):
                outputs = [np.full(a.shape, 77, a.dtype) for a in wanted]
                assert library.result([X, W], outputs, pool, 3) == Result.OK
                found.append(outputs)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for c in callers:
            c.start()
        for c in callers:
            c.join()
    assert len(found) == 60
    for outputs in found:
        assert_same(outputs, wanted)


def test_mistakes_are_told(tmp_path):
    exe = executable(loss, X, W, LABELS)
    library, wanted = linked(exe, tmp_path), exe(X, W, LABELS)
    assert_same(library(X, W, LABELS), wanted)
    outputs = [np.full(a.shape, 77, a.dtype) for a in wanted]
    assert library.result([X, W, LABELS], outputs, missing=1) == Result.WORKSPACE
    assert library.result([X, W, np.frombuffer(bytes(1208), np.uint8)[4:].view()], outputs) == Result.POINTER
    with library.pool(2) as pool:  # it needs a workspace for two
        assert library.result([X, W, LABELS], outputs, pool, 1) == Result.WORKSPACE
    assert all((a == 77).all() for a in outputs)
    labels = LABELS.copy()
    labels[7] = 130
    assert library.result([X, W, labels], outputs) == Result.LABEL
    assert library.result([X, W, LABELS], outputs) == Result.OK
    assert_same(outputs, wanted)


@pytest.mark.parametrize("same", [False, True])
def test_outputs_in_the_memory_of_inputs(same, tmp_path):
    """Donated arguments may be given as the outputs, also where all of them are read to the end."""
    def f(a, b):
        return b, a, gnp.tanh(b.T) + a

    a, b = RNG.normal(size=(2, 40, 40)).astype(np.float32)
    exe = ng.jit(f, donate_argnames=("a", "b")).lower(a.copy(), b.copy()).executable
    assert {p.kind for p in exe.calls.image.table} >= {"donated"} and len(exe.calls.donations) == 2
    library, wanted = linked(exe, tmp_path, donations=exe.calls.donations), exe(a, b)
    inputs = [a.copy(), b.copy()]
    outputs = [np.full((40, 40), 77, np.float32) for _ in range(3)]
    for j, i in exe.calls.donations.items():
        if same:
            outputs[j] = inputs[i]
    assert library.result(inputs, outputs) == Result.OK
    assert_same(outputs, wanted)


def test_weights_embedded_or_from_a_file(tmp_path):
    """Both give the bits of weights that are given as arguments, and another file is refused."""
    exe = executable(flow, X, W)
    wanted, head = exe(X, W), b"the head of a file of weights..."
    entry = Entry("it_run", exe.graph, weights={1: "w"})
    assert_same(Linked(native_object("it", [entry], machine("native"), {"w": W}), tmp_path, "embedded")(X), wanted)
    file = WeightsFile(head, len(head) + W.nbytes, {"w": len(head)})
    library = Linked(native_object("it", [entry], machine("native"), file=file), tmp_path, "beside")
    content = np.frombuffer(head + W.tobytes(), np.uint8)
    accepts = library.library.it_weights_of
    accepts.restype = ctypes.c_void_p
    accepts.argtypes = ctypes.c_void_p, ctypes.c_size_t
    assert accepts(content.ctypes.data, content.nbytes) == content.ctypes.data
    assert_same(library(content, X, threads=2), wanted)
    assert accepts(content.ctypes.data, content.nbytes - 1) is None and accepts(None, content.nbytes) is None
    other = content.copy()
    other[3] ^= 1
    assert accepts(other.ctypes.data, other.nbytes) is None


@pytest.mark.parametrize("target", NAMES)
def test_every_machine_has_objects_without_python(target, tmp_path):
    """They export entry points and pools, ask the system for little, and have nothing that may be written."""
    made = native_object("it", [Entry("it_run", executable(flow, X, W).graph)], machine(target))
    assert b"Py" not in made.content and {"it_run", "it_run_workspace_nbytes"} <= {*made.exports}
    if target == "wasm32":
        assert made.content.startswith(b"\0asm") and b"pthread" not in made.content
    if machine(target).system == "darwin":
        assert made.content.startswith(b"\xcf\xfa\xed\xfe\x0c\x00\x00\x01")  # 64 bits, arm64
    if made.content.startswith(b"\x7fELF"):
        (tmp_path / "it.o").write_bytes(made.content)
        listed = subprocess.run([tool("nm"), tmp_path / "it.o"], check=True, capture_output=True, text=True).stdout
        symbols = [(kind, name) for kind, name in re.findall(r" (\w) (\S+)$", listed, re.M)]
        assert {name for kind, name in symbols if kind.isupper() and kind != "U"} == set(made.exports)
        assert not [name for kind, name in symbols if kind in "bBD"]
        asked = {name for kind, name in symbols if kind == "U"} - {"_GLOBAL_OFFSET_TABLE_"}
        known = {"clock_gettime", "sched_yield", "memcpy", "memset", "fma", "fmaf"}
        assert {name for name in asked if not name.startswith("pthread_")} <= known


def test_object_code_is_a_function_of_the_graph():
    graph = executable(flow, X, W).graph
    one, other = (native_object("it", [Entry("it_run", graph)], machine("aarch64-linux")).content for _ in range(2))
    assert one == other


def test_unknown_machines_are_named():
    with pytest.raises(ng.errors.SignatureError, match="did you mean x86-64-v3.*native, x86-64-v2"):
        machine("x86-64-v33")
