"""The machine of fibers runs right kernels as a device does, and says of wrong ones what is wrong."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import numpy as np
import pytest

from nagraph.backends.gpu.on_cpu import compiler
from nagraph.backends.gpu.on_cpu.compiler import missing
from nagraph.backends.gpu.on_cpu.memory import Allocation
from nagraph.backends.gpu.on_cpu.module import Module
from nagraph.errors import DeviceError, InternalError, SanitizerError
from tests.gpu import kernels
from tests.gpu.kernels import Written, written

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

PAIR = "int s0, int s1"
SEEDS = (0, 1, 2)
RIGHT = {
    "row_sums": written("row_sums", f"{PAIR}, int n", kernels.ROW_SUMS),
    "product": written("product", "int s0, int s1, int s2, int n", kernels.PRODUCT),
    "copied": written("copied", f"{PAIR}, int n", kernels.COPIED),
    "reversed": written("reversed", PAIR, kernels.REVERSED),
}


def changed(name: str, new: str, right: str, wrong: str) -> Written:
    """A right kernel under another name, with one text in place of another."""
    text = RIGHT[name].text
    assert text.count(right) == 1, right
    return Written(new, text.replace(right, wrong).replace(f" {name}(", f" {new}("))


def simple(name: str, body: str) -> Written:
    return written(name, PAIR, f"  const int* x = (const int*)table[s0];\n  int* y = (int*)table[s1];\n  int t = threadIdx.x;\n{body}")


#: Wrong kernels, and a sentence of what the watch says of each.
UNORDERED = "nobody of its block wrote|with no barrier between them"
WRONG = {
    "no_barrier_before_sums": (
        changed("row_sums", "w1", "sums[warp] = sum;\n  __syncthreads();", "sums[warp] = sum;"), UNORDERED),
    "no_barrier_between_tiles": (changed("product", "w2", "    __syncthreads();\n", ""), UNORDERED),
    "barrier_in_half_a_block": (
        changed("reversed", "w3", "__syncthreads();", "if (threadIdx.x < 32) __syncthreads();"), f"that 32 threads|{UNORDERED}"),
    "shuffle_of_half_a_warp": (
        simple("w4", "  if (t < 16) y[t] = __shfl_xor_sync(0xffffffffu, t, 1);"),
        "waits for lane 16 in an operation of its warp .*; that lane has ended"),
    "shuffle_from_outside_of_the_mask": (
        simple("w5", "  if (t < 16) y[t] = __shfl_sync(0xffffu, t, 16);"), "shuffles a value from lane 16, which takes no part"),
    "two_masks": (
        simple("w6", "  if (t < 32) y[t] = __shfl_xor_sync(t < 16 ? 0xffffffffu : 0xffff0000u, t, 1);"),
        "waits for lane 16 in an operation of its warp .*; that lane (has ended|is in another one)"),
    "barrier_beside_shuffle": (
        simple("w7", "  if (t < 32) __syncthreads(); else y[t] = __shfl_xor_sync(0xffffffffu, t, 1);\n"
                     "  if (t >= 32 && t < 40) __shfl_xor_sync(0xffffffffu, t, 1);"), "waits for lane .*; that lane has ended"),
    "read_behind_the_end": (
        simple("w8", "  y[t] = x[t + 128];"), "reads 4 bytes at .*, [0-9]+ bytes beyond the end of an operand of 512 bytes"),
    "read_before_the_beginning": (simple("w9", "  y[t] = x[t - 1];"), "reads 4 bytes at .*, 4 bytes before an operand of 512 bytes"),
    "written_behind_the_end": (simple("w10", "  y[t + 65] = 1;"), "writes 4 bytes at .*, 4 bytes beyond the end"),
    "operand_written": (simple("w11", "  ((int*)x)[t] = 1;"), "which the launch may only read"),
    "shared_memory_is_too_small": (
        simple("w12", "  ((int*)shared)[t + 1] = t;"), "writes 4 bytes at byte 256 of shared memory, which has 256"),
    "shared_memory_read_first": (
        simple("w13", "  if (t) ((int*)shared)[t] = t;\n  __syncthreads();\n  y[t] = ((int*)shared)[t];"),
        "reads byte 0 of shared memory, which nobody of its block wrote"),
    "two_blocks_write_one_place": (simple("w14", "  y[t] = blockIdx.x;"), "of another block: both write"),
    "warp_memory_without_synchronisation": (
        simple("w15", "  int* kept = (int*)shared;\n  kept[t] = t;\n  y[t] = kept[t ^ 1];"), UNORDERED),
    "copy_that_nobody_awaits": (changed("copied", "w16", "    machine::await_copies(1);\n", ""), f"copies have not been|{UNORDERED}"),
    "copy_awaited_too_late": (changed("copied", "w17", "machine::await_copies(1);", "machine::await_copies(2);"), UNORDERED),
    "misaligned": (simple("w18", "  ((float4*)(y + 1))[0] = float4{1, 2, 3, 4};"), "no multiple of"),
    "integer_overflow": (simple("w19", "  y[t] = x[0] + 2147483647;"), "C\\+\\+ leaves undefined"),
    "division_by_zero": (simple("w20", "  y[t] = t / x[100];"), "by zero"),
}


@pytest.fixture(scope="module")
def modules() -> dict[str, Module]:
    every = [*RIGHT.values(), *(kernel for kernel, _ in WRONG.values())]
    return {"": Module(every), "watch": Module(every, "watch"), "portable": Module(RIGHT.values(), "portable")}


class Run:
    """A launch of a kernel on arrays: what it reads, then what it writes, which are in the table in this order."""

    def __init__(self, module: Module, name: str, inputs: list, output: np.ndarray, scalars=(), grid=(2, 1, 1), block=(64, 1, 1),
                 shared=256, seed=0):
        given = [Allocation.of(np.asarray(x), writable=False) for x in inputs]
        result = Allocation(output.nbytes)
        table = Allocation.of(np.array([a.address for a in (*given, result)], np.uint64), writable=False)
        module.launch(name, grid, block, shared, table.address, [*range(len(given) + 1), *scalars], seed=seed,
                      ranges=[a.range for a in (*given, result, table)])
        for a in (*given, result, table):
            a.check(name)
        self.found = result.array(output.dtype, output.shape).copy()


@pytest.mark.parametrize("check", ["", "watch", "portable"])
@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_right_kernels(modules, check, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 300)).astype("f4")
    sums = Run(modules[check], "row_sums", [x], np.zeros(5, "f4"), [300], (5, 1, 1), (96, 1, 1), 12, seed).found
    np.testing.assert_allclose(sums, x.sum(1), rtol=1e-4, atol=1e-4)
    assert sums.tobytes() == Run(modules[""], "row_sums", [x], np.zeros(5, "f4"), [300], (5, 1, 1), (96, 1, 1), 12, 7).found.tobytes()
    a, b = rng.normal(size=(2, 37, 37)).astype("f4")
    product = Run(modules[check], "product", [a, b], a, [37], (3, 3, 1), (16, 16, 1), 4096, seed).found
    np.testing.assert_allclose(product, a @ b, rtol=1e-4, atol=1e-4)
    x = np.arange(1024, dtype="f4")
    copied = Run(modules[check], "copied", [x], x, [1024], (1, 1, 1), (64, 1, 1), 2048, seed).found
    np.testing.assert_array_equal(copied.reshape(-1, 2, 4), x.reshape(-1, 2, 4)[:, ::-1])
    x = np.arange(128, dtype="i4")
    np.testing.assert_array_equal(Run(modules[check], "reversed", [x], x, seed=seed).found.reshape(2, 64), x.reshape(2, 64)[:, ::-1])


def run_wrong(modules, check, kernel, seed):
    """The wrong kernel on what its right one takes."""
    name, text = kernel.name, kernel.text
    x = np.arange(1024, dtype="f4")
    if "sums[warp]" in text:
        return Run(modules[check], name, [x[:600].reshape(2, 300)], np.zeros(2, "f4"), [300], (2, 1, 1), (96, 1, 1), 12, seed)
    if "of_a" in text:
        return Run(modules[check], name, [x[:900], x[:900]], x[:900], [30], (2, 2, 1), (16, 16, 1), 4096, seed)
    if "float4* buffer" in text:
        return Run(modules[check], name, [x], x, [1024], (1, 1, 1), (64, 1, 1), 2048, seed)
    return Run(modules[check], name, [np.arange(128, dtype="i4") % 100 + (np.arange(128) == 0)], np.zeros(128, "i4"), seed=seed)


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("seed", SEEDS)
def test_the_watch_says_what_is_wrong(modules, name, seed):
    kernel, said = WRONG[name]
    with pytest.raises(SanitizerError, match=f"kernel {kernel.name}: thread .*({said})"):
        run_wrong(modules, "watch", kernel, seed)


@pytest.mark.parametrize("name, right", [("no_barrier_before_sums", "row_sums"), ("no_barrier_between_tiles", "product"),
                                         ("copy_that_nobody_awaits", "copied")])
def test_missing_barriers_change_results_in_most_orders(modules, name, right):
    """Without a watch as well: threads run up to where they wait, and shared memory is poisoned."""
    expected = run_wrong(modules, "", Written(right, RIGHT[right].text), 0).found.tobytes()

    def is_seen(seed):
        try:
            return run_wrong(modules, "", WRONG[name][0], seed).found.tobytes() != expected
        except SanitizerError:
            return True

    assert sum(map(is_seen, range(8))) >= 6


@pytest.mark.parametrize("name, said", [
    ("barrier_in_half_a_block", "waits at a barrier that 32 threads"), ("shuffle_of_half_a_warp", "waits for lane 16"),
    ("shuffle_from_outside_of_the_mask", "takes no part"), ("two_masks", "waits for lane 16"), ("division_by_zero", "by zero"),
    ("written_behind_the_end", "memory behind w10 was written"), ("shared_memory_is_too_small", "byte 256 of 256 of shared memory"),
])
def test_what_is_seen_without_a_watch(modules, name, said):
    with pytest.raises(SanitizerError, match=said):
        run_wrong(modules, "", WRONG[name][0], 0)


def test_memory_that_is_not_there_ends_the_launch_and_not_the_process(modules):
    # The lowest pages are nobody's on any system; any other place may be somebody's, in a process that has lived for a while.
    module = Module([simple("far", "  ((int*)(size_t)(4096 + 4 * x[t]))[0] = 1;")])
    with pytest.raises(SanitizerError, match="kernel far: thread .* where there is no memory"):
        run_far(module)
    right = Run(modules[""], "reversed", [np.arange(128, dtype="i4")], np.zeros(128, "i4")).found
    assert right[0] == 63, "the machine goes on"


def run_far(module):
    return Run(module, "far", [np.arange(128, dtype="i4")], np.zeros(128, "i4"))


def test_address_sanitizer_finds_it_too(tmp_path):
    """A leg by software that we did not write, in a process of its own."""
    place = compiler.sanitizer_library()
    code = """
import ctypes
import mmap
import numpy as np
from tests.gpu.test_machine import RIGHT, WRONG, Run, run_wrong
from nagraph.backends.gpu.on_cpu.module import Module
kernel = WRONG[{name!r}][0]
modules = {{"address": Module([*RIGHT.values(), kernel], "address")}}
x = np.arange(128, dtype="i4")
assert (Run(modules["address"], "reversed", [x], x).found.reshape(2, 64) == x.reshape(2, 64)[:, ::-1]).all()
held = []
for _ in range(64):  # memory that comes where stacks were may be written
    held.append(mmap.mmap(-1, 1 << 20))
    ctypes.memset(ctypes.addressof(ctypes.c_char.from_buffer(held[-1])), 1, 1 << 20)
print("right", flush=True)
run_wrong(modules, "address", kernel, 0)
"""
    done = subprocess.run([sys.executable, "-c", code.format(name="shared_memory_is_too_small")], capture_output=True, text=True,
                          env={**os.environ, "LD_PRELOAD": place, "ASAN_OPTIONS": "detect_leaks=0"})
    assert done.stdout == "right\n" and done.returncode != 0
    assert re.search("heap-buffer-overflow|unknown-crash", done.stderr) and "WRITE of size 4" in done.stderr


def test_no_compiler_is_one_sentence(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    monkeypatch.setenv("CXX", "")
    compiler.compiler.cache_clear()
    try:
        with pytest.raises(DeviceError, match="takes a C.. compiler: install g.. or clang.., or name one in CXX"):
            Module([RIGHT["reversed"]])
    finally:
        compiler.compiler.cache_clear()


def test_text_that_is_no_program_names_kernel_and_line():
    with pytest.raises(InternalError, match=r"broken:2:\d+: error"):
        Module([Written("broken", 'extern "C" __global__ void broken(void* const* table) {\n  nonsense;\n}')])


def test_libraries_are_kept(monkeypatch):
    Module([RIGHT["reversed"]])
    monkeypatch.setattr(compiler, "_compiled", None)
    Module([RIGHT["reversed"]])


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="the system does not list a process's memory")
def test_a_launch_keeps_no_stacks() -> None:
    """Each library has a machine of its own: were its stacks kept, a process that loads many would run out of parts of memory."""
    def parts() -> int:
        with open("/proc/self/maps") as listed:
            return sum(1 for _ in listed)

    module = Module([simple("copies", "  y[t] = x[t];")])
    before, x = parts(), np.arange(512, dtype="i4")
    np.testing.assert_array_equal(Run(module, "copies", [x], x, grid=(1, 1, 1), block=(512, 1, 1)).found, x)
    assert parts() - before < 100
