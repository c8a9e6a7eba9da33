"""The text of kernels: what is said once, in which order, in the words of which dialect."""

import re

import numpy as np
import pytest

import nagraph as ng
from nagraph.backends.gpu.dialect import CUDA, METAL
from nagraph.backends.gpu.emit import emit
from nagraph.backends.gpu.lines import with_lines
from nagraph.backends.gpu.target import gpu_target
from nagraph.c_text.text import tidy
from nagraph.errors import MissingRuleError
from nagraph.ir.types import DTYPES
from nagraph.kernel.lower import lower
from nagraph.ops.indexing import Scatter
from tests.backends.gpu.kernels import SOFTMAX, graph, kernel, samples
from tests.support import graph_of

H100, APPLE = gpu_target("sm_90"), gpu_target("apple7")


def said(text, *parts):
    """The parts stand in a text, in this order."""
    at = 0
    for part in parts:
        found = text.find(part, at)
        assert found >= 0, f"{part!r} is not there, or not in its place:\n{text}"
        at = found + len(part)


def test_a_map_is_a_thread_for_each_point():
    function = emit(kernel(lambda x, y: x * 2 + y, (100_001,), (100_001,)), H100, CUDA)
    said(function.text, 'extern "C" __global__ void __launch_bounds__(256)',
         f"{function.name}(void* const* table, int s0, int s1, int s2) {{",
         "const float* const p0 = (const float*)table[s0];", "float* const p2 = (float*)table[s2];",
         "const int point = blockIdx.x * 256 + threadIdx.x;", "if (point >= 100001) return;", "v1 * 2.0f", "p2[a0] = v4;")
    assert function[2:5] == ((391, 1, 1), (256, 1, 1), 0) and "barrier" not in function.text
    assert re.fullmatch(r"[a-z_]+_[0-9a-f]{8}", function.name)


def test_a_row_is_folded_by_shuffles_in_one_order():
    text = emit(kernel(lambda x: x.sum(1), (1000, 99)), H100, CUDA).text
    said(text, "const int member = threadIdx.x % 32;", "float f0 = 0.0f;", "for (int a1 = member; a1 < 99; a1 += 32)", "f0 = f0 + v0;",
         "for (int by = 16; by > 0; by /= 2)", "ng_shuffle_down(f0, by)", "f0 = ng_shuffle(f0, 0);")
    assert "atomic" not in text and "barrier" not in text and "ng_load" not in text


def test_four_neighbours_are_loaded_and_stored_at_a_time():
    text = emit(SOFTMAX((8, 100)), H100, CUDA).text
    said(text, "stage 1", "for (int first = member * 4; first < 100; first += 128)",
         "ng_pack<float, 4> w0 = ng_load<4>(p0 + a0 * 100 + first);", "for (int k = 0; k < 4; ++k)", "const int a1 = first + k;",
         "= w0.at[k];", "r0.at[k] = ", "ng_store(t2 + first, r0);", "stage 2", "ng_load<4>(t2 + first)",
         "ng_store(p1 + a0 * 100 + first, r0);")


def test_rows_that_are_gathered_are_loaded_four_elements_at_a_time():
    """Where a row stands is computed once, before its neighbouring elements are loaded."""
    text = emit(kernel(lambda x, i: np.take(x, i, axis=0) * 2, (1000, 768), ng.spec((4096,), "int32")), H100, CUDA).text
    said(text, "const i64 v9 = ng_min(v8, 999ll);", "ng_pack<float, 4> w0 = ng_load<4>(p0 + v9 * 768 + first);",
         "for (int k = 0; k < 4; ++k)", "ng_store(p2 + a0 * 768 + first, r0);")


def test_what_is_read_along_one_axis_and_stored_along_another_goes_through_shared_memory():
    function = emit(kernel(lambda x, y: x.T * 2 + y, (1000, 300), (300, 1000)), H100, CUDA)
    said(function.text, "const int a0 = first0 + column;", "w0[column * 33 + k] = p0[a0 + a1 * 300];", "ng_block_barrier();",
         "const int a1 = first1 + column;", "p1[a0 * 1000 + a1];", "= w0[k * 33 + column];", "p2[a0 * 1000 + a1] = ")
    assert function.grid == (320, 1, 1) and function.shared_nbytes == 32 * 33 * 4


def test_an_element_of_a_scatter_has_one_thread():
    rng = np.random.default_rng(0)
    updates = graph_of(Scatter((0,), "add"), [rng.normal(size=(9, 4)), rng.normal(size=(6, 4)), rng.integers(0, 9, size=6)])
    text = emit(lower(updates), H100, CUDA).text
    said(text, "for (int a1 = member; a1 < 9;", "ng_block_barrier();", "for (int a2 = 0; a2 < 6; ++a2)", ") & ", ") == member) {", "p3[")
    assert "atomic" not in text


def test_a_long_row_is_folded_by_way_of_shared_memory():
    function = emit(kernel(lambda x: x.sum(1), (10, 8192)), H100, CUDA)
    said(function.text, "NG_SHARED_BLOCK(shared, ", "ng_shuffle_down", "ng_block_barrier();", "ng_shuffle_down", "ng_block_barrier();")
    assert function.block == (1024, 1, 1) and function.shared_nbytes == 32 * 8


def test_threads_wait_before_they_read_what_others_wrote():
    text = emit(SOFTMAX((8, 48)), H100, CUDA).text
    assert text.count("ng_warp_barrier();") == 1
    said(text, "t2[a1] = v6;", "ng_warp_barrier();", "= t2[a1];")


def test_a_function_is_written_once():
    text = emit(kernel(lambda x, y: np.tanh(x) + np.tanh(y), (8,), (8,)), H100, CUDA).text
    assert text.count("float tanh_f32(float a)") == 1 and text.count("tanh_f32(v") == 2
    assert text.count("static __device__") == 1


def test_places_beyond_an_int_are_computed_in_64_bits():
    n = (1 << 31) + 8
    said(emit(kernel(lambda x: x + 1, (n,)), H100, CUDA).text, "const i64 first = (i64)point * 4;", "ng_load<4>(p0 + (i64)first)")
    said(emit(kernel(lambda x: x + 1, (n - 1,)), H100, CUDA).text, "const i64 point = (i64)blockIdx.x * 256 + threadIdx.x;",
         "const i64 a0 = point;", "p0[(i64)a0]")
    said(emit(kernel(lambda x: np.cumsum(x, 0), (n,)), H100, CUDA).text, "const i64 begin = (i64)member * ", "for (i64 a0 = begin;")
    said(emit(kernel(lambda x: x.sum(1), (70_000, 70_000)), H100, CUDA).text, "p0 + (i64)a0 * 70000 + (i64)first")


def test_the_lines_behind_a_kernel_stand_before_it_and_not_in_it():
    def fn(x):
        return np.tanh(x) * 2

    made = graph(fn, (8,))
    function = emit(lower(made), H100, CUDA)
    line = f"test_text.py:{fn.__code__.co_firstlineno + 1}"
    shown = with_lines(function, made.nodes)
    assert shown == f"// {function.name} computes {line}\n{function.text}" and line not in function.text
    assert with_lines(function, [None]) == function.text


def test_constants_that_nobody_reads_are_left_out():
    text = ("const int x1 = 5;", "const int x2 = x1 + 1;", "const float v0 = p0[x1];", "const float v1 = p0[x2];", "p1[0] = v0;")
    assert tidy("\n".join(text)).splitlines() == ["const int x1 = 5;", "const float v0 = p0[x1];", "p1[0] = v0;"]


def test_constants_keep_their_bits():
    s = CUDA.literal
    assert [s(x, DTYPES["f32"]) for x in (1, 0.1, -0.0, 1e-45)] == ["1.0f", "0.1f", "(-0.0f)", "1e-45f"]
    assert s(np.inf, DTYPES["f32"]) == "ng_bitcast<float>(0x7F800000u)"
    assert s(np.inf, DTYPES["f64"]) == "ng_bitcast<double>(0x7FF0000000000000ull)"
    assert [s(x, DTYPES["i32"]) for x in (5, -5, -2**31)] == ["5", "(-5)", "(-2147483647 - 1)"]
    assert [s(-1, DTYPES[n]) for n in ("u8", "u32", "u64", "i64")] == ["(u8)255u", "4294967295u", "18446744073709551615ull", "(-1ll)"]
    assert METAL.literal(-1, DTYPES["u64"]) == "18446744073709551615ul" and s(True, DTYPES["bool"]) == "true"


def test_the_dialects_differ_in_words():
    made = SOFTMAX((8, 48))
    cuda, metal = (emit(made, target, dialect) for target, dialect in ((H100, CUDA), (APPLE, METAL)))
    words = [("threadIdx.x", METAL.thread), ("blockIdx.x", METAL.block), (CUDA.function, METAL.function),
             ("float* const t2 = (float*)", "threadgroup float* const t2 = (threadgroup float*)")]
    for text in ("functions", "body"):
        expected = getattr(cuda, text)
        for a, b in words:
            expected = expected.replace(a, b)
        assert getattr(metal, text) == expected
    said(metal.text, "[[kernel", "device const float* p0 [[buffer(0)]]", "device float* p1 [[buffer(1)]]")


def test_metal_refuses_float64():
    made = kernel(lambda x: x * 2, ng.spec((8,), "float64"))
    assert "double" in emit(made, H100, CUDA).text
    with pytest.raises(MissingRuleError, match="Metal has no float64"):
        emit(made, APPLE, METAL)


def test_every_op_has_text_in_both_dialects():
    """The names of kernels differ, and Metal refuses float64 alone."""
    names, refused = set(), set()
    for name, given, _ in samples():
        made = lower(given)
        names.add(emit(made, H100, CUDA).name)
        try:
            emit(made, APPLE, METAL)
        except MissingRuleError as error:
            assert "float64" in str(error)
            refused.add(name)
    assert len(names) > 100 and refused
